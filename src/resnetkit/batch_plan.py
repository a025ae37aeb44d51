"""A recipe on other hardware: micro-batch, accumulation and learning rate for a number of devices, and why.

A recipe states its total batch.  What decides its result beside that is over how many images BatchNorm takes its
statistics: a micro-batch, or with `sync_batchnorm` all micro-batches that work at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from resnetkit.errors import BadRequest
from resnetkit.recipe import Lamb, Muon, Recipe, Sgd, StepDecay

# A batch off by a factor of 2 counts as much as BatchNorm's statistics off by a factor of 2**4: the rate of learning
# is corrected for another batch by a rule of thumb only, and the page's own rows differ in their statistics.
BATCH_WEIGHT = 4.0


@dataclass(frozen=True)
class BatchPlan:
    """How a recipe runs on a number of devices."""

    recipe: Recipe  # as it runs there: batch_size, microbatch_size and optim.lr are what may differ
    devices: int
    microbatch_size: int  # images per device and forward pass
    accumulation: int  # forward passes of each device in a step
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]  # what makes it another recipe


def fit(recipe: Recipe, devices: int, max_microbatch: int | None = None) -> BatchPlan:
    """Choose micro-batch, accumulation and learning rate for `devices` devices.

    max_microbatch: how many images fit one forward pass of a device.  A recipe's own micro-batch is never exceeded.
    Raises BadRequest for less than one device or image.
    """
    for name, value in (("devices", devices), ("max_microbatch", max_microbatch)):
        if value is not None and value < 1:
            raise BadRequest(f"{name}: expected 1 or more, got {value}")
    microbatch, accumulation = choose(recipe, devices, min(recipe.microbatch_size, max_microbatch or math.inf))
    there = with_batch(recipe, devices * microbatch * accumulation, microbatch)
    plan = BatchPlan(there, devices, microbatch, accumulation, (), ())
    return replace(plan, reasons=reasons(recipe, plan, max_microbatch), warnings=warnings(recipe, plan))


def choose(recipe: Recipe, devices: int, most: float) -> tuple[int, int]:
    """Return the micro-batch of at most `most` images, and the accumulation, that change the recipe least."""

    def change(microbatch: int) -> float:
        batch = devices * microbatch * accumulation_for(recipe, devices, microbatch)
        there = statistics_there(recipe, devices, microbatch)
        return BATCH_WEIGHT * octaves(batch, recipe.batch_size) + octaves(there, statistics(recipe))

    chosen = min(range(int(most), 0, -1), key=change)  # of equals the largest
    return chosen, accumulation_for(recipe, devices, chosen)


def octaves(number: int, other: int) -> float:
    """Return how many times one of two numbers must be doubled to be the other."""
    return abs(math.log2(number / other))


def accumulation_for(recipe: Recipe, devices: int, microbatch: int) -> int:
    """Return how many micro-batches of this size a device takes for the batch nearest to the recipe's."""
    return max(1, round(recipe.batch_size / (devices * microbatch)))


def statistics(recipe: Recipe) -> int:
    """Count the images that BatchNorm's statistics are over in the recipe: its micro-batches work at once."""
    return recipe.batch_size if recipe.sync_batchnorm else recipe.microbatch_size


def statistics_there(recipe: Recipe, devices: int, microbatch: int) -> int:
    """Count them on `devices` devices, where micro-batches that are accumulated do not work at once."""
    return microbatch * devices if recipe.sync_batchnorm else microbatch


def with_batch(recipe: Recipe, batch_size: int, microbatch_size: int) -> Recipe:
    """Return the recipe with another batch, and the learning rate for it."""
    factor = lr_factor(recipe, batch_size)
    optim: Sgd | Muon | Lamb = replace(recipe.optim, lr=recipe.optim.lr * factor)
    if isinstance(optim, Muon):
        optim = replace(optim, sgd_lr=optim.sgd_lr * factor)
    return replace(recipe, batch_size=batch_size, microbatch_size=microbatch_size, optim=optim)


def lr_factor(recipe: Recipe, batch_size: int) -> float:
    """Scale the rate in proportion for SGD (arXiv 1706.02677), by the square root for LAMB (arXiv 1904.00962).

    For Muon no rule is published; its rates follow SGD's.
    """
    ratio = batch_size / recipe.batch_size
    return math.sqrt(ratio) if isinstance(recipe.optim, Lamb) else ratio


def reasons(recipe: Recipe, plan: BatchPlan, max_microbatch: int | None) -> tuple[str, ...]:
    """Say what was chosen and why, a sentence each."""
    batch, micro, there = recipe.batch_size, recipe.microbatch_size, plan.recipe
    passes = counted(plan.accumulation, "forward pass", "forward passes")
    said = [
        f"the recipe takes {batch:,} images a step, in micro-batches of {micro:,}",
        f"{counted(plan.devices, 'device')}, {passes} a step of {counted(plan.microbatch_size, 'image')} each: "
        f"{there.batch_size:,} images a step",
    ]
    if max_microbatch is not None and max_microbatch < micro:
        said.append(f"a micro-batch has at most {counted(max_microbatch, 'image')}, as asked")
    if there.batch_size == batch:
        return (*said, f"the same batch: the learning rate stays {recipe.optim.lr:g}")
    said.append(
        f"no even split is nearer to {batch:,} without moving BatchNorm's statistics further from those of "
        f"{statistics(recipe):,} images (a batch twice as large counts as much as statistics of 16 times the images)"
    )
    return (*said, lr_reason(recipe, there), *step_reasons(recipe, there))


def lr_reason(recipe: Recipe, there: Recipe) -> str:
    """Say how the learning rate was changed for another batch."""
    match recipe.optim, there.optim:
        case Lamb(), _:
            rule = "the square root of the batch, LAMB (arXiv 1904.00962)"
        case Muon(sgd_lr=before), Muon(sgd_lr=after):
            rule = f"the batch as SGD's, {after:.6g} instead of {before:g} (arXiv 1706.02677); no rule of Muon is known"
        case _:
            rule = "the batch, SGD (arXiv 1706.02677)"
    return f"learning rate {there.optim.lr:.6g} instead of {recipe.optim.lr:g}: in proportion to {rule}"


def step_reasons(recipe: Recipe, there: Recipe) -> tuple[str, ...]:
    """Say where a recipe counts steps, which then show another number of images."""
    drops = recipe.schedule.drop_steps if isinstance(recipe.schedule, StepDecay) else ()
    warmup = recipe.warmup.warmup_steps if recipe.warmup else 0
    if not (recipe.total_steps or drops or warmup):
        return ()
    share = there.batch_size / recipe.batch_size
    return (f"what the recipe counts in steps stays so: as many steps show {share:.4g} times the images",)


def warnings(recipe: Recipe, plan: BatchPlan) -> tuple[str, ...]:
    """Say what makes it another recipe."""
    found = []
    before, after = statistics(recipe), statistics_there(recipe, plan.devices, plan.microbatch_size)
    if before != after:
        at_once = f", all that {counted(plan.devices, 'device')} can take at once," * recipe.sync_batchnorm
        found.append(
            f"BatchNorm's statistics are those of {counted(after, 'image')}{at_once} instead of {before:,}: "
            "accuracy may differ from the recipe's"
        )
    repeated, parts = recipe.repeated_augmentation, plan.devices * plan.accumulation
    if repeated and parts < repeated.repeats and parts != recipe.devices:
        found.append(
            f"a step has {counted(parts, 'micro-batch', 'micro-batches')}, fewer than the {repeated.repeats} copies "
            "of an image: copies share a micro-batch"
        )
    return tuple(found)


def counted(number: int, one: str, many: str | None = None) -> str:
    """Write a number and what it counts."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"
