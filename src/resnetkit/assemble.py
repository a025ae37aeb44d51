"""From a recipe and data to all that the loop of `train.py` works on."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnetkit import schedule
from resnetkit.data.division import folds_of
from resnetkit.data.mix import Mix
from resnetkit.data.seen import seen
from resnetkit.ema import Ema
from resnetkit.errors import BadRequest, SourceError
from resnetkit.feed import Dataset, Feed, build_feed, build_mixes, spread
from resnetkit.frozen import feature_batches
from resnetkit.linear import choose_penalty, fit_linear
from resnetkit.load import load_all_but_head
from resnetkit.losses import binary_cross_entropy, cross_entropy
from resnetkit.models import Architecture, ResNet, find_architecture
from resnetkit.models.batchnorm import synchronise_batchnorm, unfold
from resnetkit.optim import build_lamb, build_muon, build_sgd
from resnetkit.processes import ALONE, Processes
from resnetkit.recipe import CrossEntropy, Lamb, Muon, Plateau, Recipe, StepDecay, total_steps_of, warmup_steps_of
from resnetkit.recipe import Linear as LinearDecay
from resnetkit.together import Together

PENALTY_FOLDS = 5  # one of them decides how much the weights of a fitted head are held back

Loss = Callable[[Tensor, Tensor], Tensor]  # logits [N, classes] and targets to a scalar


@dataclass
class Best:
    """The best evaluation on val so far, with the weights that it is of."""

    step: int
    loss: float
    waited: int  # evaluations since then
    weights: dict[str, Tensor]


@dataclass
class Training:
    """What the loop works on, built from a recipe."""

    recipe: Recipe
    model: ResNet
    forward: Callable[[Tensor], Tensor]  # the model, compiled if the recipe says so
    loss: Loss
    mixes: tuple[Mix, ...]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler  # does nothing without float16
    ema: Ema | None
    feed: Feed
    lr_at: Callable[[int], float]  # as planned; `lr_of` has what happened on the way in it
    total_steps: int
    device: torch.device
    init_sha256: str | None  # of the weights file that it started from
    processes: Processes
    together: Together
    plateau: schedule.PlateauState = field(default_factory=schedule.PlateauState)
    rewound_factor: float = 1.0  # of the rate, smaller after each time the run went back
    best: Best | None = None  # of early stopping

    def lr_of(self, step: int) -> float:
        """Return the learning rate of a step, as things are."""
        return self.lr_at(step) * self.plateau.factor * self.rewound_factor

    @property
    def kept_model(self) -> ResNet:
        """The model that is evaluated and kept: the average where there is one."""
        if self.ema is None:
            return self.model
        assert isinstance(self.ema.model, ResNet)
        return self.ema.model


def assemble(
    recipe: Recipe, dataset: Dataset, device: torch.device, processes: Processes = ALONE, *, goes_on: bool = False
) -> Training:
    """Build everything that the recipe describes; for a run that `goes_on`, whose state holds all weights, nothing is
    read that it once started from.
    """
    if processes.size > recipe.devices:
        what = f"{processes.size} processes cannot share a batch of {recipe.devices} micro-batches"
        raise BadRequest(what, f"next: {recipe.devices} processes at most, or a new run in smaller micro-batches")
    feed = build_feed(recipe, dataset, processes)
    steps_per_epoch = feed.batches.steps_per_epoch
    total_steps = total_steps_of(recipe, steps_per_epoch)
    if total_steps < 1:
        raise BadRequest(f"total_epochs: {recipe.total_epochs} of {steps_per_epoch} steps round to none")
    arch = replace(find_architecture(recipe.model), num_classes=len(feed.class_names))
    torch.manual_seed(recipe.seed)
    model = build_model(recipe, arch)
    init_sha256 = start_from(model, recipe.init_from) if recipe.init_from and not goes_on else None
    if recipe.unfold_images and not goes_on:
        unfold(model, first_images(feed, recipe.unfold_images))
    weights = class_weights_of(recipe, feed.train.labels, arch.num_classes)
    if recipe.frozen_start and not goes_on:
        fit_head(model.to(device), recipe, feed, processes, weights)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    model = model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    return Training(
        recipe=recipe,
        model=model,
        forward=torch.compile(model, dynamic=False) if recipe.compile else model,
        loss=build_loss(recipe, None if weights is None else weights.to(device)),
        mixes=build_mixes(recipe),
        optimizer=build_optimizer(recipe, model),
        scaler=build_scaler(recipe, device),
        ema=Ema(model, recipe.average_weights.decay) if recipe.average_weights else None,
        feed=feed,
        lr_at=build_schedule(recipe, steps_per_epoch, total_steps),
        total_steps=total_steps,
        device=device,
        init_sha256=init_sha256,
        processes=processes,
        together=Together(model, processes, statistics=recipe.batchnorm == "batch"),
    )


def build_model(recipe: Recipe, arch: Architecture) -> ResNet:
    """Build the net as the recipe trains it, with weights drawn anew."""
    model = ResNet(
        arch,
        drop_path_rate=recipe.drop_path_rate,
        drop_path_shape=recipe.drop_path_shape,
        zero_init_last=recipe.zero_init_last,
    )
    if recipe.sync_batchnorm:
        synchronise_batchnorm(model)
    return model


def start_from(model: ResNet, name: str) -> str:
    """Load the weights that a recipe starts from; returns the SHA-256 of their file."""
    try:
        file = load_all_but_head(model, name)
    except SourceError as error:
        own = "or: --set init_from=FILE; init_from=null starts from drawn weights, which is another recipe"
        raise SourceError(error.what, *error.details, own) from error
    for note in file.notes:
        print(f"note: {name}: {note}", file=sys.stderr)
    return file.sha256


def first_images(feed: Feed, count: int) -> Tensor:
    """Return some training images as evaluation sees them, evenly spread: float32 [count, C, H, W]."""
    some = feed.train.part(spread(len(feed.train), min(count, len(feed.train))))
    return torch.cat([feed.preprocess.normalize(torch.from_numpy(images)) for images, _ in seen(some, feed.preprocess)])


def fit_head(model: ResNet, recipe: Recipe, feed: Feed, processes: Processes, class_weights: Tensor | None) -> None:
    """Fit a net's head to the features that its body has of the training images: the first process does."""
    assert recipe.frozen_start is not None
    fitted: dict[str, Tensor] = {}
    if processes.is_first:
        device = model.fc.weight.device
        features = np.concatenate(list(feature_batches(model, feed.train, feed.preprocess, device)))
        labels = torch.from_numpy(feed.train.labels.astype(np.int64))
        known, classes = torch.from_numpy(features), model.arch.num_classes
        weights = None if class_weights is None else class_weights[labels]
        penalty = recipe.frozen_start.penalty
        if penalty is None:
            held = folds_of(labels.numpy(), np.arange(len(labels)), PENALTY_FOLDS, recipe.seed) == 0
            penalty = choose_penalty(known, labels, classes, torch.from_numpy(held), weights)
        head = fit_linear(known, labels, classes, penalty=penalty, image_weights=weights)
        fitted = {"weight": head.weight, "bias": head.bias}
    model.fc.load_state_dict(processes.share_tensors(fitted))


def class_weights_of(recipe: Recipe, labels: NDArray[Any], num_classes: int) -> Tensor | None:
    """Return the weight of each class in the loss [classes], of mean 1 over the images; None where all count alike.

    Balanced sampling shows the classes equally often, and to a head that is fitted they count so.
    """
    if recipe.balance == "none":
        return None
    counts = np.bincount(labels, minlength=num_classes)
    present = np.count_nonzero(counts)
    weights = len(labels) / (present * np.maximum(counts, 1))
    return torch.from_numpy(np.where(counts > 0, weights, 0.0).astype(np.float32))


def build_loss(recipe: Recipe, class_weights: Tensor | None = None) -> Loss:
    """Return the recipe's loss; weights [classes] are for one whose classes are balanced by it."""
    loss, weights = recipe.loss, class_weights if recipe.balance == "class_weights" else None
    if isinstance(loss, CrossEntropy):
        return partial(cross_entropy, label_smoothing=loss.label_smoothing, class_weights=weights)
    return partial(binary_cross_entropy, label_smoothing=loss.label_smoothing, reduction=loss.reduction,
                   class_weights=weights)  # fmt: skip


def build_optimizer(recipe: Recipe, model: ResNet) -> torch.optim.Optimizer:
    """Build the recipe's optimizer."""
    if isinstance(recipe.optim, Lamb):
        return build_lamb(model, **vars(recipe.optim), head_lr_factor=recipe.head_lr_factor)
    if isinstance(recipe.optim, Muon):
        return build_muon(model, **vars(recipe.optim), head_lr_factor=recipe.head_lr_factor)
    return build_sgd(model, **vars(recipe.optim), head_lr_factor=recipe.head_lr_factor)


def build_scaler(recipe: Recipe, device: torch.device) -> torch.amp.GradScaler:
    """Build the scaler of the loss: constant, growing and shrinking, or switched off."""
    if recipe.amp is None or recipe.amp.dtype != "float16":
        return torch.amp.GradScaler(device.type, enabled=False)
    if recipe.amp.loss_scale is None:
        return torch.amp.GradScaler(device.type)
    return torch.amp.GradScaler(device.type, init_scale=recipe.amp.loss_scale)


def build_schedule(recipe: Recipe, steps_per_epoch: int, total_steps: int) -> Callable[[int], float]:
    """Return the learning rate as a function of the step; a plateau's factor comes on top."""
    warmup, decay = recipe.warmup, recipe.schedule
    warmup_steps = 0
    if warmup:
        warmup_steps = warmup_steps_of(warmup, steps_per_epoch)

    def warmup_factor(step: int) -> float:
        if not warmup:
            return 1.0
        if warmup.shape == "constant":
            return schedule.constant_warmup(step, warmup_steps=warmup_steps, start_factor=warmup.start_factor)
        ramp = max(warmup_steps - 1, 1) if warmup.full_rate_at == "last_step" else warmup_steps
        return schedule.linear_warmup(step, warmup_steps=ramp, start_factor=warmup.start_factor)

    def decay_factor(step: int) -> float:
        after, left = max(step - warmup_steps, 0), max(total_steps - warmup_steps, 1)
        match decay:
            case StepDecay():
                drops = decay.drop_steps or [round(epoch * steps_per_epoch) for epoch in decay.drop_epochs]
                return schedule.step_decay(step, drop_steps=drops, drop_factor=decay.drop_factor)
            case Plateau():
                return 1.0
            case LinearDecay():
                return schedule.linear(after, total_steps=left, final_factor=decay.final_factor)
        if decay.falls == "every_epoch":
            step -= step % steps_per_epoch
            after = max(step - warmup_steps, 0)
        if decay.after_warmup:
            return schedule.cosine(after, total_steps=left, final_factor=decay.final_factor)
        return schedule.cosine(step, total_steps=total_steps, final_factor=decay.final_factor)

    return lambda step: recipe.optim.lr * warmup_factor(step) * decay_factor(step)
