"""The commands `train` and `report`: plain arguments in, output printed, exit code returned."""

from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetkit import checkpoint
from resnetkit.batch_plan import fit
from resnetkit.cost import RecipeCost, recipe_cost
from resnetkit.data.opening import open_data
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.shards import is_local
from resnetkit.data.spec import OFFICIAL_SIZES
from resnetkit.errors import BadRequest, ResnetkitError
from resnetkit.home import read_json
from resnetkit.journal import warn
from resnetkit.printing import OUT, print_run
from resnetkit.processes import Processes, choose_device, joined, local_device
from resnetkit.progress import duration
from resnetkit.recipe import Recipe, warmup_steps_of
from resnetkit.recipe_json import read_recipe, recipe_differences, recipe_to_json
from resnetkit.recipes import load_recipe
from resnetkit.report import write_report
from resnetkit.speed import SETTINGS, choose_speed, slower_precision
from resnetkit.tracking import trackers
from resnetkit.train import train as train_run

TRIALS_SECONDS = 600  # that the trials of `--speed auto` may take


def train(
    recipe: str | None,
    data: str | None,
    out: str | None,
    resume: bool,
    auto_resume: bool,
    init_from: str | None,
    quarantine: str | None,
    seed: int | None,
    on_nan: str | None,
    speed: str,
    max_steps: int | None,
    max_microbatch: int | None,
    timeout: int | None,
    track: list[str],
    overrides: list[str],
    device: str | None,
) -> int:
    """Train, evaluate and report, in one process or in those that torchrun started."""
    if init_from and Path(init_from).exists():
        init_from = str(Path(init_from).resolve())  # resumed from any folder
    if quarantine:
        quarantine = str(Path(quarantine).resolve())
    given = {"data": data, "init_from": init_from, "quarantine": quarantine, "seed": seed, "on_nan": on_nan}
    extra = [f"{field}={json.dumps(value)}" for field, value in given.items() if value is not None]
    if resume and out and not device:
        device = device_of(Path(out))
    where = local_device(choose_device(device))
    with joined(where, timeout) as processes:
        OUT.quiet = not processes.is_first

        def choose() -> dict[str, Any]:
            if out is None and (processes.size > 1 or auto_resume):
                raise BadRequest("expected --out RUN: where several processes write, or a restart goes on")
            if processes.size > 1 and speed == "auto" and timeout is not None and timeout < TRIALS_SECONDS:
                raise BadRequest(f"--speed auto: expected --timeout {TRIALS_SECONDS} or more, got {timeout}",
                                 "the others wait while the first process tries settings")  # fmt: skip
            words = [*overrides, *extra]
            if auto_resume and is_started(out):
                return choose_again(recipe, Path(str(out)), words, max_microbatch, speed).to_json()
            return choose_run(recipe, out, resume, words, max_microbatch, processes.size).to_json()

        chosen = Chosen.from_json(processes.on_first(choose))
        return train_chosen(chosen, where, processes, speed, max_steps, track)


def train_chosen(
    chosen: Chosen, where: torch.device, processes: Processes, speed: str, max_steps: int | None, track: list[str]
) -> int:
    """Open the data, train, and report."""
    recipe, run = chosen.recipe, chosen.run
    dataset = open_data(recipe.data, recipe.quarantine)
    OUT.print(f"{recipe.name} on {recipe.data}, {where}, into {run}")
    if processes.size > 1:
        OUT.print(f"{processes.size} processes, {torch.get_num_threads()} threads each")
    for note in chosen.notes:
        OUT.print(note)
    cost = recipe_cost(recipe, len(dataset.train), len(dataset.class_names))
    of_data = dataset.notes if isinstance(dataset, PhotoDataset) else ()
    for warning in (*of_data, *chosen.warnings, *never_full(recipe, cost)) if processes.is_first else ():
        warn(warning)
    for line in cost.lines():
        OUT.print(line)
    told: dict[str, Any] = {}
    if not chosen.resume:
        faster = processes.on_first(lambda: fastest(recipe, cost, where, processes, speed))
        recipe, told = read_recipe(faster["recipe"]), faster["told"]
    started = time.monotonic()
    with trackers(track if processes.is_first else [], run) as on_event:
        outcome = train_run(recipe, dataset, run, resume=chosen.resume, device=where, processes=processes,
                            max_steps=max_steps, on_event=on_event, told=told)  # fmt: skip
    if outcome is None:
        OUT.print(f"stopped after step {max_steps}, as asked; next: resnetkit train --resume --out {run}")
        return 0
    OUT.print(f"trained and evaluated in {duration(time.monotonic() - started)}")
    if processes.is_first:
        write_report(run, dataset.test.read)
        print_run(run, outcome.top1)
    return 0


@dataclass(frozen=True)
class Chosen:
    """What a command was found to mean: the first process finds it, all follow it."""

    recipe: Recipe
    run: Path
    resume: bool
    notes: tuple[str, ...] = ()  # how this machine runs the recipe
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return vars(self) | {"recipe": recipe_to_json(self.recipe), "run": str(self.run)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Chosen:
        """Return what `to_json` wrote."""
        return cls(**data | {"recipe": read_recipe(data["recipe"]), "run": Path(data["run"])})


def choose_run(
    recipe: str | None, out: str | None, resume: bool, overrides: list[str], max_microbatch: int | None, processes: int
) -> Chosen:
    """Return the recipe and the run directory that the arguments name, a new one or one to go on with."""
    if resume:
        if out is None:
            raise BadRequest("--resume: expected --out RUN, the run to go on with")
        if max_microbatch is not None:
            raise BadRequest("--max-microbatch: a run goes on in the micro-batches that it was started with")
        run = Path(out)
        stored = checkpoint.run_recipe(run)
        if not (recipe or overrides):
            return Chosen(with_whole_path(stored), run, resume=True)
        named = load_recipe(recipe or str(run / checkpoint.RECIPE), overrides)
        return Chosen(with_settings_of(stored, with_whole_path(named), overrides), run, resume=True)
    if recipe is None:
        raise BadRequest("train: expected a recipe", "next: resnetkit train quickstart, or --resume --out RUN")
    chosen = with_whole_path(load_recipe(recipe, overrides))
    run = Path(out) if out else free_run(chosen.name)
    checkpoint.refuse_used(run)
    plan = fit(chosen, devices=processes, max_microbatch=max_microbatch)
    start = (f"starts from {chosen.init_from}: every tensor but the head, fc, which is new",) * bool(chosen.init_from)
    return Chosen(plan.recipe, run, False, (*start, *plan.reasons), plan.warnings)


def never_full(recipe: Recipe, cost: RecipeCost) -> tuple[str, ...]:
    """Return a warning where the warm-up lasts until the end."""
    steps = warmup_steps_of(recipe.warmup, cost.steps_per_epoch) if recipe.warmup else 0
    if steps < cost.steps:
        return ()
    return (f"the warm-up has {steps:,} steps and the training {cost.steps:,}: the rate is never full; "
            "next: --set a shorter warmup.warmup_epochs or warmup.warmup_steps",)  # fmt: skip


def fastest(recipe: Recipe, cost: RecipeCost, where: torch.device, processes: Processes, speed: str) -> dict[str, Any]:
    """Return the recipe as `--speed` says, and what its run is told of that; warn of mixed precision that is slower."""
    if speed == "recipe":
        slow = slower_precision(recipe, cost.num_classes, where) if processes.size == 1 else None
        if slow:
            warn(f"{slow.setting}, as the recipe says, is slower here than float32: {slow.seconds:.3g} s a pass "
                 f"instead of {slow.before:.3g} s; next: --speed auto, or --set amp=null")  # fmt: skip
        return {"recipe": recipe_to_json(recipe), "told": {}}
    passes = cost.steps * math.ceil(recipe.devices / processes.size)
    chosen, trials = choose_speed(recipe, cost.num_classes, passes, where, processes.size == 1, OUT.print)
    for setting in SETTINGS:
        OUT.print(f"speed: {setting} = {json.dumps(recipe_to_json(chosen)[setting])}")
    return {"recipe": recipe_to_json(chosen), "told": {"speed": [asdict(trial) for trial in trials]}}


def choose_again(recipe: str | None, run: Path, overrides: list[str], max_microbatch: int | None, speed: str) -> Chosen:
    """Return the run that the same command started before, to go on with; BadRequest where it was another command."""
    stored = checkpoint.run_recipe(run)
    if recipe is not None:
        started = next((event for event in checkpoint.read_events(run) if event["event"] == "start"), None)
        processes = int(started["numerics"].get("processes", 1)) if started else 1
        same = fit(with_whole_path(load_recipe(recipe, overrides)), devices=processes, max_microbatch=max_microbatch)
        wanted = with_settings_of(stored, same.recipe, overrides) if speed == "auto" else same.recipe
        differences = recipe_differences(stored, wanted) if started else []
        if differences:
            raise BadRequest(f"{run} was started with another recipe", *differences, "next: give another --out")
    return Chosen(stored, run, resume=True)


def with_settings_of(stored: Recipe, recipe: Recipe, overrides: list[str]) -> Recipe:
    """Return a recipe with what `--speed auto` may have chosen when the run began, but for what an override names."""
    named = {override.partition("=")[0].partition(".")[0] for override in overrides}
    return replace(recipe, **{setting: getattr(stored, setting) for setting in SETTINGS if setting not in named})


def is_started(out: str | None) -> bool:
    """Say whether a run was started in a directory."""
    return out is not None and (Path(out) / checkpoint.RECIPE).is_file()


def with_whole_path(recipe: Recipe) -> Recipe:
    """Return a recipe whose data, where it is a folder, is found from any other."""
    stays = recipe.data in OFFICIAL_SIZES or not is_local(recipe.data)
    return recipe if stays else replace(recipe, data=str(Path(recipe.data).resolve()))


def device_of(run: Path) -> str | None:
    """Return the device that a run was on last, where it says so."""
    if not (run / checkpoint.METRICS).is_file():
        return None
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
        picture = open_data(recipe.data, recipe.quarantine).test.read
    except ResnetkitError as error:
        warn(f"a report without pictures: {error}")
    write_report(folder, picture)
    if (folder / checkpoint.EVALUATION).exists():
        print_run(folder, read_json(folder / checkpoint.EVALUATION)["top1"])
    else:
        OUT.print(f"not finished yet\nrun {folder}\nreport {folder / checkpoint.REPORT}")
    return 0
