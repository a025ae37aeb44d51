"""Does a run that is killed again and again end with the weights of an undisturbed one?

run: python benchmarks/resume.py [KILLS]      writes results/resume.json; 50 kills take about 15 minutes

Small runs on CIFAR-10 with averaged weights, mixup, accumulation, drop path and evaluations, in rounds: each is trained
once undisturbed and once with SIGKILL at random moments, ten times, and then to its end.
"""

from __future__ import annotations

import hashlib
import json
import random
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from resnetkit.checkpoint import STATE, WEIGHTS, load_state, read_events
from resnetkit.home import write_json
from resnetkit.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "resume.json"
KILLS_A_ROUND = 10
MOMENTS = ("step", "save", "evaluation")
SAVE_EVERY = 10  # steps
EVAL_EVERY = 38  # steps: a twentieth of the 750 of an epoch, rounded
OVERRIDES = (
    "batch_size=64", "microbatch_size=16", "total_epochs=null", "total_steps=200", "val_images=500",
    "eval_every_epochs=0.05", f"save_every_steps={SAVE_EVERY}", "log_every_steps=1", "drop_path_rate=0.2",
    'mix=[{"kind": "Mixup", "alpha": 0.2, "probability": 0.7}]',
    'average_weights={"kind": "AverageWeights", "decay": 0.9}',
)  # fmt: skip


@dataclass(frozen=True)
class Kill:
    """One SIGKILL and what the run went on with."""

    moment: str  # what the run was at
    done_steps: int  # that were logged before
    saved_step: int
    resumed_step: int


@dataclass(frozen=True)
class Round:
    """A run that was killed, beside one that was not."""

    seed: int
    weights_sha256: dict[str, str]
    kills: list[Kill]


def train(*words: str) -> subprocess.Popen[bytes]:
    """Start the command."""
    command = [sys.executable, "-m", "resnetkit", "train", *words]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def last_start(run: Path) -> str | None:
    """Return when a run was started or resumed last, None before."""
    starts = [event["time"] for event in read_events(run) if event["event"] in ("start", "resume")]
    return starts[-1] if starts else None


def wait_for_start(run: Path, process: subprocess.Popen[bytes], before: str | None) -> None:
    """Wait until a run is at work that was started last at `before`."""
    while last_start(run) in (None, before):
        assert process.poll() is None, "the run ended by itself"
        time.sleep(0.01)


def moment_of(run: Path) -> str:
    """Say what a run is at, by what it has written."""
    if any((run / STATE).glob(".step-*")):
        return "save"
    last = read_events(run)[-1]
    return "evaluation" if last["event"] == "train" and last["step"] % EVAL_EVERY == 0 else "step"


def kill_at_random(run: Path, process: subprocess.Popen[bytes], wanted: str, draw: random.Random) -> Kill | None:
    """Kill a run at a random moment of the wanted kind, None where it came to its end before."""
    time.sleep(draw.uniform(0, 2.0))
    while moment_of(run) != wanted:
        if process.poll() is not None:
            return None
    time.sleep(draw.uniform(0, 0.003 if wanted == "save" else 0.03))
    process.send_signal(signal.SIGKILL)
    process.wait()
    state, done = load_state(run), max(event["step"] for event in read_events(run))
    return Kill(moment_of(run), done, state.step if state else 0, resumed_step=-1)


def sha256(run: Path) -> str:
    """Return the hash of a finished run's weights."""
    return hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()


def killed_run(run: Path, seed: int, count: int) -> list[Kill]:
    """Train with so many kills."""
    draw = random.Random(seed)
    kills: list[Kill] = []
    process = train("quickstart", "--seed", str(seed), "--out", str(run), "--set", *OVERRIDES)
    wait_for_start(run, process, None)
    while len(kills) < count and process.poll() is None:  # it may come to its end before
        before = last_start(run)
        kill = kill_at_random(run, process, MOMENTS[len(kills) % len(MOMENTS)], draw)
        if kill is None:
            break
        process = train("--resume", "--out", str(run))
        wait_for_start(run, process, before)
        resumed = [event["step"] for event in read_events(run) if event["event"] in ("start", "resume")]
        kills.append(replace(kill, resumed_step=resumed[-1]))
    assert process.wait() == 0, "the resumed run failed"
    return kills


def main() -> None:
    """Train rounds until there were enough kills, and compare."""
    wanted, total = int([*sys.argv[1:], "50"][0]), 0
    rounds: list[Round] = []
    while total < wanted:
        with tempfile.TemporaryDirectory() as folder:
            whole, killed, seed = Path(folder) / "whole", Path(folder) / "killed", len(rounds)
            kills = killed_run(killed, seed, min(KILLS_A_ROUND, wanted - total))
            assert train("quickstart", "--seed", str(seed), "--out", str(whole), "--set", *OVERRIDES).wait() == 0
            data = read_events(whole)[0]["data_sha256"]
            hashes = {"whole": sha256(whole), "killed": sha256(killed)}
        total += len(kills)
        rounds.append(Round(seed, hashes, kills))
        print(f"round {seed}: {len(kills)} kills, equal: {hashes['whole'] == hashes['killed']}", flush=True)
    every = [kill for each in rounds for kill in each.kills]
    found: dict[str, Any] = {
        "overrides": list(OVERRIDES),
        "data_sha256": data,
        "kills": len(every),
        "kills_during": dict(Counter(kill.moment for kill in every)),
        "all_weights_equal": all(len(set(each.weights_sha256.values())) == 1 for each in rounds),
        "all_resumed_at_the_saved_step": all(kill.resumed_step == kill.saved_step for kill in every),
        "most_steps_done_again": max(kill.done_steps - kill.saved_step for kill in every),
        "save_every_steps": SAVE_EVERY,
        "rounds": [asdict(each) for each in rounds],
        "provenance": provenance() | {"command": shlex.join(["python", "benchmarks/resume.py", *sys.argv[1:]])},
    }
    write_json(RESULT, found)
    good = found["all_weights_equal"] and found["all_resumed_at_the_saved_step"]
    print(json.dumps({name: value for name, value in found.items() if name != "rounds"}, indent=1))
    sys.exit(0 if good and found["most_steps_done_again"] <= SAVE_EVERY else 1)


if __name__ == "__main__":
    main()
