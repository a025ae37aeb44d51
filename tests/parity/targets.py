"""Losses, mixup and cutmix against mmpretrain's, on the same inputs and draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from unittest.mock import patch

import numpy as np
import torch
from configs import ROWS, SIBLINGS, read_config, recipe_of_1x
from figures import Figure, absolute_error, largest, relative_error
from mmpretrain.models.losses import CrossEntropyLoss, LabelSmoothLoss
from mmpretrain.models.utils.batch_augments import CutMix, Mixup
from mmpretrain.registry import MODELS as MMPRETRAIN
from torch import Tensor

from resnetkit.assemble import build_loss
from resnetkit.data.mix import cutmix, mixup
from resnetkit.losses import binary_cross_entropy, cross_entropy
from resnetkit.recipe import Recipe
from resnetkit.recipes import RECIPES

BOUND = 1e-6
IMAGES, CLASSES, SIDE = 32, 1000, 24
SHARES = (0.0, 0.13, 0.5, 0.97, 1.0)  # lambda of the paper: the weight of the image itself
A1 = "resnet50_8xb256-rsb-a1-600e_in1k"  # 1.x changed its loss
CENTRES = ((0, 0), (12, 12), (23, 5))  # boxes that are cut off at a corner, whole, and cut off at an edge
Loss = Callable[[Tensor, Tensor], Tensor]  # logits [N, classes] and targets to a scalar


@dataclass(frozen=True)
class LossCase:
    """A loss, ours and theirs, and whether it takes labels [N] or soft targets [N, classes]."""

    name: str
    ours: Loss
    theirs: torch.nn.Module
    soft: bool


def loss_cases() -> list[LossCase]:
    """Return every loss of the rows, and softmax and sigmoid with smoothing on both kinds of targets."""
    bce, smooth = binary_cross_entropy, 0.1
    sigmoid_smooth = LabelSmoothLoss(smooth, CLASSES, mode="original", use_sigmoid=True)
    return [
        LossCase("softmax, labels", cross_entropy, CrossEntropyLoss(), soft=False),
        LossCase("softmax, soft targets", cross_entropy, CrossEntropyLoss(use_soft=True), soft=True),
        *(
            LossCase(
                f"softmax, smoothing 0.1, {'soft targets' if soft else 'labels'}",
                partial(cross_entropy, label_smoothing=smooth),
                LabelSmoothLoss(smooth, CLASSES, mode="original"),
                soft,
            )
            for soft in (False, True)
        ),
        LossCase("sigmoid, soft targets", bce, CrossEntropyLoss(use_sigmoid=True), soft=True),
        *(
            LossCase(f"sigmoid, smoothing 0.1, {kind}", partial(bce, label_smoothing=smooth), sigmoid_smooth, soft)
            for soft, kind in ((False, "labels"), (True, "soft targets"))
        ),
    ]


def loss_figures() -> Iterator[Figure]:
    """Compare the value and the gradient of every loss."""
    for case in loss_cases():
        value, gradient = loss_errors(case.ours, case.theirs, soft=case.soft)
        yield Figure("loss, value", case.name, "mmpretrain", value, BOUND)
        yield Figure("loss, gradient", case.name, "mmpretrain", gradient, BOUND)


def row_loss_figures() -> Iterator[Figure]:
    """Compare the loss that each recipe builds with the one that its config builds, and A1's of 0.x."""
    for row in (*ROWS, *SIBLINGS):
        recipe = recipe_of_1x(row)
        theirs = MMPRETRAIN.build(read_config(row)["model"]["head"]["loss"])
        yield row_loss_figure(recipe, theirs, "mmpretrain config")
    yield row_loss_figure(RECIPES[A1], LabelSmoothLoss(0.1, CLASSES, mode="original"), "0.x config")


def row_loss_figure(recipe: Recipe, theirs: torch.nn.Module, peer: str) -> Figure:
    """Compare the value and the gradient of one recipe's loss, on the targets that it trains with."""
    errors = loss_errors(build_loss(recipe), theirs, soft=bool(recipe.mix))
    return Figure("loss of a row", recipe.name, peer, largest(errors), BOUND)


def loss_errors(ours: Loss, theirs: torch.nn.Module, *, soft: bool) -> tuple[float, float]:
    """Return the errors of the value and of the gradient; mmpretrain's heads pass avg_factor = images."""
    generator = torch.Generator().manual_seed(4)
    logits = 3 * torch.randn(IMAGES, CLASSES, generator=generator)
    labels = torch.randint(CLASSES, (IMAGES,), generator=generator)
    targets = soft_targets(labels, generator) if soft else labels
    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    our_loss, their_loss = ours(a, targets), theirs(b, targets, avg_factor=IMAGES)
    our_loss.backward()  # type: ignore[no-untyped-call]
    their_loss.backward()
    assert a.grad is not None
    assert b.grad is not None
    return relative_error(our_loss, their_loss), relative_error(a.grad, b.grad)


def soft_targets(labels: Tensor, generator: torch.Generator) -> Tensor:
    """Blend the one-hot targets of labels [N] with those of a permutation: float [N, classes]."""
    one_hot = torch.nn.functional.one_hot(labels, CLASSES).float()
    return 0.7 * one_hot + 0.3 * one_hot[torch.randperm(len(labels), generator=generator)]


def mix_figures() -> Iterator[Figure]:
    """Compare images and targets of mixup at every share, and of cutmix at every share and centre."""
    for share in SHARES:
        yield from named("mixup", f"share {share}", mix_errors(mixup, Mixup(alpha=1.0), share, ()))
        for centre in CENTRES:
            ours = partial(cutmix, centre=centre)
            yield from named("cutmix", f"share {share}, centre {centre}", mix_errors(ours, CutMix(1.0), share, centre))


def named(question: str, subject: str, errors: tuple[float, float]) -> list[Figure]:
    """Make figures of the errors of images and targets."""
    kinds = zip(("images", "targets"), errors, strict=True)
    return [Figure(f"{question}, {kind}", subject, "mmpretrain", error, BOUND) for kind, error in kinds]


def mix_errors(
    ours: Callable[..., tuple[Tensor, Tensor]], theirs: Mixup, share: float, centre: tuple[int, ...]
) -> tuple[float, float]:
    """Return the errors of images and targets, where theirs draws this share, centre and order."""
    generator = torch.Generator().manual_seed(5)
    images = torch.randn(8, 3, SIDE, SIDE, generator=generator)
    targets = torch.nn.functional.one_hot(torch.arange(8), 10).float()
    order = torch.randperm(8, generator=generator)
    with (
        patch.object(np.random, "beta", return_value=share),
        patch.object(np.random, "randint", side_effect=centre),
        patch.object(torch, "randperm", return_value=order),
    ):
        their_images, their_targets = theirs(images.clone(), targets.clone())
    our_images, our_targets = ours(images.clone(), targets.clone(), share=share, order=order)
    return absolute_error(our_images, their_images), absolute_error(our_targets, their_targets)
