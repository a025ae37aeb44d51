"""Fine-tuning: from a folder of photos and the weights to start from to a recipe and a division of the photos.

Every default is a function of the data and says why; `--set` overrides each.  `train.py` follows the recipe.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.division import UNKNOWN, divide, folds_of
from resnetkit.doctor import LARGE_IMBALANCE, Diagnosis, Roster
from resnetkit.errors import BadRequest
from resnetkit.load import LoadedModel
from resnetkit.models import find_architecture, name_of
from resnetkit.models.batchnorm import is_folded
from resnetkit.recipe import (
    AverageWeights,
    Balance,
    Cosine,
    EarlyStopping,
    Flip,
    FrozenStart,
    Normalize,
    RandomResizedCrop,
    Recipe,
    Sgd,
    View,
    Warmup,
)

SPLITS = ("train", "val", "test")
SHARES = (0.8, 0.1, 0.1)  # of photos that come without any split
VAL_SHARE = 0.1  # of the training images, where there is no val beside the test images

BATCH_SIZE = 32
EPOCHS = ((1_000, 8.0), (4_000, 6.0), (20_000, 4.0), (100_000, 3.0))  # up to so many training images
MOST_EPOCHS = 2.0  # of more
SMALL_SIZES = ((4_000, 160),)  # pixels a side for photos that are small, up to so many training images
MANY_SMALL_SIZE = 128  # of more
LR = 0.01
MOST_WARMUP_STEPS = 100  # an epoch, or so many
HEAD_LR_FACTOR = 0.001  # it is at its minimum already, where large features make any usual rate too large
LONGEST_DECAY = 0.99  # of the average of the weights
UNFOLD_IMAGES = 64  # that folded norms of the start get scales by


@dataclass(frozen=True)
class Start:
    """The weights that a fine-tuning starts from."""

    name: str  # as `init_from` in the recipe
    loaded: LoadedModel
    model: str  # the net's name
    folded: bool  # BatchNorm's statistics were folded into its weights


@dataclass(frozen=True)
class Division:
    """Which photos of a roster are used, and for what."""

    places: NDArray[np.int64]  # [N], places in SPLITS; UNKNOWN: left out
    notes: tuple[str, ...]

    def counts(self) -> tuple[int, ...]:
        """Count the photos of each place."""
        return tuple(int((self.places == place).sum()) for place in range(len(SPLITS)))


def start_of(name: str, loaded: LoadedModel) -> Start:
    """Return the start that a loaded model is; BadRequest for a net that recipes have no name for."""
    arch = loaded.model.arch
    model = name_of(arch)
    try:
        known = find_architecture(model)
    except BadRequest as error:
        raise BadRequest(f"{name}: a net without a name, {model}", *error.details) from error
    assert replace(known, num_classes=arch.num_classes, in_channels=arch.in_channels) == arch
    if arch.in_channels != 3:
        raise BadRequest(f"{name}: expected a net of 3 channels, got {arch.in_channels}")
    return Start(name, loaded, model, is_folded(loaded.model))


# --- which photos are for what ---


def division_of(diagnosis: Diagnosis, left_out: Sequence[str], known: dict[str, int], seed: int) -> Division:
    """Divide the photos: the splits that are on disk stay; what is missing is drawn, copies of a picture on one side.

    known: places of photos by whole path, of an earlier division.
    """
    roster = diagnosis.roster
    out = set(left_out)
    used = np.array([roster.name(index) not in out for index in range(len(roster.files))], bool)
    indices = np.flatnonzero(used)
    earlier = np.array([known.get(str(roster.files[index].absolute()), UNKNOWN) for index in indices], np.int64)
    earlier[(earlier == 2) & (splits_on_disk(roster).max() > 0)] = UNKNOWN  # the test images are those on disk
    groups, labels = diagnosis.copy_groups()[indices], roster.labels[indices]
    places = np.full(len(roster.files), UNKNOWN, np.int64)
    own = splits_on_disk(roster)[indices]
    notes = []
    if not (own > 0).any():
        places[indices] = divide(labels, groups, SHARES, seed, earlier)
        notes.append(f"no photos are held out: {counted(places)}, each class alike, copies of a picture on one side")
    elif not (own == 1).any():
        training = own == 0
        known_val = earlier[training] if (earlier[training] == 1).any() else None
        drawn = divide(labels[training], groups[training], (1 - VAL_SHARE, VAL_SHARE), seed, known_val)
        own[training] = drawn
        places[indices] = own
        notes.append(f"no photos of val beside the held-out ones: {counted(places)}; val is drawn from those of train")
    else:
        places[indices] = own
        notes.append(f"divided as on disk: {counted(places)}")
    reused = int((earlier != UNKNOWN).sum())
    if reused and (own == 1).sum() != (places[indices] == 1).sum():
        notes.append(f"{reused:,} photos are where an earlier division had them")
    empty = [name for name, count in zip(SPLITS, Division(places, ()).counts(), strict=True) if not count]
    if empty:
        got = f"got {len(indices):,} photos to divide"
        raise BadRequest(f"{roster.root}: no photos for {' and '.join(empty)}", got, "expected ten or more a class")
    return Division(places, tuple(notes))


def splits_on_disk(roster: Roster) -> NDArray[np.int64]:
    """Return the place of each photo as its split says: the last one is the test images, one between them val."""
    last = len(roster.split_names) - 1
    by_split = np.array([0, 1, 2] if last == 2 else [0, 2] if last == 1 else [0])
    if not roster.trains:
        raise BadRequest(f"{roster.root}: no photos to train on, only {', '.join(roster.split_names)}")
    return by_split[roster.splits].astype(np.int64)


def counted(places: NDArray[np.int64]) -> str:
    """Say how many photos each place has."""
    return ", ".join(f"{name} {int((places == place).sum()):,}" for place, name in enumerate(SPLITS))


def folds_division(diagnosis: Diagnosis, division: Division, folds: int, seed: int) -> Iterator[Division]:
    """Yield a division a fold: its photos are the test images, those of the next fold val.

    The folds are of the photos of train and val; test images on disk stay out.
    """
    indices = np.flatnonzero((division.places == 0) | (division.places == 1))
    roster = diagnosis.roster
    fold = folds_of(roster.labels[indices], diagnosis.copy_groups()[indices], folds, seed)
    for number in range(folds):
        places = np.full(len(roster.files), UNKNOWN, np.int64)
        places[indices] = np.where(fold == number, 2, np.where(fold == (number + 1) % folds, 1, 0))
        yield Division(places, ())


# --- the recipe ---


def recipe_for(
    start: Start,
    data: Path,
    roster: Roster,
    division: Division,
    short_side: int,
    balance: Balance | Literal["auto"],
    seed: int,
) -> tuple[Recipe, list[str]]:
    """Return the recipe for photos whose median short side is so many pixels, and why it is as it is."""
    labels = roster.labels[division.places == 0]
    count, preprocess = len(labels), start.loaded.preprocess
    reasons = []
    size = preprocess.image_size
    small = next((small for most, small in SMALL_SIZES if count <= most), MANY_SMALL_SIZE)
    if size > small and 2 * short_side <= size:
        reasons.append(f"images of {small} pixels instead of {size}: the photos have {short_side}")
        size = small
    epochs = next((epochs for most, epochs in EPOCHS if count <= most), MOST_EPOCHS)
    reasons.append(f"{epochs:g} epochs at most, for {count:,} training images")
    folded = f"its own are folded: first it is given those of {UNFOLD_IMAGES} images, then it "
    reasons.append(f"BatchNorm's statistics: {folded if start.folded else 'it '}takes new ones")
    chosen, said = balance_for(labels, balance)
    reasons += said
    reasons.append("mixup: off, it needs more epochs")
    reasons.append("the head is fitted to frozen features first; then all layers train, the head at a small rate")
    decay = round(min(LONGEST_DECAY, 1 - BATCH_SIZE / max(count, 2 * BATCH_SIZE)), 3)
    reasons.append(f"what is kept is an average of the weights, over an epoch or 100 steps: {decay:g} a step")
    mean = preprocess.mean if preprocess.mean.ndim == 1 else preprocess.mean.mean((0, 1))
    resize_size = round((preprocess.resize_size or preprocess.image_size) * size / preprocess.image_size)
    recipe = Recipe(
        name=f"finetune-{roster.root.resolve().stem}",
        model=start.model,
        data=str(data),
        image_size=size,
        batch_size=BATCH_SIZE,
        microbatch_size=BATCH_SIZE,
        optim=Sgd(lr=LR, momentum=0.9, nesterov=True, weight_decay=1e-4, decay_norms_and_biases=False),
        schedule=Cosine(after_warmup=True),
        warmup=Warmup("linear", 0.1, warmup_steps=min(MOST_WARMUP_STEPS, max(1, count // BATCH_SIZE))),
        total_epochs=epochs,
        preprocess=Normalize(tuple(map(float, mean)), tuple(map(float, preprocess.std))),
        view=View(resize_size=max(resize_size, size), crop_size=size, family=preprocess.family,
                  keep_ratio=preprocess.keep_ratio),
        augment=(RandomResizedCrop(family="torch-bilinear", min_area=0.35), Flip()),
        init_from=start.name,
        unfold_images=UNFOLD_IMAGES if start.folded else 0,
        frozen_start=FrozenStart(),
        head_lr_factor=HEAD_LR_FACTOR,
        average_weights=AverageWeights(decay=decay),
        balance=chosen,
        early_stopping=EarlyStopping(patience_evaluations=4),
        seed=seed,
        log_every_steps=20,
        save_every_steps=100,
    )  # fmt: skip
    return recipe, reasons


def balance_for(labels: NDArray[np.int64], balance: Balance | Literal["auto"]) -> tuple[Balance, list[str]]:
    """Return how unequal classes are balanced, asked for or because the imbalance is large, and say so."""
    counts = np.unique(labels, return_counts=True)[1]
    ratio = float(counts.max() / counts.min())
    if balance != "auto":
        return balance, [f"balance of classes: {balance}, as asked"]
    if ratio < LARGE_IMBALANCE:
        return "none", [f"classes count as they come: the largest has {ratio:.3g} times the images of the smallest"]
    return "class_weights", [f"class weights: the largest class has {ratio:.3g} times the images of the smallest"]
