"""What the processes of a run put together in each step: gradients, and BatchNorm's running statistics.

Gradients are summed in buckets, in the order in which a backward pass makes them: a full bucket is on its way while the
pass works on the next.  Buckets are the same in each step, so that a resumed run adds up in the same order.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn

from resnetkit.models.batchnorm import RunningStatistics
from resnetkit.processes import Processes

BUCKET_BYTES = 25_000_000  # that of torch's DistributedDataParallel


class GradientSum:
    """Replaces the gradients of some parameters by their sums over the processes."""

    def __init__(self, parameters: Sequence[nn.Parameter], processes: Processes) -> None:
        self.processes = processes
        self.buckets = split_into_buckets(parameters)
        self._number = {id(parameter): n for n, bucket in enumerate(self.buckets) for parameter in bucket}
        self._last_backward = False
        self._missing: list[int] = []  # gradients that each bucket waits for
        self._sent: list[tuple[Tensor, dist.Work]] = []  # of the first buckets, in their order
        if processes.size > 1:
            for parameter in parameters:
                parameter.register_post_accumulate_grad_hook(self._arrived)  # type: ignore[no-untyped-call]

    @contextmanager
    def during_last_backward(self) -> Iterator[None]:
        """Within the block, a backward pass ends a step: what it finishes is sent."""
        self._missing, self._last_backward = [len(bucket) for bucket in self.buckets], True
        try:
            yield
        finally:
            self._last_backward = False

    def finish(self) -> None:
        """Send what was not sent yet, wait for all, and put the sums in place."""
        while len(self._sent) < len(self.buckets):
            self._send()
        for bucket, (flat, work) in zip(self.buckets, self._sent, strict=True):
            self.processes.wait_for(work)
            for parameter, total in zip(bucket, torch.split(flat, [each.numel() for each in bucket]), strict=True):
                assert parameter.grad is not None
                parameter.grad.copy_(total.view_as(parameter))
        self._sent = []

    def _arrived(self, parameter: Tensor) -> None:
        """Count a gradient that is ready; full buckets are sent in their order, which is that of all processes."""
        if not self._last_backward:
            return
        self._missing[self._number[id(parameter)]] -= 1
        while len(self._sent) < len(self.buckets) and self._missing[len(self._sent)] == 0:
            self._send()

    def _send(self) -> None:
        """Begin to sum the next bucket; a process without images adds zeros."""
        bucket = self.buckets[len(self._sent)]
        for parameter in bucket:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        flat = torch.cat([parameter.grad.reshape(-1) for parameter in bucket if parameter.grad is not None])
        self._sent.append((flat, self.processes.start_sum(flat)))


def split_into_buckets(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """Return the parameters from the last to the first, cut where a bucket is full."""
    buckets: list[list[nn.Parameter]] = [[]]
    size = 0
    for parameter in reversed(parameters):
        bytes_here = parameter.numel() * parameter.element_size()
        if buckets[-1] and size + bytes_here > BUCKET_BYTES:
            buckets.append([])
            size = 0
        buckets[-1].append(parameter)
        size += bytes_here
    return buckets


class Together:
    """A step of several processes; in a run of one, nothing."""

    def __init__(self, model: nn.Module, processes: Processes, *, statistics: bool = True) -> None:
        self.processes = processes
        self.gradients = GradientSum(list(model.parameters()), processes)
        self.statistics = RunningStatistics(model) if statistics else None  # None: BatchNorm's stay as they are

    def begin(self) -> None:
        """Begin a step."""
        if self.processes.size > 1 and self.statistics:
            self.statistics.begin(holds_past=self.processes.is_first)

    @contextmanager
    def pass_of(self, part: int, is_last: bool) -> Iterator[None]:
        """Within the block, micro-batch `part` of the step goes forward and back; `is_last` is it for this process."""
        if self.processes.size == 1:
            yield
            return
        if self.statistics:
            self.statistics.skip_to(part)
        if not is_last:
            yield
            return
        with self.gradients.during_last_backward():
            yield

    def finish(self, parts: int) -> None:
        """End a step of so many micro-batches in all: gradients and running statistics are then those of all."""
        if self.processes.size > 1:
            self.gradients.finish()
            if self.statistics:
                self.statistics.finish(parts, self.processes.sum)
