"""The learning-rate range test (arXiv 1506.01186): the rate grows step by step until the loss does."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from resnetkit.assemble import assemble
from resnetkit.errors import NonFiniteLoss
from resnetkit.feed import Dataset
from resnetkit.optim import set_lr
from resnetkit.recipe import Recipe
from resnetkit.step import train_step

LOWEST, HIGHEST = 1e-5, 10.0  # rates
STEPS = 80
SMOOTHING = 0.9  # share of the past in the smoothed loss
DIVERGED = 2.0  # times the smallest smoothed loss
BELOW_SMALLEST = 10.0  # the suggested rate is that of the smallest loss by this


@dataclass(frozen=True)
class RangeTest:
    """Rates, smoothed losses, and the rate that they suggest."""

    lrs: tuple[float, ...]
    losses: tuple[float, ...]
    suggested: float


def range_test(
    recipe: Recipe, dataset: Dataset, device: torch.device, on_step: Callable[[int], None] = lambda count: None
) -> RangeTest:
    """Train at rates that grow from 1e-5 to 10, or until the loss has doubled; nothing is kept of the weights.

    The head is drawn, not fitted: a fitted one has its smallest loss before the first step.
    """
    training = assemble(replace(recipe, frozen_start=None), dataset, device)
    lrs: list[float] = []
    losses: list[float] = []
    average = 0.0
    try:
        for step in range(STEPS):
            lr = LOWEST * (HIGHEST / LOWEST) ** (step / (STEPS - 1))
            set_lr(training.optimizer, lr)
            tally = train_step(training, training.feed.batches.at(step % training.total_steps), step)
            average = SMOOTHING * average + (1 - SMOOTHING) * tally.loss_sum / tally.images
            lrs.append(lr)
            losses.append(average / (1 - SMOOTHING ** (step + 1)))
            on_step(1)
            if losses[-1] > DIVERGED * min(losses):
                break
    except NonFiniteLoss:
        pass  # the end of the range
    finally:
        training.feed.batches.close()
    smallest = lrs[int(np.argmin(losses))] if losses else LOWEST
    return RangeTest(tuple(lrs), tuple(losses), rounded(smallest / BELOW_SMALLEST))


def rounded(value: float) -> float:
    """Round to two digits."""
    return round(value, 1 - math.floor(math.log10(value)))
