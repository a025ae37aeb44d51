"""Training: one loop, from a recipe and data to a run directory.

Everything random is a pure function of the seed and the step, so that a run can stop after any step and
go on from its saved state as if nothing had happened.
"""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from resnetkit import checkpoint
from resnetkit.assemble import Best, Training, assemble
from resnetkit.confidence import LEAST_IMAGES, fitted, temperature_of
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.spec import Split
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest, Interrupted, NonFiniteLoss
from resnetkit.evaluate import Evaluation, evaluate, logits_of
from resnetkit.feed import Dataset, spread
from resnetkit.home import write_json
from resnetkit.interrupt import StopSignals
from resnetkit.journal import Event, Journal, numerics, opened, state_to_go_on_from, writing
from resnetkit.memory import keep_freed_memory
from resnetkit.models.batchnorm import take_precise_statistics
from resnetkit.optim import set_lr
from resnetkit.processes import ALONE, Processes
from resnetkit.progress import StepProgress
from resnetkit.provenance import provenance, versions
from resnetkit.recipe import Plateau, Recipe
from resnetkit.schedule import after_evaluation
from resnetkit.step import Tally, count_parts, microbatches, own_parts, seed_forward, train_step
from resnetkit.training_state import restore, training_facts, training_tensors
from resnetkit.weights_file import metadata_of

MOST_LOGITS = 10_000_000  # that a temperature is fitted to: 10,000 images of 1,000 classes
SHOWN_MISTAKES = 24  # how many mistakes the report shows
REWIND_FACTOR = 0.5  # of the rate, each time a run goes back
SMALLEST_REWIND_FACTOR = 1 / 32  # a run that needs a smaller rate yet has another fault


def train(
    recipe: Recipe,
    dataset: Dataset,
    run: Path,
    *,
    resume: bool = False,
    device: torch.device | None = None,  # CPU
    processes: Processes = ALONE,  # that share the work; each calls this
    max_steps: int | None = None,  # stop, with the state saved, when this many steps are done
    on_event: Callable[[Event], None] = lambda event: None,  # a tracker; gets what metrics.jsonl gets
    told: Event | None = None,  # more facts for the event that starts the run
) -> Evaluation | None:
    """Train into a run directory; returns the evaluation on all test images, None when stopped by max_steps.

    Raises BadRequest before anything is started, NonFiniteLoss, Interrupted (after saving) on a signal.
    """
    where = device or torch.device("cpu")
    with deterministic(), StopSignals() as signals:
        if recipe.keep_freed_memory:
            keep_freed_memory()
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        processes.refuse_differences({"data": dataset.sha256, "versions": versions()})
        goes_on = processes.on_first(lambda: resume and checkpoint.has_state(run))
        training = assemble(recipe, dataset, where, processes, goes_on=goes_on)
        with closing(training.feed.batches), opened(recipe, run, resume, processes):
            state = state_to_go_on_from(run, dataset.sha256, where, processes) if resume else None
            first_step, tally, seconds = 0, Tally(), 0.0
            if state:
                restore(training, state.tensors, state.facts)
                first_step, tally, seconds = state.step, Tally(**state.facts["tally"]), state.facts["seconds"]
            elif processes.size > 1:
                training.model.load_state_dict(processes.share_tensors(training.model.state_dict()))
            last_step = min(training.total_steps, max_steps or training.total_steps)
            if last_step < first_step:
                raise BadRequest(f"max_steps is {last_step}, the run has done {first_step} steps already")
            journal = Journal(run, on_event, time.perf_counter() - seconds, signals, processes)
            facts = {"seed": recipe.seed, "data_sha256": dataset.sha256, "numerics": numerics(where, processes.size)}
            facts |= provenance() | ({"init_sha256": training.init_sha256} if training.init_sha256 else {})
            journal.log({"event": "resume" if state else "start", "step": first_step} | facts | (told or {}))
            if recipe.on_nan == "rewind" and not state:
                save(training, journal, 0, tally)
            done = run_steps(training, journal, first_step, last_step, tally)
            ended = done == training.total_steps or is_exhausted(training)
            return finish(training, dataset, journal, done) if ended else None


@contextmanager
def deterministic() -> Iterator[None]:
    """Use only operations that give the same bits each time; what was set before, threads too, is put back."""
    settings: Any = torch.utils.deterministic
    threads = torch.get_num_threads()
    before, fill = torch.are_deterministic_algorithms_enabled(), settings.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    settings.fill_uninitialized_memory = False  # it would write every new tensor once more than needed
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fill
        torch.set_num_threads(threads)


def run_steps(training: Training, journal: Journal, first_step: int, last_step: int, tally: Tally) -> int:
    """Train from `first_step` to `last_step`, or until early stopping ends it: the loop.  Returns the steps done."""
    recipe, per_epoch = training.recipe, training.feed.batches.steps_per_epoch
    shown = training.processes.is_first
    with StepProgress(recipe.name, training.total_steps, first_step, shown=shown) as progress:

        def evaluate_heldout(done: int) -> None:
            stop = partial(stop_if_asked, training, journal, done, tally)
            outcome = evaluate_kept(training, training.feed.heldout, done, stop)
            heed(training, outcome, done)
            journal.log({"event": "eval", "step": done, "split": training.feed.heldout_name} | figures(outcome))
            progress.say(f"step {done}: {training.feed.heldout_name} top-1 {100 * outcome.top1:.2f} %")

        lap_seconds, lap_images, step = 0.0, 0, first_step
        while step < last_step:
            if eval_is_due(training, step):
                evaluate_heldout(step)
                if is_exhausted(training):
                    progress.say(f"no better for {waited(training)} evaluations: ended after step {step}")
                    return step
            started = time.perf_counter()
            lr = set_lr(training.optimizer, training.lr_of(step))
            try:
                step_tally = train_step(training, training.feed.batches.at(step), step)
            except NonFiniteLoss as error:
                step, tally = rewind(training, journal, step, error)
                progress.go_back_to(step, f"{error.what}: back to step {step}, half the rate")
                continue
            tally.add(step_tally)
            lap_seconds, lap_images = lap_seconds + time.perf_counter() - started, lap_images + step_tally.images
            done = step = step + 1
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
        if last_step == training.total_steps and training.feed.heldout_name == "val":
            evaluate_heldout(last_step)
    return last_step


def is_exhausted(training: Training) -> bool:
    """Say whether early stopping ends a run: enough evaluations were not better than the best one."""
    stopping = training.recipe.early_stopping
    return stopping is not None and waited(training) >= stopping.patience_evaluations


def waited(training: Training) -> int:
    """Return how many evaluations there were since the best one."""
    return training.best.waited if training.best else 0


def stop_if_asked(training: Training, journal: Journal, done: int, tally: Tally, images: int = 0) -> None:
    """Save and raise Interrupted if a signal came; may be called after each batch (of `images`) of an evaluation."""
    number = journal.signal()
    if number is not None:
        save(training, journal, done, tally)
        what = f"stopped by a signal after step {done} of {training.total_steps}; the state is saved"
        raise Interrupted(number, what, f"next: resnetkit train --resume --out {shlex.quote(str(journal.run))}")


def eval_is_due(training: Training, step: int) -> bool:
    """Say whether the weights that `step` begins with are to be evaluated."""
    every_steps = max(1, round(training.recipe.eval_every_epochs * training.feed.batches.steps_per_epoch))
    starts_fitted = training.recipe.frozen_start is not None  # the weights before the first step may be the best
    return (step > 0 or starts_fitted) and step % every_steps == 0


def save(training: Training, journal: Journal, done: int, tally: Tally) -> None:
    """Save all that the next step needs, `done` steps into the run: the first process does, the others wait for it."""
    facts = {
        "tally": asdict(tally),
        "data_sha256": training.feed.data_sha256,
        "numerics": numerics(training.device, training.processes.size),
        "seconds": journal.seconds(),
    } | training_facts(training)

    def write() -> None:
        with writing(journal.run, f"the state of step {done}"):
            checkpoint.sync_events(journal.run)  # the state counts them as written
            state = checkpoint.State(done, training_tensors(training), facts)
            checkpoint.save_state(journal.run, state, kept_step=last_regular_save(training.recipe, done))

    training.processes.on_first(write)


def last_regular_save(recipe: Recipe, done: int) -> int:
    """Return after how many steps a run saved last that was never stopped."""
    return done - done % recipe.save_every_steps


def rewind(training: Training, journal: Journal, step: int, error: NonFiniteLoss) -> tuple[int, Tally]:
    """Go back to the last regular save and halve the rate from there on; raise the error where the recipe says stop.

    A resumed run does all of it again in the same way: what a stop saved in between is passed over.
    """
    factor = training.rewound_factor * REWIND_FACTOR
    if training.recipe.on_nan == "stop" or factor < SMALLEST_REWIND_FACTOR:
        raise error
    target = last_regular_save(training.recipe, step)
    data, where = training.feed.data_sha256, training.device
    state = state_to_go_on_from(journal.run, data, where, training.processes, target)
    assert state, "a run that may go back saves a state before its first step"
    training.processes.on_first(lambda: checkpoint.drop_states_after(journal.run, target))
    restore(training, state.tensors, state.facts)
    training.rewound_factor = factor
    journal.log({"event": "rewind", "step": state.step, "from_step": step, "lr_factor": factor, "why": str(error)})
    return state.step, Tally(**state.facts["tally"])


def evaluate_kept(
    training: Training, split: Split | PhotoSplit, done: int, on_batch: Callable[[int], None] = lambda count: None
) -> Evaluation:
    """Evaluate the weights that would be kept if the run ended now, after `done` steps."""
    return evaluate(kept_engine(training, done), split, on_batch=on_batch, processes=training.processes)


def kept_engine(training: Training, done: int) -> TorchEngine:
    """Return the weights that would be kept if the run ended now, with the statistics that go with them."""
    processes = training.processes
    if training.recipe.precise_bn_images:
        seed_forward(training.recipe.seed, done, 0)
        sum_up = processes.sum if processes.size > 1 else None
        take_precise_statistics(training.kept_model, recent_images(training, done), sum_up)
    return TorchEngine(training.kept_model, training.feed.preprocess, training.device)


def recent_images(training: Training, done: int) -> Iterator[Tensor]:
    """Yield this process's micro-batches of the last steps, as many images as precise statistics are taken of."""
    batches = math.ceil(training.recipe.precise_bn_images / training.recipe.batch_size)
    left = training.recipe.precise_bn_images
    for step in range(max(done - batches, 0), done):
        batch = training.feed.batches.at(step)
        own = dict(zip(own_parts(training, batch), microbatches(training, batch), strict=True))
        parts = count_parts(training, batch)
        for part in range(parts):
            if left > 0 and part in own:
                yield own[part][0]
            left -= len(batch.indices[part::parts])


def heed(training: Training, outcome: Evaluation, done: int) -> None:
    """Let early stopping and a plateau schedule know what an evaluation after `done` steps gave."""
    if training.recipe.early_stopping:
        best = training.best
        if best is None or outcome.loss < best.loss:
            weights = {name: value.detach().clone() for name, value in training.kept_model.state_dict().items()}
            training.best = Best(done, outcome.loss, 0, weights)
        else:
            best.waited += 1
    if isinstance(training.recipe.schedule, Plateau):
        training.plateau = after_evaluation(training.plateau, 1.0 - outcome.top1, **vars(training.recipe.schedule))


def figures(outcome: Evaluation) -> Event:
    """Return the figures of an evaluation that go into metrics.jsonl."""
    return {"images": outcome.images, "top1": outcome.top1, "top5": outcome.top5, "loss": outcome.loss}


def origin(recipe: Recipe, run: Path) -> Event | None:
    """Return the weights that a run started from, None where it drew its own."""
    if recipe.init_from is None:
        return None
    started = next(event for event in checkpoint.read_events(run) if "init_sha256" in event)
    return {"init_from": Path(recipe.init_from).name, "sha256": started["init_sha256"]}


def finish(training: Training, dataset: Dataset, journal: Journal, done: int) -> Evaluation:
    """Evaluate the weights after `done` steps, or the best ones, on all test images; keep them with what they are."""
    stop = partial(stop_if_asked, training, journal, done, Tally())
    if training.best:
        training.kept_model.load_state_dict(training.best.weights)
    engine, processes = kept_engine(training, done), training.processes
    temperature = heldout_temperature(engine, training, stop)
    engine = replace(engine, temperature=temperature_of({"temperature": temperature}))
    outcome = evaluate(engine, dataset.test, on_batch=stop, processes=processes)
    recipe = training.recipe
    about = {
        "recipe": recipe.name,
        "data": {"name": dataset.name, "sha256": dataset.sha256},
        "metrics": {f"{dataset.name} test": figures(outcome)},
        "license": None,  # the run's owner decides
        "origin": processes.on_first(lambda: origin(recipe, journal.run)),
        "temperature": temperature,
    }
    metadata = metadata_of(training.model.arch, training.feed.preprocess, dataset.class_names, about)

    def keep() -> str:
        with writing(journal.run, "the weights"):
            return keep_outcome(training, dataset, journal, outcome, metadata)

    sha256 = processes.on_first(keep)
    told = {"weights_sha256": sha256, "seconds": journal.seconds()} | figures(outcome)
    journal.log({"event": "test", "step": done} | told | best_step(training))
    return outcome


def heldout_temperature(engine: TorchEngine, training: Training, on_batch: Callable[[int], None]) -> Event | None:
    """Fit a temperature to images of val, evenly spread ones if they are many; None without val, or with too little."""
    feed = training.feed
    if feed.heldout_name != "val":
        return None
    most = max(MOST_LOGITS // len(feed.class_names), LEAST_IMAGES)
    split = feed.heldout if len(feed.heldout) <= most else feed.heldout.part(spread(len(feed.heldout), most))
    return fitted(*logits_of(engine, split, on_batch=on_batch, processes=training.processes))


def best_step(training: Training) -> Event:
    """Return the step that the kept weights are of, where it need not be the last one."""
    return {"best_step": training.best.step} if training.best else {}


def keep_outcome(
    training: Training, dataset: Dataset, journal: Journal, outcome: Evaluation, metadata: dict[str, Any]
) -> str:
    """Write the weights and evaluation.json; returns the SHA-256 of the weights file."""
    recipe, weights = training.recipe, training.kept_model.state_dict()
    sha256 = checkpoint.save_weights(journal.run / checkpoint.WEIGHTS, weights, metadata)
    facts = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": {"name": dataset.name, "split": "test", "sha256": dataset.sha256},
        "weights_sha256": sha256,
        "seconds": journal.seconds(),
        "mistakes": outcome.mistakes(SHOWN_MISTAKES),
        "provenance": provenance() | {"commit": checkpoint.last_commit(journal.run)},
    }
    write_json(journal.run / checkpoint.EVALUATION, outcome.to_json(dataset.class_names) | facts)
    return sha256
