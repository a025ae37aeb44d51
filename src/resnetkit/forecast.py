"""How a recipe would go: hours on this machine from a run of seconds, on named GPUs from published figures, memory."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch

from resnetkit.assemble import Training, assemble
from resnetkit.batch_plan import BatchPlan
from resnetkit.cost import RecipeCost, architecture_of
from resnetkit.data.loader import Batch
from resnetkit.data.spec import ArrayDataset, Split
from resnetkit.gpus import GpuForecast, forecast_gpus
from resnetkit.memory import keep_freed_memory
from resnetkit.models.activations import TrainingMemory, training_memory
from resnetkit.recipe import Amp, Lamb, Normalize, Recipe, View
from resnetkit.step import take_step, train_step

FIRST_MICROBATCH = 2  # images; BatchNorm of a 1 x 1 map needs two
GROWTH = 4  # of the micro-batch, as long as a step takes little of the time
SHARE_OF_STEP = 1 / 4  # of the time that is left, for one step: one to warm up and two or more that count
UPDATES = 3

NOTES = (
    "this machine: forward, backward and update on generated images in memory; reading, decoding and augmenting the "
    "real ones, evaluation and saving come on top, and what else runs now makes it slower",
    "GPUs: published training throughput of ResNet-50 at 224 pixels in inverse proportion to multiply-adds; for nets "
    "that timm published too on its RTX 3090 this gives 15 % (ResNet-101) to 33 % (ResNet-34) less than measured; "
    "nets with few channels, as the 6n+2 ones, use less of a GPU and are slower than this says",
    "memory: counted for one micro-batch on one device; kernels' workspaces, gradients on their way back and what an "
    "allocator holds in reserve come on top: on the CPU, where freed memory is kept, activations took up to 2 times "
    "the counted bytes",
)


@dataclass(frozen=True)
class MachineForecast:
    """What a short run on this machine says."""

    device: str
    threads: int
    image_size: int  # pixels a side
    microbatch_size: int  # images; the plan's, or what fits the time
    steps: int  # that were timed
    load_average: float | None  # of the minute before: above 0 something else was running
    seconds_per_image: float  # forward and backward
    spread: float | None  # standard deviation of a step's time, as a fraction of it; None: one step was timed
    seconds_per_update: float  # optimizer and average, once a step
    images_per_second: float  # of the recipe, updates included
    hours: float  # of training on this one device


@dataclass(frozen=True)
class Forecast:
    """What a recipe would take; `dataclasses.asdict` makes JSON of it."""

    recipe: str
    samples: int  # images seen in all
    steps: int
    machine: MachineForecast
    gpus: tuple[GpuForecast, ...]
    memory: TrainingMemory  # of a device, in bytes
    memory_microbatch_size: int  # images that it is for
    notes: tuple[str, ...]


def forecast(
    recipe: Recipe,
    cost: RecipeCost,
    plan: BatchPlan,
    budget_seconds: float = 8.0,  # of the run on this machine
    device: torch.device | None = None,  # CPU
) -> Forecast:
    """Forecast a recipe of this cost, in the micro-batches of a plan."""
    return Forecast(
        recipe=recipe.name,
        samples=cost.samples,
        steps=cost.steps,
        machine=measure(recipe, cost, plan.microbatch_size, budget_seconds, device or torch.device("cpu")),
        gpus=forecast_gpus(cost.macs, cost.samples, recipe.amp is not None),
        memory=memory_of(recipe, cost, plan.microbatch_size),
        memory_microbatch_size=plan.microbatch_size,
        notes=NOTES,
    )


def memory_of(recipe: Recipe, cost: RecipeCost, microbatch_size: int) -> TrainingMemory:
    """Count the memory of a device that trains by a recipe."""
    slots = 2 if isinstance(recipe.optim, Lamb) else int(recipe.optim.momentum > 0)
    return training_memory(
        architecture_of(recipe, cost.num_classes),
        recipe.image_size,
        microbatch_size,
        optimizer_slots=slots,
        average=recipe.average_weights is not None,
        half=half_of(recipe.amp),
        drop_path_rate=recipe.drop_path_rate,
    )


def half_of(amp: Amp | None) -> torch.dtype | None:
    """Return the half precision of a recipe, if it has one."""
    dtypes = {"float16": torch.float16, "bfloat16": torch.bfloat16}
    return dtypes[amp.dtype] if amp else None


def measure(
    recipe: Recipe, cost: RecipeCost, most: int, budget_seconds: float, device: torch.device
) -> MachineForecast:
    """Train a few steps on generated images with the recipe's net, loss, mixing and optimizer, and time them.

    Micro-batches have at most `most` images, and as many as fit the time.
    """
    keep_freed_memory()  # as training does
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    deadline = time.perf_counter() + budget_seconds
    training = assemble(without_data(recipe), blank_dataset(recipe.image_size, cost.num_classes), device)
    microbatch, times = timed_passes(without_updates(training), most, deadline)
    per_image, update = statistics.median(times) / microbatch, update_seconds(training, deadline)
    total = cost.samples * per_image + cost.steps * update
    return MachineForecast(
        device=str(device),
        threads=torch.get_num_threads(),
        image_size=recipe.image_size,
        microbatch_size=microbatch,
        steps=len(times),
        load_average=load,
        seconds_per_image=per_image,
        spread=spread_of(times),
        seconds_per_update=update,
        images_per_second=cost.samples / total,
        hours=total / 3600,
    )


def timed_passes(training: Training, most: int, deadline: float) -> tuple[int, list[float]]:
    """Return how many images fit a step, at most `most`, and the seconds of steps of as many, one at least."""
    microbatch, took = fitting_pass(training, most, deadline)
    times = [took]
    while time.perf_counter() + times[-1] < deadline:
        times.append(pass_seconds(training, microbatch))
    return microbatch, times


def spread_of(times: list[float]) -> float | None:
    """Return the standard deviation of some times as a fraction of their mean; None of a single one."""
    return statistics.pstdev(times) / statistics.fmean(times) if len(times) > 1 else None


def fitting_pass(training: Training, most: int, deadline: float) -> tuple[int, float]:
    """Return how many images fit a step, at most `most`, so that several are done by the deadline; and its seconds."""
    microbatch = FIRST_MICROBATCH
    took = pass_seconds(training, microbatch)  # the first step of a size chooses kernels
    if time.perf_counter() + took > deadline:
        return microbatch, took
    took = pass_seconds(training, microbatch)
    while microbatch < most and GROWTH * took < SHARE_OF_STEP * (deadline - time.perf_counter()):
        microbatch = min(most, GROWTH * microbatch)
        pass_seconds(training, microbatch)
        took = pass_seconds(training, microbatch)
    return microbatch, took


def pass_seconds(training: Training, images: int) -> float:
    """Time one step of so many generated images."""
    batch = generated_batch(training, images)
    return seconds(training, lambda: train_step(training, batch, 0))


def without_updates(training: Training) -> Training:
    """Return a training whose steps leave the weights as they are: a net may diverge in its first step."""
    idle = torch.optim.SGD([torch.zeros(0, requires_grad=True)], lr=1.0)
    return replace(training, optimizer=idle, scaler=torch.amp.GradScaler(enabled=False), ema=None)


def update_seconds(training: Training, deadline: float) -> float:
    """Time what a step does once, whatever its number of micro-batches, with the gradients that are there."""

    def update() -> None:
        take_step(training)
        if training.ema:
            training.ema.update(training.model)

    training.scaler.scale(torch.ones((), device=training.device))  # the passes did without
    times = [seconds(training, update)]  # the first makes the optimizer's averages
    while len(times) < UPDATES and time.perf_counter() < deadline + times[0]:
        times.append(seconds(training, update))
    return min(times)


def seconds(training: Training, work: Callable[[], object]) -> float:
    """Time some work on the training's device."""
    started = time.perf_counter()
    work()
    if training.device.type == "cuda":
        torch.cuda.synchronize(training.device)
    return time.perf_counter() - started


def without_data(recipe: Recipe) -> Recipe:
    """Return a recipe for one micro-batch a step of images that are ready, with fresh weights."""
    size = recipe.image_size
    return replace(
        recipe,
        microbatch_size=recipe.batch_size,
        preprocess=Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
        view=View(resize_size=size, crop_size=size),
        augment=(),
        repeated_augmentation=None,
        init_from=None,
        unfold_images=0,
        frozen_start=None,
        balance="none",
        early_stopping=None,
        val_images=0,
        sync_batchnorm=False,  # its sums are waits for other processes, which do not take part
        compile=False,
    )


def blank_dataset(side: int, num_classes: int) -> ArrayDataset:
    """Make two black images of `side` pixels, for `assemble`; the steps have images of their own."""
    split = Split(np.zeros((2, side, side, 3), np.uint8), np.zeros(2, np.uint8))
    return ArrayDataset("generated", split, split, tuple(map(str, range(num_classes))), sha256="")


def generated_batch(training: Training, num_images: int) -> Batch:
    """Make a batch of normal noise, float32 [N, 3, side, side], and labels."""
    side, classes = training.recipe.image_size, training.model.arch.num_classes
    draws = torch.Generator().manual_seed(training.recipe.seed)
    images = torch.randn(num_images, 3, side, side, generator=draws)
    labels = torch.randint(classes, (num_images,), generator=draws)
    return Batch(images, labels, np.arange(num_images))
