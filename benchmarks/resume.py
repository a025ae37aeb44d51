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
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from resnetkit.checkpoint import STATE, WEIGHTS, load_state, read_events
from resnetkit.home import write_json
from resnetkit.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "resume.json"
KILLS_A_ROUND = 10
SAVE_EVERY = 10  # steps
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


def kill_at_random(run: Path, process: subprocess.Popen[bytes], draw: random.Random) -> tuple[str, int, int]:
    """Kill a run at a random moment; returns what it was at, the steps it had logged, and the step saved last."""
    time.sleep(draw.uniform(0, 2.0))
    process.send_signal(signal.SIGKILL)
    process.wait()
    events = read_events(run)
    saving = any((run / STATE).glob(".step-*"))
    moment = "a save" if saving else f"what follows the event {events[-1]['event']!r}"
    state = load_state(run)
    return moment, max(event["step"] for event in events), state.step if state else 0


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
        moment, done, saved = kill_at_random(run, process, draw)
        process = train("--resume", "--out", str(run))
        wait_for_start(run, process, before)
        resumed = [event["step"] for event in read_events(run) if event["event"] in ("start", "resume")]
        kills.append(Kill(moment, done, saved, resumed[-1]))
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
        "kills_during_a_save": sum(kill.moment == "a save" for kill in every),
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
