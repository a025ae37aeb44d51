"""One process or many: what a run needs of torch.distributed.  torchrun starts the processes and names each in its
environment; in a run of one process every call here is a plain one.

Nothing is pickled on the way: what is shared is JSON data or tensors.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed import PrefixStore, rendezvous  # type: ignore[attr-defined]

from resnetkit.errors import BadRequest, ProcessLost, SaidElsewhere
from resnetkit.provenance import cores_of_process, local_processes

BACKENDS = {"cpu": "gloo", "cuda": "nccl"}
TIMEOUT_SECONDS = 600.0  # how long a process waits for the others


Store = Any  # torch's store of keys, which has no type that mypy knows


@dataclass(frozen=True)
class Processes:
    """The processes of a run, as one of them sees them; every call but the properties is made by all of them."""

    rank: int = 0
    size: int = 1
    device: torch.device | None = None  # where tensors lie while they are sent; None: on the CPU

    @property
    def is_first(self) -> bool:
        """Say whether this is the process that writes the run directory."""
        return self.rank == 0

    def sum(self, tensor: Tensor) -> None:
        """Replace a tensor by the sum of those of all processes."""
        if self.size > 1:
            with lost_processes():
                dist.all_reduce(tensor)

    def start_sum(self, tensor: Tensor) -> dist.Work:
        """Begin to replace a tensor by the sum of those of all processes; `wait_for` ends it."""
        with lost_processes():
            work: dist.Work = dist.all_reduce(tensor, async_op=True)
        return work

    def wait_for(self, work: dist.Work) -> None:
        """Wait for a sum that was begun."""
        with lost_processes():
            work.wait()

    def sums(self, *values: float) -> list[float]:
        """Return each value's sum over the processes."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        self.sum(total)
        found: list[float] = total.tolist()
        return found

    def largest(self, value: int) -> int:
        """Return the largest value of all processes."""
        if self.size == 1:
            return value
        found = torch.tensor(value, device=self.device)
        with lost_processes():
            dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def gather(self, rows: NDArray[Any], most: int) -> list[NDArray[Any]]:
        """Return the arrays [n, ...] of all processes, in order, where none has more than `most` rows."""
        if self.size == 1:
            return [rows]
        counts = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.size)]
        padded = np.zeros((most, *rows.shape[1:]), rows.dtype)
        padded[: len(rows)] = rows
        own = torch.from_numpy(padded).to(self.device)
        all_rows = [torch.empty_like(own) for _ in range(self.size)]
        with lost_processes():
            dist.all_gather(counts, torch.tensor([len(rows)], device=self.device))
            dist.all_gather(all_rows, own)
        return [found.cpu().numpy()[: int(count)] for found, count in zip(all_rows, counts, strict=True)]

    def on_first(self, work: Callable[[], Any]) -> Any:
        """Let the first process do some work; all return what it returned, JSON data, or fail where it failed."""
        if self.size == 1:
            return work()
        said: dict[str, Any] = {}
        failure: BaseException | None = None
        if self.is_first:
            try:
                said = {"result": work()}
            except BaseException as error:  # noqa: BLE001  # raised again below, once the others know
                failure, said = error, {"exit_code": getattr(error, "exit_code", 1)}
        said = json.loads(self.share_bytes(json.dumps(said).encode()))
        if failure:
            raise failure
        if "exit_code" in said:
            raise SaidElsewhere(said["exit_code"])
        return said["result"]

    def share_bytes(self, data: bytes) -> bytes:
        """Return the first process's bytes."""
        if self.size == 1:
            return data
        length = torch.tensor([len(data)], device=self.device)
        with lost_processes():
            dist.broadcast(length, 0)
            content = torch.empty(int(length), dtype=torch.uint8, device=self.device)
            if self.is_first:
                content.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
            dist.broadcast(content, 0)
        return content.cpu().numpy().tobytes()

    def share_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the first process's tensors, on the CPU; what the others give is left aside."""
        if self.size == 1:
            return dict(tensors)
        plain = {name: value.detach().cpu().contiguous() for name, value in tensors.items() if self.is_first}
        return safetensors.torch.load(self.share_bytes(safetensors.torch.save(plain) if self.is_first else b""))

    def refuse_differences(self, facts: Mapping[str, Any]) -> None:
        """Refuse to start where the processes do not agree on what they are about to do."""
        digests = np.stack([np.frombuffer(hashlib.sha256(json.dumps(fact).encode()).digest()[:8], np.int64)
                            for fact in facts.values()])[:, 0]  # fmt: skip
        everywhere = np.stack(self.gather(digests, len(digests)))
        differing = [name for name, column in zip(facts, everywhere.T, strict=True) if len(set(column.tolist())) > 1]
        if differing:
            mine = [f"{name} of process {self.rank}: {facts[name]}" for name in differing]
            raise BadRequest(f"the processes differ in {', '.join(differing)}", *mine)


ALONE = Processes()


@contextmanager
def joined(device: torch.device, timeout_seconds: float | None = None) -> Iterator[Processes]:
    """Meet the processes that torchrun started with this one, and part from them at the end.

    A process that waits for another longer than `timeout_seconds` gives up with ProcessLost.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield ALONE
        return
    share_cores()
    # Its functions keep the group that is there when it is first imported, by an optimizer at the latest.  A group that
    # is kept is not taken down, and its threads may end the process by SIGABRT while Python shuts down.
    import_module("torch.distributed.nn")
    wait = timedelta(seconds=timeout_seconds or TIMEOUT_SECONDS)
    with lost_processes():
        store, rank, _ = next(rendezvous("env://", timeout=wait))
        ours = PrefixStore(shared_token(store, rank, size, wait), store)
        dist.init_process_group(BACKENDS[device.type], store=ours, rank=rank, world_size=size, timeout=wait)
    try:
        yield Processes(rank, size, device)
    finally:
        dist.destroy_process_group()


def shared_token(store: Store, rank: int, size: int, timeout: timedelta) -> str:
    """Return a token that the processes of this start share, and those of no earlier one do.

    When torchrun starts workers again, their store still has the addresses of those before, which torch would take for
    those of now.  So each process says hello with a number of its own; the first one answers with the token, to a late
    hello too, until all have it.  Raises RuntimeError, as the store does, where a process does not come.
    """
    own, others = secrets.token_hex(8), range(1, size)
    if rank > 0:
        store.set(f"hello/{rank}", own)
        token = store_value(store, f"answer/{own}", timeout)
        store.set(f"here/{token}/{rank}", "")
        store_value(store, f"go/{token}", timeout)
        return token
    deadline = time.monotonic() + timeout.total_seconds()
    while not store.check([f"here/{own}/{other}" for other in others]):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{size} processes did not meet in {timeout.total_seconds():.0f} s")
        for other in others:
            if store.check([f"hello/{other}"]):
                store.set(f"answer/{store.get(f'hello/{other}').decode()}", own)
        time.sleep(0.02)
    store.set(f"go/{own}", "")
    return own


def store_value(store: Store, key: str, timeout: timedelta) -> str:
    """Wait for a key of the store and return its value."""
    store.wait([key], timeout)
    value: str = store.get(key).decode()
    return value


def share_cores() -> None:
    """Give this process its share of the machine's cores, where torchrun gave each process one to be safe."""
    if local_processes() > 1 and torch.get_num_threads() == 1:
        torch.set_num_threads(cores_of_process())


def choose_device(name: str | None) -> torch.device:
    """Return the device named, or CUDA where there is one."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise BadRequest(f"--device: expected cpu, cuda or cuda:N, got {name!r}") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type, 0)
    if (device.index or 0) >= count:
        raise BadRequest(f"--device: {name!r} is not on this machine")
    return device


def local_device(device: torch.device) -> torch.device:
    """Return the GPU of this process, where a machine's processes have one each."""
    if device.type != "cuda" or local_processes() == 1:
        return device
    return torch.device("cuda", int(os.environ["LOCAL_RANK"]))


@contextmanager
def lost_processes() -> Iterator[None]:
    """Say that another process is out of reach, where torch says so in the words of a socket."""
    try:
        yield
    except RuntimeError as error:  # torch has no class of its own for what gloo raises
        first = str(error).strip().partition("\n")[0]
        next_step = "next: the state that was saved last is whole; the same command with --auto-resume goes on from it"
        raise ProcessLost("another process of the run is out of reach", f"got: {first}", next_step) from error
