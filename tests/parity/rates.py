"""The learning rate at every step of every row: against the 0.x formulas, and mmengine for the 1.x variants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from configs import ROWS, SIBLINGS, read_config, recipe_of_1x
from figures import Figure, relative_error
from mmengine.registry import PARAM_SCHEDULERS
from numpy.typing import NDArray

from resnetkit.assemble import build_schedule
from resnetkit.recipe import Recipe, total_steps_of
from resnetkit.recipes import RECIPES

BOUND = 1e-9  # mmengine multiplies the rate of the step before, 375,600 times for A1
CIFAR_STEPS, IMAGENET_STEPS, RSB_STEPS, CUB_STEPS = 391, 5005, 626, 94  # in an epoch
# 1.x warms it up by epochs, and its cosine is one of 100 epochs in a training of 90.
OTHER_IN_1X = "resnet50_8xb128_coslr-90e_in21k"
Rates = NDArray[np.float64]  # of every step


@dataclass(frozen=True)
class Row:
    """A schedule of mmclassification 0.x: reference/recipes.md, 1.2 and 1.3."""

    epoch_steps: int
    epochs: int
    lr: float
    drop_epochs: tuple[int, ...] = ()  # none: half a cosine, by epoch
    drop_factor: float = 0.1
    min_lr: float = 0.0
    warmup_steps: int = 0
    warmup_ratio: float = 1.0

    def rates(self) -> Rates:
        """Return the rate at every step: constant in an epoch, but for the warm-up."""
        regular = np.repeat([self.epoch_rate(epoch) for epoch in range(self.epochs)], self.epoch_steps)
        left = 1 - np.arange(self.warmup_steps) / max(self.warmup_steps, 1)
        regular[: self.warmup_steps] *= 1 - left * (1 - self.warmup_ratio)
        return regular

    def epoch_rate(self, epoch: int) -> float:
        """Return the rate of an epoch, counted from 0, without the warm-up."""
        if self.drop_epochs:
            return float(self.lr * self.drop_factor ** sum(drop <= epoch for drop in self.drop_epochs))
        return float(self.min_lr + (self.lr - self.min_lr) * (1 + np.cos(np.pi * epoch / self.epochs)) / 2)


CIFAR10 = Row(CIFAR_STEPS, 200, 0.1, drop_epochs=(100, 150))
CIFAR100 = Row(CIFAR_STEPS, 200, 0.1, drop_epochs=(60, 120, 160), drop_factor=0.2)
IMAGENET = Row(IMAGENET_STEPS, 100, 0.1, drop_epochs=(30, 60, 90))
CUB = Row(CUB_STEPS, 100, 0.01, warmup_steps=5 * CUB_STEPS, warmup_ratio=0.01)
RSB = {
    name: Row(RSB_STEPS, epochs, lr, min_lr=1e-6, warmup_steps=3130, warmup_ratio=1e-4)
    for name, epochs, lr in (("a1-600e", 600, 0.005), ("a2-300e", 300, 0.005), ("a3-100e", 100, 0.008))
}
LARGE_BATCH = Row(RSB_STEPS, 100, 0.8, drop_epochs=(30, 60, 90), warmup_steps=2500, warmup_ratio=0.25)
# The schedule of every row in 0.x.
SCHEDULES = {
    **{f"resnet{depth}_8xb16_cifar10": CIFAR10 for depth in (18, 34, 50, 101, 152)},
    "resnet50_8xb16_cifar100": CIFAR100,
    **{f"resnet{depth}_8xb32_in1k": IMAGENET for depth in (18, 34, 50, 101, 152)},
    **{f"resnetv1{letter}{depth}_8xb32_in1k": IMAGENET for letter in "cd" for depth in (50, 101, 152)},
    "resnet50_8xb32-fp16_in1k": IMAGENET,
    "wide-resnet50_8xb32_in1k": IMAGENET,
    "wide-resnet101_8xb32_in1k": IMAGENET,
    **{f"resnet50_8xb256-rsb-{name}_in1k": row for name, row in RSB.items()},
    "resnet50_8xb8_cub": CUB,
    # beside the page; the full ImageNet has 14,197,122 images
    "resnet50_8xb16-mixup_cifar10": CIFAR10,
    **{f"resnet50_8xb32-{name}_in1k": IMAGENET for name in ("lbs", "mixup", "cutmix", "fp16-dynamic")},
    "wide-resnet50_timm_8xb32_in1k": IMAGENET,
    "resnet50_8xb32-coslr_in1k": Row(IMAGENET_STEPS, 100, 0.1),
    "resnet50_8xb32-coslr-preciseBN_in1k": Row(IMAGENET_STEPS, 100, 0.1),
    "resnet50_32xb64-warmup_in1k": LARGE_BATCH,
    "resnet50_32xb64-warmup-lbs_in1k": LARGE_BATCH,
    "resnet50_32xb64-warmup-coslr_in1k": Row(RSB_STEPS, 100, 0.8, warmup_steps=2500, warmup_ratio=0.25),
    "resnet50_8xb128_coslr-90e_in21k": Row(13865, 90, 0.8, warmup_steps=5 * 13865, warmup_ratio=0.1),
}


def rate_figures() -> Iterator[Figure]:
    """Compare every trainable row of the page and config beside it, and with mmengine in the 1.x values."""
    assert set(SCHEDULES) == {*ROWS, *SIBLINGS}
    for name, row in SCHEDULES.items():
        error = relative_error(our_rates(RECIPES[name], row.epoch_steps), row.rates())
        yield Figure("learning rate", name, "0.x formulas", error, BOUND)
    for name, row in SCHEDULES.items():
        recipe = recipe_of_1x(name)
        if name != OTHER_IN_1X:
            error = relative_error(our_rates(recipe, row.epoch_steps), mmengine_rates(name, row))
            yield Figure("learning rate", recipe.name, "mmengine", error, BOUND)


def our_rates(recipe: Recipe, epoch_steps: int) -> Rates:
    """Return our rate at every step."""
    total_steps = total_steps_of(recipe, epoch_steps)
    return rates_of(build_schedule(recipe, epoch_steps, total_steps), total_steps)


def rates_of(lr_at: Callable[[int], float], total_steps: int) -> Rates:
    """Tabulate a schedule."""
    return np.array([lr_at(step) for step in range(total_steps)])


def mmengine_rates(name: str, row: Row) -> Rates:
    """Step the schedulers of a row's config as mmengine's ParamSchedulerHook does: after each step, or each epoch."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=row.lr)
    configs = read_config(name)["param_scheduler"]
    schedulers = [
        build_scheduler(config, optimizer, row) for config in (configs if isinstance(configs, list) else [configs])
    ]
    optimizer.step()  # the schedulers warn of one that never took a step
    rates = []
    for step in range(row.epochs * row.epoch_steps):
        rates.append(optimizer.param_groups[0]["lr"])
        epoch_ends = (step + 1) % row.epoch_steps == 0
        for scheduler in schedulers:
            if epoch_ends or not scheduler.by_epoch:
                scheduler.step()
    return np.array(rates)


def build_scheduler(config: dict[str, Any], optimizer: torch.optim.Optimizer, row: Row) -> Any:
    """Build one scheduler as mmengine's Runner does: it adds where the training ends, and the steps of an epoch."""
    end = row.epochs if config.get("by_epoch", True) else row.epochs * row.epoch_steps
    arguments = {"optimizer": optimizer, "end": end}
    if config.get("convert_to_iter_based"):
        arguments["epoch_length"] = row.epoch_steps
    return PARAM_SCHEDULERS.build(config, default_args=arguments)
