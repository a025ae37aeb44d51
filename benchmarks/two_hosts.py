"""Does a run on two hosts survive a link that is cut, and end with the weights of one process?

run: python benchmarks/two_hosts.py      needs root (network namespaces); writes results/two-hosts.json; about 6 minutes

Two network namespaces with a pair of virtual cards between them stand for two hosts, one process each.  torchrun meets
over that link.  In the middle of the run it is cut, for longer than the time-out, and put back.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from resnetkit.checkpoint import WEIGHTS, load_state, read_events, read_weights
from resnetkit.home import write_json
from resnetkit.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "two-hosts.json"
LAUNCH = Path(__file__).parents[1] / "docs" / "launch" / "nodes.sh"
HOSTS = ("resnetkit-a", "resnetkit-b")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
TIMEOUT_SECONDS = 30
CUT_SECONDS = 60
TOLERANCE = 1e-5  # of a weight, in float32: gradients are added up in another order
# A small rate and few steps: what rounding changes grows from step to step, the faster the larger the rate.
OVERRIDES = ("batch_size=256", "microbatch_size=128", "total_epochs=null", "total_steps=60", "save_every_steps=10",
             "optim.lr=0.02", "val_images=1000", "log_every_steps=5")  # fmt: skip


def ip(*words: str) -> None:
    """Run one command of iproute2."""
    subprocess.run(["ip", *words], check=True)


def make_hosts() -> None:
    """Make the two namespaces and the link."""
    for host in HOSTS:
        ip("netns", "add", host)
    ip("link", "add", "veth-a", "netns", HOSTS[0], "type", "veth", "peer", "name", "veth-b", "netns", HOSTS[1])
    for host, card, address in zip(HOSTS, ("veth-a", "veth-b"), ADDRESSES, strict=True):
        ip("-n", host, "addr", "add", f"{address}/24", "dev", card)
        ip("-n", host, "link", "set", card, "up")
        ip("-n", host, "link", "set", "lo", "up")


def remove_hosts() -> None:
    """Remove them."""
    for host in HOSTS:
        subprocess.run(["ip", "netns", "del", host], check=False, capture_output=True)


def start(place: int, run: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start a host's process by the script of docs/processes.md."""
    card = ("veth-a", "veth-b")[place]
    surroundings = os.environ | {
        "NODES": "2", "NODE_RANK": str(place), "MASTER": ADDRESSES[0], "PROCESSES": "1", "GLOO_SOCKET_IFNAME": card,
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    words = [
        "bash",
        str(LAUNCH),
        "quickstart",
        "--timeout",
        str(TIMEOUT_SECONDS),
        "--out",
        str(run),
        "--set",
        *OVERRIDES,
    ]
    with log.open("wb") as file:
        return subprocess.Popen(
            ["ip", "netns", "exec", HOSTS[place], *words], stdout=file, stderr=file, env=surroundings
        )


def wait_for(run: Path, step: int, deadline_seconds: float) -> None:
    """Wait until a run has saved a state of `step` or later."""
    deadline = time.monotonic() + deadline_seconds
    while time.monotonic() < deadline:
        state = load_state(run)
        if state and state.step >= step:
            return
        time.sleep(0.1)
    sys.exit(f"no state of step {step} within {deadline_seconds} s")


def cut_and_mend(logs: list[Path]) -> dict[str, Any]:
    """Cut the link, and put it back; returns after how many seconds each host noticed."""
    ip("-n", HOSTS[0], "link", "set", "veth-a", "down")
    began, noticed = time.monotonic(), dict.fromkeys(HOSTS[: len(logs)], -1.0)
    while time.monotonic() - began < CUT_SECONDS:
        for host, log in zip(HOSTS, logs, strict=True):
            if noticed[host] < 0 and "another process of the run is out of reach" in log.read_text():
                noticed[host] = round(time.monotonic() - began, 1)
        time.sleep(0.2)
    ip("-n", HOSTS[0], "link", "set", "veth-a", "up")
    return {"cut_seconds": CUT_SECONDS, "timeout_seconds": TIMEOUT_SECONDS, "noticed_after_seconds": noticed}


def run_cut(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Train on two hosts with the link cut in the middle."""
    run, logs = folder / "two", [folder / "a.log", folder / "b.log"]
    hosts = [start(place, run, log) for place, log in enumerate(logs)]
    wait_for(run, 20, 180)
    facts = cut_and_mend(logs)
    codes = [host.wait(timeout=400) for host in hosts]
    if any(codes):
        sys.exit("\n".join(log.read_text()[-3000:] for log in logs))
    return run, facts | {"exit_codes": codes}


def train_here(run: Path, processes: int) -> Path:
    """Train undisturbed on this machine, in processes of one thread."""
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*launch, "-m", "resnetkit", "train", "quickstart", "--out", str(run), "--set", *OVERRIDES]
    surroundings = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=surroundings)
    return run


def difference(run: Path, other: Path) -> dict[str, float]:
    """Return how far the weights of two runs are from each other, and how large weights are."""
    found, expected = (
        {name: value.double() for name, value in read_weights(place / WEIGHTS)[0].items() if "num_batches" not in name}
        for place in (run, other)
    )
    largest = max(float((found[name] - expected[name]).abs().max()) for name in expected)
    return {"largest_difference": largest, "largest_weight": max(float(v.abs().max()) for v in expected.values())}


def main() -> None:
    """Train on two hosts with a cut, on this one in two processes and in one, and compare."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        one, here = train_here(folder / "one", 1), train_here(folder / "here", 2)
        remove_hosts()
        make_hosts()
        try:
            two, facts = run_cut(folder)
        finally:
            remove_hosts()
        events = read_events(two)
        facts |= {
            "resumed_at_steps": [event["step"] for event in events if event["event"] == "resume"],
            "from_two_processes_on_one_host": difference(two, here),
            "from_one_process": difference(two, one),
            "tolerance": TOLERANCE,
            "top1": {run.name: read_events(run)[-1]["top1"] for run in (one, here, two)},
            "data_sha256": events[0]["data_sha256"],
            "overrides": list(OVERRIDES),
            "provenance": provenance() | {"command": shlex.join(["python", "benchmarks/two_hosts.py"])},
        }
    write_json(RESULT, facts)
    print(json.dumps(facts, indent=1))
    same = facts["from_two_processes_on_one_host"]["largest_difference"] == 0
    near = facts["from_one_process"]["largest_difference"] <= TOLERANCE
    sys.exit(0 if same and near and facts["resumed_at_steps"] else 1)


if __name__ == "__main__":
    main()
