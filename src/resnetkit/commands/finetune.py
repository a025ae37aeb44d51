"""The command `finetune`: from a folder of photos to a classifier; plain arguments in, exit code returned."""

from __future__ import annotations

import math
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from resnetkit import checkpoint
from resnetkit.batch_plan import fit
from resnetkit.commands.doctor import FINDINGS, PAGE, QUARANTINE, shown, written
from resnetkit.commands.training import Chosen, free_run, train_chosen
from resnetkit.cost import recipe_cost
from resnetkit.data.division import UNKNOWN, read_division, write_division
from resnetkit.data.inspected import kept_in
from resnetkit.data.opening import open_data
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.spec import DATASETS
from resnetkit.data_page import look_at, write_page
from resnetkit.doctor import Diagnosis, examine, roster_of
from resnetkit.errors import BadRequest
from resnetkit.finetune import SPLITS, Division, division_of, folds_division, recipe_for, start_of
from resnetkit.forecast import forecast
from resnetkit.home import home, read_json, write_json
from resnetkit.journal import warn
from resnetkit.load import load_model
from resnetkit.lr_range import STEPS, RangeTest, range_test
from resnetkit.metrics import wilson_interval
from resnetkit.printing import OUT, percent, print_findings
from resnetkit.processes import ALONE, choose_device
from resnetkit.progress import StepProgress, duration
from resnetkit.recipe import Balance, Recipe
from resnetkit.recipe_json import recipe_to_json
from resnetkit.recipes import with_overrides

PHOTOS, CLASSES, SHEET, RANGE, FOLDS = "photos.csv", "classes.txt", "augmented.html", "lr-range.json", "folds.json"
SHEET_IMAGES, SHEET_HEADERS = 12, 2_000
FEW_FOR_PARTS, FEW_FOR_SUSPECTS = 10_000, 5_000  # photos: of more, parts and suspects are left to doctor
FORECAST_SECONDS = 6.0


def finetune(
    place: str,
    model: str,
    out: str | None,
    quarantine: str | None,
    split: str | None,
    new_split: bool,
    balance: Balance | Literal["auto"],
    find_lr: bool,
    folds: int | None,
    seed: int,
    look_only: bool,
    overrides: list[str],
    device: str | None,
) -> int:
    """Look at the photos, divide them, choose a recipe, train, report."""
    where = choose_device(device)
    refuse_odd(place, split, new_split, folds)
    run = Path(out) if out else free_run(f"finetune-{Path(place).resolve().stem}")
    checkpoint.refuse_used(run)
    name = str(Path(model).resolve()) if Path(model).exists() else model
    start = start_of(name, load_model(name))
    roster = roster_of(Path(place), Path(quarantine) if quarantine else None)
    look = run / checkpoint.LOOK
    look.mkdir(parents=True, exist_ok=True)
    OUT.print(f"first look at {place}, from {start.loaded.origin}")
    loaded = start.loaded if len(roster.files) <= FEW_FOR_SUSPECTS else None
    diagnosis = examine(roster, loaded=loaded, parts=len(roster.files) <= FEW_FOR_PARTS, device=where, watch=shown)
    found, rows = written(look, diagnosis, suspects_too=False)
    print_findings(found)
    OUT.print(f"what was found, with pictures: {look / PAGE}; as JSON: {look / FINDINGS}")
    if rows:
        OUT.print(f"{len(rows):,} of {len(roster.files):,} photos are left out: {look / QUARANTINE}")
    earlier = earlier_division(roster.root, split, new_split)
    division = division_of(diagnosis, [row.path for row in rows], earlier, seed)
    for note in division.notes:
        OUT.print(note)
    keep_division(look, diagnosis, division)
    write_division_again(roster.root, diagnosis, division)
    photos = (look / PHOTOS).resolve()
    recipe, reasons = recipe_for(start, photos, roster, division, short_side(diagnosis), balance, seed)
    recipe = with_overrides(recipe_to_json(recipe), overrides)
    for reason in reasons:
        OUT.print(f"default: {reason}")
    for override in overrides:
        OUT.print(f"as asked: {override}")
    if find_lr:
        recipe = with_found_lr(recipe, look, where)
    show_forecast(recipe, look, where)
    if look_only:
        OUT.print(f"nothing is trained, as asked; next: resnetkit finetune {shlex.quote(place)} --model {model}")
        return 0
    if folds:
        return train_folds(recipe, diagnosis, division, folds, run, where)
    code = train_chosen(Chosen(recipe, run, resume=False), where, ALONE, "recipe", None, [])
    OUT.print(f"next: resnetkit predict {shlex.quote(str(run))} PHOTO...")
    return code


def refuse_odd(place: str, split: str | None, new_split: bool, folds: int | None) -> None:
    """Refuse arguments that do not go together, all at once."""
    problems = []
    if place in DATASETS:
        problems.append(
            f"{place} is no folder of photos; next: resnetkit train RECIPE --data {place} --init-from MODEL"
        )
    elif not Path(place).exists():
        problems.append(f"no such folder or list: {place}")
    if split and new_split:
        problems.append("--split and --new-split: expected one of them")
    if split and not Path(split).is_file():
        problems.append(f"--split: no such file: {split}")
    if folds is not None and folds < 3:
        problems.append(f"--folds: expected 3 or more, got {folds}: one to train on, one to decide by, one for figures")
    if problems:
        raise BadRequest(problems[0], *problems[1:])


# --- the division, kept ---


def division_file(root: Path) -> Path:
    """Return where the last division of a data set is kept."""
    return home() / "divisions" / f"{kept_in(root).name}.csv"


def earlier_division(root: Path, split: str | None, new_split: bool) -> dict[str, int]:
    """Return the places of photos in the division that is named, or else the last one of this data set."""
    file = Path(split) if split else division_file(root)
    if new_split or not file.is_file():
        return {}
    OUT.print(f"division of the photos as in {file}" + "; --new-split makes another" * (split is None))
    return read_division(file, SPLITS)


def division_rows(diagnosis: Diagnosis, division: Division) -> dict[Path, tuple[str, int]]:
    """Return label and place of each photo that is used, by whole path."""
    roster = diagnosis.roster
    return {roster.files[index].absolute(): (roster.label(index), int(division.places[index]))
            for index in np.flatnonzero(division.places != UNKNOWN).tolist()}  # fmt: skip


def keep_division(look: Path, diagnosis: Diagnosis, division: Division) -> None:
    """Write a division as a data set to train on: a list and its classes."""
    look.mkdir(parents=True, exist_ok=True)
    write_division(look / PHOTOS, SPLITS, division_rows(diagnosis, division))
    (look / CLASSES).write_text("".join(f"{name}\n" for name in diagnosis.roster.class_names), encoding="utf-8")


def write_division_again(root: Path, diagnosis: Diagnosis, division: Division) -> None:
    """Keep a division for the next fine-tuning on the same data."""
    file = division_file(root)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_division(file, SPLITS, division_rows(diagnosis, division))


# --- before the first step ---


def short_side(diagnosis: Diagnosis) -> int:
    """Return the median short side of the photos that can be read, in pixels."""
    sides = [min(found.width, found.height) for found in diagnosis.inspections if found.problem is None]
    if not sides:
        raise BadRequest(f"{diagnosis.roster.root}: no photo can be read")
    return int(statistics.median(sides))


def with_found_lr(recipe: Recipe, look: Path, where: torch.device) -> Recipe:
    """Return the recipe with the rate that a range test suggests; the test is written down."""
    with StepProgress("learning-rate range", STEPS) as progress:
        found: RangeTest = range_test(recipe, open_data(recipe.data), where, progress.advance)
    write_json(look / RANGE, asdict(found))
    OUT.print(f"learning-rate range test: {found.suggested:g} instead of {recipe.optim.lr:g} ({look / RANGE})")
    return replace(recipe, optim=replace(recipe.optim, lr=found.suggested))


def show_forecast(recipe: Recipe, look: Path, where: torch.device) -> None:
    """Print what the run will take, and write the sheet of augmented images."""
    dataset = open_data(recipe.data)
    facts = look_at(dataset, SHEET_HEADERS)
    write_page(look / SHEET, dataset, facts, recipe, SHEET_IMAGES)
    OUT.print(f"images as training shows them: {look / SHEET}")
    val = dataset.val if isinstance(dataset, PhotoDataset) else None
    cost = recipe_cost(recipe, len(dataset.train), len(dataset.class_names))
    said = forecast(recipe, cost, fit(recipe, devices=1), FORECAST_SECONDS, where)
    seconds = 3600 * said.machine.hours
    evaluated = math.ceil(cost.epochs / recipe.eval_every_epochs) * len(val or ())
    forwards = (cost.train_images + evaluated + len(dataset.test)) * said.machine.seconds_per_image / 3
    gib = said.memory.total / 2**30
    OUT.print(f"forecast: {duration(seconds + forwards)} at most on this machine, about {gib:.2f} GiB: "
              f"{duration(seconds)} for {cost.steps:,} steps, the rest for frozen features and evaluation")  # fmt: skip


# --- folds ---


def train_folds(
    recipe: Recipe, diagnosis: Diagnosis, division: Division, folds: int, run: Path, where: torch.device
) -> int:
    """Train once a fold, and say what all of them come to."""
    rows: list[dict[str, Any]] = []
    for number, part in enumerate(folds_division(diagnosis, division, folds, recipe.seed), 1):
        fold = run / f"fold-{number}"
        keep_division(fold / checkpoint.LOOK, diagnosis, part)
        own = replace(recipe, data=str((fold / checkpoint.LOOK / PHOTOS).resolve()), name=f"{recipe.name}-fold{number}")
        OUT.print(f"fold {number} of {folds}")
        train_chosen(Chosen(own, fold, resume=False), where, ALONE, "recipe", None, [])
        outcome = read_json(fold / checkpoint.EVALUATION)
        rows.append({"fold": number, "images": outcome["images"], "correct": outcome["correct"],
                     "top1": outcome["top1"]})  # fmt: skip
    summary = summary_of(rows)
    write_json(run / FOLDS, summary)
    low, high = summary["top1_interval"]
    OUT.print(f"\n{folds} folds: top-1 {percent(summary['top1'])} over {summary['images']:,} photos, each predicted by "
              f"the net that has not seen it; 95 % interval {percent(low)} to {percent(high)}; deviation of the folds "
              f"{percent(summary['deviation'])}")  # fmt: skip
    if division.counts()[2]:
        warn("the test images took no part; a run without --folds evaluates on them")
    OUT.print(f"folds {run / FOLDS}")
    return 0


def summary_of(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Sum up folds."""
    images, correct = (sum(row[name] for row in rows) for name in ("images", "correct"))
    return {
        "folds": list(rows),
        "images": images,
        "correct": correct,
        "top1": correct / images,
        "top1_interval": wilson_interval(correct, images),
        "deviation": statistics.stdev(row["top1"] for row in rows),
    }
