"""Trainings by the command line, as many at a time as there are cores, which go on where they were stopped.

For the benchmarks beside this file.  Each run has one thread: two of them, side by side, see more images a second than
one with two.  They are kept under RESNETKIT_HOME, outside of the checkout, and go on there; what one came to is kept in
a results file from its end on, so that with this file it is done on every machine.
"""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

from resnetkit import checkpoint
from resnetkit.home import home, read_json, write_json
from resnetkit.provenance import cores_of_process
from resnetkit.recipe_json import leaves, recipe_differences, recipe_to_json
from resnetkit.recipes import RECIPES, load_recipe
from resnetkit.ways import has_bfloat16

# Faster on CPUs that have it, and slower on others (results/speed-auto.json); norms, weights and steps stay in float32.
BFLOAT16 = {"amp": '{"kind":"Amp","dtype":"bfloat16"}'}
MACHINE = {"threads": "1", **(BFLOAT16 if has_bfloat16() else {})}


@dataclass(frozen=True)
class Training:
    """One training: its folder below RESNETKIT_HOME, and what is trained how."""

    folder: str
    recipe: str
    seed: int = 0
    changes: Mapping[str, str] = field(default_factory=dict)  # of the recipe, as in --set

    @property
    def run(self) -> Path:
        """The run directory."""
        return home() / self.folder

    @property
    def is_done(self) -> bool:
        """Whether it has ended; SystemExit where another recipe was trained there."""
        if not (self.run / checkpoint.EVALUATION).is_file():
            return False
        wanted = load_recipe(self.recipe, [*self.overrides(), f"seed={self.seed}"])
        if differences := recipe_differences(checkpoint.run_recipe(self.run), wanted):
            raise SystemExit("\n  ".join((f"{self.run} is of another recipe: remove it", *differences)))
        return True

    def overrides(self) -> list[str]:
        """Return the changes of the recipe, this machine's among them."""
        return [f"{name}={value}" for name, value in {**MACHINE, **self.changes}.items()]

    def words(self) -> list[str]:
        """Return the command that trains, without the place of the run."""
        changes = [word for change in self.overrides() for word in ("--set", change)]
        return ["resnetkit", "train", self.recipe, "--seed", str(self.seed), *changes]

    def command(self) -> str:
        """Return it as one line."""
        return shlex.join(self.words())

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Return the events of a kind, each step's last one."""
        found = {event["step"]: event for event in checkpoint.read_events(self.run) if event["event"] == kind}
        return [found[step] for step in sorted(found)]

    def evaluation(self) -> dict[str, Any]:
        """Return the figures of the test images, with the command without its place."""
        found: dict[str, Any] = read_json(self.run / checkpoint.EVALUATION)
        return found | {"provenance": found["provenance"] | {"command": self.command()}}

    def commits(self) -> list[str]:
        """Return the commits that it was run on: more than one where it was stopped and went on."""
        return list(dict.fromkeys(event["commit"] for event in checkpoint.read_events(self.run) if "commit" in event))

    def origin(self) -> dict[str, Any]:
        """Return what a results file says of where its figures come from, and of the time that they took."""
        rates = [event["images_per_second"] for event in self.events("train")]
        return {
            "seed": self.seed,
            "seconds": self.evaluation()["seconds"],
            "images_per_second": statistics.median(rates),
            "weights_sha256": self.evaluation()["weights_sha256"],
            "command": self.command(),
            "commits": self.commits(),
        }


def without_precision(command: str) -> str:
    """Return a command as it would be without bfloat16: what was trained, on whatever machine."""
    return command.replace(" --set " + shlex.quote(f"amp={BFLOAT16['amp']}"), "")


def train(training: Training) -> None:
    """Train, or go on; SystemExit with what the command said where it fails."""
    command = [*training.words(), "--out", str(training.run), "--auto-resume"]
    done = subprocess.run([sys.executable, "-m", *command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr}")
    print(f"{training.folder}: done", flush=True)


def train_all(trainings: Sequence[Training]) -> None:
    """Train all that are not done."""
    with ThreadPoolExecutor(cores_of_process()) as pool:
        list(pool.map(train, [training for training in trainings if not training.is_done]))


def recorded(
    path: Path, recipe: str, trainings: Sequence[Training], figures: Callable[[Training], dict[str, Any]]
) -> dict[str, Any]:
    """Return the `runs` of a results file, by folder; each training that it lacks is done and written as it ends.

    SystemExit where what the file has was trained by another recipe or command; in bfloat16 or not, as its machine can.
    """
    base = recipe_to_json(RECIPES[recipe])
    said = read_json(path) if path.is_file() else {"recipe": base, "runs": {}}
    then, runs = dict(leaves(said["recipe"])), said["runs"]
    now = [(name, then.get(name, value), value) for name, value in leaves(base)]
    now += [
        (each.folder, without_precision(runs[each.folder]["command"]), without_precision(each.command()))
        for each in trainings
        if each.folder in runs
    ]
    if others := [f"{name}: {before} then, {after} now" for name, before, after in now if before != after]:
        raise SystemExit("\n  ".join((f"{path.name} is of other trainings: remove it, or what is other", *others)))
    lock = Lock()

    def finish(training: Training) -> None:
        if not training.is_done:
            train(training)
        found = figures(training) | training.origin()
        with lock:
            runs[training.folder] = found
            write_json(path, said)

    with ThreadPoolExecutor(cores_of_process()) as pool:
        list(pool.map(finish, [training for training in trainings if training.folder not in runs]))
    return runs
