"""Training: one loop, from a recipe and data to a run directory.

Everything random is a pure function of the seed and the step, so that a run can stop after any step and
go on from its saved state as if nothing had happened.
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit import checkpoint
from resnetkit.assemble import Training, assemble, restore_tensors, training_tensors
from resnetkit.data.loader import Batch
from resnetkit.data.sources import ArrayDataset, Split
from resnetkit.data.transforms import random_stream
from resnetkit.errors import BadRequest, Interrupted, NonFiniteLoss
from resnetkit.evaluate import Evaluation, evaluate
from resnetkit.home import write_json
from resnetkit.interrupt import StopSignals
from resnetkit.journal import Event, Journal, numerics, opened, state_to_go_on_from
from resnetkit.losses import cross_entropy
from resnetkit.memory import keep_freed_memory
from resnetkit.progress import StepProgress
from resnetkit.provenance import provenance
from resnetkit.recipe import Recipe

FORWARD = 2_000_000  # the random stream of forward passes (drop path)
NAMED_IMAGES = 8  # how many images of a bad batch are named
SHOWN_MISTAKES = 24  # how many mistakes the report shows


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


def train(
    recipe: Recipe,
    dataset: ArrayDataset,
    run: Path,
    *,
    resume: bool = False,
    device: torch.device | None = None,  # CPU
    max_steps: int | None = None,  # stop, with the state saved, when this many steps are done
    on_event: Callable[[Event], None] = lambda event: None,  # a tracker; gets what metrics.jsonl gets
) -> Evaluation | None:
    """Train into a run directory; returns the evaluation on all test images, None when stopped by max_steps.

    Raises BadRequest before anything is started, NonFiniteLoss, Interrupted (after saving) on a signal.
    """
    where = device or torch.device("cpu")
    with deterministic(), StopSignals() as signals:
        keep_freed_memory()
        training = assemble(recipe, dataset, where)
        with opened(recipe, run, resume):
            state = state_to_go_on_from(run, dataset.sha256, where) if resume else None
            first_step, tally, seconds = 0, Tally(), 0.0
            if state:
                restore_tensors(training, state.tensors)
                first_step, tally, seconds = state.step, Tally(**state.facts["tally"]), state.facts["seconds"]
            last_step = min(training.total_steps, max_steps or training.total_steps)
            if last_step < first_step:
                raise BadRequest(f"max_steps is {last_step}, the run has done {first_step} steps already")
            journal = Journal(run, on_event, time.perf_counter() - seconds, signals)
            facts = {"seed": recipe.seed, "data_sha256": dataset.sha256, "numerics": numerics(where)} | provenance()
            journal.log({"event": "resume" if state else "start", "step": first_step} | facts)
            run_steps(training, journal, first_step, last_step, tally)
            return finish(training, dataset, journal) if last_step == training.total_steps else None


@contextmanager
def deterministic() -> Iterator[None]:
    """Use only operations that give the same bits each time."""
    settings: Any = torch.utils.deterministic
    before, fill = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # it would write every new tensor once more than needed
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fill


def run_steps(training: Training, journal: Journal, first_step: int, last_step: int, tally: Tally) -> None:
    """Train from `first_step` to `last_step`: the loop."""
    recipe, per_epoch = training.recipe, training.batches.steps_per_epoch
    with StepProgress(recipe.name, training.total_steps, first_step) as progress:

        def evaluate_heldout(done: int) -> None:
            stop = partial(stop_if_asked, training, journal, done, tally)
            outcome = evaluate_kept(training, training.heldout, stop)
            journal.log({"event": "eval", "step": done, "split": training.heldout_name} | figures(outcome))
            progress.say(f"step {done}: {training.heldout_name} top-1 {100 * outcome.top1:.2f} %")

        lap_seconds, lap_images = 0.0, 0
        for step in range(first_step, last_step):
            if eval_is_due(training, step):
                evaluate_heldout(step)
            started = time.perf_counter()
            lr = set_lr(training.optimizer, training.lr_at(step))
            step_tally = train_step(training, training.batches.at(step), step)
            tally.add(step_tally)
            lap_seconds, lap_images = lap_seconds + time.perf_counter() - started, lap_images + step_tally.images
            done = step + 1
            progress.advance()
            if done % recipe.log_every_steps == 0 or done == training.total_steps:
                rate, loss, top1 = lap_images / lap_seconds, tally.loss_sum / tally.images, tally.correct / tally.images
                journal.log({"event": "train", "step": done, "epoch": done / per_epoch, "lr": lr, "loss": loss,
                     "top1": top1, "images_per_second": rate})  # fmt: skip
                progress.note(f"epoch {done / per_epoch:.2f}  loss {loss:.3f}  lr {lr:.4f}  {rate:.0f} images/s")
                tally, lap_seconds, lap_images = Tally(), 0.0, 0
            if done == last_step or done % recipe.save_every_steps == 0:
                save(training, journal, done, tally)
            stop_if_asked(training, journal, done, tally)
        if last_step == training.total_steps and recipe.val_images:
            evaluate_heldout(last_step)


def stop_if_asked(training: Training, journal: Journal, done: int, tally: Tally, images: int = 0) -> None:
    """Save and raise Interrupted if a signal came; may be called after each batch (of `images`) of an evaluation."""
    number = journal.signals.received
    if number is not None:
        save(training, journal, done, tally)
        what = f"stopped by a signal after step {done} of {training.total_steps}; the state is saved"
        raise Interrupted(number, what, f"next: resnetkit train --resume --out {shlex.quote(str(journal.run))}")


def eval_is_due(training: Training, step: int) -> bool:
    """Say whether the weights that `step` begins with are to be evaluated."""
    every_steps = max(1, round(training.recipe.eval_every_epochs * training.batches.steps_per_epoch))
    return step > 0 and step % every_steps == 0


def train_step(training: Training, batch: Batch, step: int) -> Tally:
    """Do one optimizer step, in micro-batches; returns what the weights before it made of the batch."""
    recipe = training.recipe
    training.model.train()
    training.optimizer.zero_grad(set_to_none=True)
    layout = torch.channels_last if recipe.channels_last else torch.contiguous_format
    images = batch.images.to(training.device, memory_format=layout)
    labels = batch.labels.to(training.device)
    parts = min(recipe.batch_size // recipe.microbatch_size, len(labels))
    tally = Tally(images=len(labels))
    for part, (some_images, some_labels) in enumerate(
        zip(images.tensor_split(parts), labels.tensor_split(parts), strict=True)
    ):
        seed_forward(recipe.seed, step, part)
        logits = training.forward(some_images)
        loss = cross_entropy(logits, some_labels, label_smoothing=recipe.label_smoothing)
        (loss * (len(some_labels) / len(labels))).backward()  # type: ignore[no-untyped-call]
        tally.loss_sum += loss.item() * len(some_labels)
        tally.correct += int((logits.detach().argmax(1) == some_labels).sum())
    if not np.isfinite(tally.loss_sum):
        raise NonFiniteLoss(*describe_bad_batch(training, batch.indices, step, tally.loss_sum))
    training.optimizer.step()
    if training.ema:
        training.ema.update(training.model)
    return tally


def seed_forward(seed: int, step: int, part: int) -> None:
    """Seed what a forward pass draws, so that it depends on nothing before it."""
    torch.manual_seed(int(random_stream(seed, FORWARD, step, part).integers(2**63)))


def describe_bad_batch(training: Training, indices: NDArray[np.int64], step: int, loss: float) -> tuple[str, ...]:
    """Say where a loss stopped being finite."""
    epoch, position = divmod(step, training.batches.steps_per_epoch)
    named = ", ".join(map(str, indices[:NAMED_IMAGES]))
    return (
        f"the loss is {loss} at step {step}",
        f"got it from batch {position} of epoch {epoch}: training images {named}, ... ({len(indices)} in all)",
        f"at learning rate {training.lr_at(step):g}; this step did not change the weights",
        "next: a new run with a smaller rate or a warm-up, as --set optim.lr=...; what was saved before is whole",
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> float:
    """Give every parameter group the rate."""
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def save(training: Training, journal: Journal, done: int, tally: Tally) -> None:
    """Save all that the next step needs, `done` steps into the run."""
    checkpoint.sync_events(journal.run)  # the state counts them as written
    facts = {
        "tally": asdict(tally),
        "data_sha256": training.data_sha256,
        "numerics": numerics(training.device),
        "seconds": journal.seconds(),
    }
    checkpoint.save_state(journal.run, checkpoint.State(done, training_tensors(training), facts))


def evaluate_kept(training: Training, split: Split, on_batch: Callable[[int], None] = lambda count: None) -> Evaluation:
    """Evaluate the weights that would be kept if the run ended now."""
    return evaluate(
        training.kept_model,
        split.images,
        split.labels,
        normalize=training.preprocess.normalize,
        device=training.device,
        on_batch=on_batch,
    )


def figures(outcome: Evaluation) -> Event:
    """Return the figures of an evaluation that go into metrics.jsonl."""
    return {"images": outcome.images, "top1": outcome.top1, "top5": outcome.top5, "loss": outcome.loss}


def finish(training: Training, dataset: ArrayDataset, journal: Journal) -> Evaluation:
    """Evaluate the last step's weights on all test images and keep them with what they are."""
    stop = partial(stop_if_asked, training, journal, training.total_steps, Tally())
    outcome = evaluate_kept(training, dataset.test, stop)
    recipe = training.recipe
    metadata = {
        "architecture": asdict(training.model.arch),
        "class_names": dataset.class_names,
        "preprocess": training.preprocess.to_json(),
        "recipe": recipe.name,
        "data": {"name": dataset.name, "sha256": dataset.sha256},
        "metrics": {f"{dataset.name} test": figures(outcome)},
        "license": None,  # the run's owner decides
    }
    sha256 = checkpoint.save_weights(journal.run / checkpoint.WEIGHTS, training.kept_model.state_dict(), metadata)
    facts = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": {"name": dataset.name, "split": "test", "sha256": dataset.sha256},
        "weights_sha256": sha256,
        "seconds": journal.seconds(),
        "mistakes": outcome.mistakes(SHOWN_MISTAKES),
        "provenance": provenance(),
    }
    write_json(journal.run / checkpoint.EVALUATION, outcome.to_json(dataset.class_names) | facts)
    told = {"weights_sha256": sha256, "seconds": journal.seconds()} | figures(outcome)
    journal.log({"event": "test", "step": training.total_steps} | told)
    return outcome
