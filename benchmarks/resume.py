"""Does a run that is killed again and again end with the weights of an undisturbed one?

run: python benchmarks/resume.py [RECIPE] [KILLS]      writes results/resume.json; about 4 minutes for the quickstart
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
from pathlib import Path

from resnetkit.checkpoint import WEIGHTS, load_state, read_events
from resnetkit.home import write_json
from resnetkit.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "resume.json"


def train(*words: str) -> subprocess.Popen[bytes]:
    """Start the command."""
    return subprocess.Popen(
        [sys.executable, "-m", "resnetkit", "train", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def sha256(run: Path) -> str:
    """Return the hash of a finished run's weights."""
    return hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()


def kill_later(process: subprocess.Popen[bytes], run: Path, draw: random.Random) -> int:
    """Kill a run some seconds after its first save; returns the step that was saved last."""
    while load_state(run) is None:
        time.sleep(0.5)
    time.sleep(draw.uniform(3, 12))  # at work for some seconds since it was started or resumed
    process.send_signal(signal.SIGKILL)
    process.wait()
    state = load_state(run)
    return state.step if state else 0


def main() -> None:
    """Train once undisturbed and once with kills, and compare."""
    recipe, kills = ([*sys.argv[1:], "quickstart"])[0], int(([*sys.argv[2:], "3"])[0])
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        whole, killed = Path(folder) / "whole", Path(folder) / "killed"
        if train(recipe, "--out", str(whole)).wait():
            sys.exit("the undisturbed run failed")
        process = train(recipe, "--out", str(killed))
        saved = []
        for _ in range(kills):
            saved.append(kill_later(process, killed, draw))
            process = train("--resume", "--out", str(killed))
            time.sleep(8)  # let it start: a state is there from the beginning
        if process.wait():
            sys.exit("the resumed run failed")
        events = [event["step"] for event in read_events(killed) if event["event"] == "resume"]
        found = {
            "recipe": recipe,
            "seed": 0,
            "data_sha256": read_events(whole)[0]["data_sha256"],
            "killed_after_saving_step": saved,
            "resumed_at_step": events,
            "weights_sha256": {"whole": sha256(whole), "killed": sha256(killed)},
            "equal": sha256(whole) == sha256(killed),
            "provenance": provenance() | {"command": shlex.join(["python", "benchmarks/resume.py", *sys.argv[1:]])},
        }
    write_json(RESULT, found)
    print(json.dumps(found, indent=1))
    sys.exit(0 if found["equal"] and events == saved and len(set(saved)) == kills else 1)


if __name__ == "__main__":
    main()
