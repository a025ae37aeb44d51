"""One optimizer step, in micro-batches."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnetkit.assemble import Training
from resnetkit.data.loader import Batch
from resnetkit.data.mix import mix
from resnetkit.data.transforms import random_stream
from resnetkit.errors import NonFiniteLoss
from resnetkit.losses import one_hot
from resnetkit.models.batchnorm import keep_statistics

FORWARD, MIX = 2_000_000, 3_000_000  # the random streams of forward passes (drop path) and of mixing
NAMED_IMAGES = 8  # how many images of a bad batch are named


@dataclass
class Tally:
    """Sums over the steps since the last logged one; saved with the state."""

    loss_sum: float = 0.0  # nats, over images
    correct: int = 0
    images: int = 0

    def add(self, other: Tally) -> None:
        """Add the sums of one more step."""
        self.loss_sum += other.loss_sum
        self.correct += other.correct
        self.images += other.images


def train_step(training: Training, batch: Batch, step: int) -> Tally:
    """Do one optimizer step, in micro-batches; returns what the weights before it made of the batch.

    Micro-batch k is every `devices`-th image from the k-th on: what device k of the recipe would have had.  Of several
    processes each takes its share of them; gradients and tally are then summed.
    """
    training.model.train()
    if training.recipe.batchnorm == "running":
        keep_statistics(training.model)
    training.optimizer.zero_grad(set_to_none=True)
    training.together.begin()
    tally, own = Tally(images=len(batch.indices)), own_parts(training, batch)
    for part, (plain_images, labels) in zip(own, microbatches(training, batch), strict=True):
        with training.together.pass_of(part, is_last=part == own[-1]):
            seed_forward(training.recipe.seed, step, part)
            images, targets = mixed(training, plain_images, labels, step, part)
            with autocast(training):
                logits = training.forward(images)
            loss = training.loss(logits.float() if training.recipe.amp else logits, targets)
            training.scaler.scale(loss * (len(labels) / tally.images)).backward()  # type: ignore[no-untyped-call]
        tally.loss_sum += loss.item() * len(labels)
        wanted = targets.argmax(1) if targets.is_floating_point() else targets
        tally.correct += int((logits.detach().argmax(1) == wanted).sum())
    training.together.finish(count_parts(training, batch))
    tally.loss_sum, correct = training.processes.sums(tally.loss_sum, tally.correct)
    tally.correct = int(correct)
    if not np.isfinite(tally.loss_sum):
        raise NonFiniteLoss(*describe_bad_batch(training, batch.indices, step, tally.loss_sum))
    take_step(training)
    if training.ema:
        training.ema.update(training.model)
    return tally


def count_parts(training: Training, batch: Batch) -> int:
    """Return how many micro-batches a batch has, of all processes: a small last one may have fewer than others."""
    return min(training.recipe.devices, len(batch.indices))


def own_parts(training: Training, batch: Batch) -> range:
    """Return the numbers of this process's micro-batches."""
    return range(training.processes.rank, count_parts(training, batch), training.processes.size)


def microbatches(training: Training, batch: Batch) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the images and labels of each of this process's micro-batches, on the training's device."""
    layout = torch.channels_last if training.recipe.channels_last else torch.contiguous_format
    parts = len(own_parts(training, batch))
    for place in range(parts):  # of a share's images, too, a micro-batch is every so many-th
        images = batch.inputs(slice(place, None, parts), training.device)
        yield images.contiguous(memory_format=layout), batch.labels[place::parts].to(training.device)


def mixed(training: Training, images: Tensor, labels: Tensor, step: int, part: int) -> tuple[Tensor, Tensor]:
    """Return a micro-batch as the recipe mixes it; labels stay labels where it does not."""
    if not training.mixes:
        return images, labels
    targets = one_hot(labels, training.model.arch.num_classes)
    return mix(images, targets, training.mixes, random_stream(training.recipe.seed, MIX, step, part))


def autocast(training: Training) -> AbstractContextManager[object]:
    """Return the context of a forward pass in the recipe's precision."""
    amp = training.recipe.amp
    return torch.autocast(training.device.type, getattr(torch, amp.dtype)) if amp else nullcontext()


def take_step(training: Training) -> None:
    """Change the weights by the gradients; not where a scaled gradient is not finite, which then changes the scale."""
    recipe, scaler = training.recipe, training.scaler
    scaler.unscale_(training.optimizer)
    if recipe.clip_grad_norm is not None:
        torch.nn.utils.clip_grad_norm_(training.model.parameters(), recipe.clip_grad_norm)
    scaler.step(training.optimizer)
    # A constant scale stays even after a step that was left out, as in OpenMMLab's.
    scaler.update(recipe.amp.loss_scale if recipe.amp else None)


def seed_forward(seed: int, step: int, part: int) -> None:
    """Seed what a forward pass draws, so that it depends on nothing before it."""
    torch.manual_seed(int(random_stream(seed, FORWARD, step, part).integers(2**63)))


def describe_bad_batch(training: Training, indices: NDArray[np.int64], step: int, loss: float) -> tuple[str, ...]:
    """Say where a loss stopped being finite."""
    epoch, position = divmod(step, training.feed.batches.steps_per_epoch)
    named = ", ".join(training.feed.name_of(int(index)) for index in indices[:NAMED_IMAGES])
    return (
        f"the loss is {loss} at step {step}",
        f"got it from batch {position} of epoch {epoch}: training images {named}, ... ({len(indices)} in all)",
        f"at learning rate {training.lr_of(step):g}; this step did not change the weights",
        "next: a new run with a smaller rate or a warm-up, as --set optim.lr=..., or one with --on-nan rewind; "
        "what was saved before is whole",
    )
