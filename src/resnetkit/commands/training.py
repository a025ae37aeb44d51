"""The commands `train` and `report`: plain arguments in, output printed, exit code returned."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

from resnetkit import checkpoint
from resnetkit.batch_plan import fit
from resnetkit.commands.device import choose_device
from resnetkit.cost import recipe_cost
from resnetkit.data.opening import open_data
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.spec import OFFICIAL_SIZES
from resnetkit.errors import BadRequest, ResnetkitError
from resnetkit.home import read_json
from resnetkit.journal import warn
from resnetkit.printing import OUT, print_run
from resnetkit.progress import duration
from resnetkit.recipe import Recipe
from resnetkit.recipes import load_recipe
from resnetkit.report import write_report
from resnetkit.tracking import trackers
from resnetkit.train import train as train_run


def train(
    recipe: str | None,
    data: str | None,
    out: str | None,
    resume: bool,
    init_from: str | None,
    seed: int | None,
    max_steps: int | None,
    max_microbatch: int | None,
    track: list[str],
    overrides: list[str],
    device: str | None,
) -> int:
    """Train, evaluate and report."""
    if init_from and Path(init_from).exists():
        init_from = str(Path(init_from).resolve())  # resumed from any folder
    given = {"data": data, "init_from": init_from, "seed": seed}
    extra = [f"{field}={json.dumps(value)}" for field, value in given.items() if value is not None]
    chosen, run = choose_run(recipe, out, resume, [*overrides, *extra])
    if chosen.data not in OFFICIAL_SIZES:
        chosen = replace(chosen, data=str(Path(chosen.data).resolve()))  # resumed from any folder
    if resume:
        if max_microbatch is not None:
            raise BadRequest("--max-microbatch: a run goes on in the micro-batches that it was started with")
        device = device or device_of(run)
    else:
        checkpoint.refuse_used(run)
    where = choose_device(device)
    dataset = open_data(chosen.data)
    OUT.print(f"{chosen.name} on {chosen.data}, {where}, into {run}")
    for note in dataset.notes if isinstance(dataset, PhotoDataset) else ():
        warn(note)
    if chosen.init_from and not resume:
        OUT.print(f"starts from {chosen.init_from}: every tensor but the head, fc, which is new")
    if not resume:
        chosen = fitted(chosen, max_microbatch)
    for line in recipe_cost(chosen, len(dataset.train), len(dataset.class_names)).lines():
        OUT.print(line)
    started = time.monotonic()
    with trackers(track, run) as on_event:
        outcome = train_run(chosen, dataset, run, resume=resume, device=where, max_steps=max_steps, on_event=on_event)
    if outcome is None:
        OUT.print(f"stopped after step {max_steps}, as asked; next: resnetkit train --resume --out {run}")
        return 0
    OUT.print(f"trained and evaluated in {duration(time.monotonic() - started)}")
    write_report(run, dataset.test.read)
    print_run(run, outcome.top1)
    return 0


def fitted(recipe: Recipe, max_microbatch: int | None) -> Recipe:
    """Return the recipe as this one device runs it, and say what that changes."""
    plan = fit(recipe, devices=1, max_microbatch=max_microbatch)
    for reason in plan.reasons:
        OUT.print(reason)
    for warning in plan.warnings:
        warn(warning)
    return plan.recipe


def choose_run(recipe: str | None, out: str | None, resume: bool, overrides: list[str]) -> tuple[Recipe, Path]:
    """Return the recipe and the run directory that the arguments name."""
    if resume:
        if out is None:
            raise BadRequest("--resume: expected --out RUN, the run to go on with")
        run = Path(out)
        stored = checkpoint.run_recipe(run)
        return load_recipe(recipe or str(run / checkpoint.RECIPE), overrides) if recipe or overrides else stored, run
    if recipe is None:
        raise BadRequest("train: expected a recipe", "next: resnetkit train quickstart, or --resume --out RUN")
    chosen = load_recipe(recipe, overrides)
    return chosen, Path(out) if out else free_run(chosen.name)


def device_of(run: Path) -> str | None:
    """Return the device that a run was on last, where it says so."""
    known = [event["numerics"]["device"] for event in checkpoint.read_events(run) if "numerics" in event]
    return known[-1] if known else None


def free_run(name: str) -> Path:
    """Return the first of runs/NAME, runs/NAME-2, ... that does not exist."""
    tries = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in range(1, sys.maxsize))
    return next(path for path in tries if not path.exists())


def report(run: str) -> int:
    """Write a run's report anew."""
    folder = Path(run)
    recipe = checkpoint.run_recipe(folder)
    picture = None
    try:
        picture = open_data(recipe.data).test.read
    except ResnetkitError as error:
        warn(f"a report without pictures: {error}")
    write_report(folder, picture)
    if (folder / checkpoint.EVALUATION).exists():
        print_run(folder, read_json(folder / checkpoint.EVALUATION)["top1"])
    else:
        OUT.print(f"not finished yet\nrun {folder}\nreport {folder / checkpoint.REPORT}")
    return 0
