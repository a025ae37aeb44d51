"""`--speed auto`: settings that change how fast a run is, each tried here for a few steps and kept only if faster.

The steps are those of the recipe's own net, loss and mixing, with one micro-batch of generated images.  A setting is
tried on top of those that were kept before it.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch

from resnetkit.assemble import assemble
from resnetkit.data.loader import Batch
from resnetkit.errors import NonFiniteLoss
from resnetkit.forecast import blank_dataset, fitting_pass, generated_batch, seconds, without_data, without_updates
from resnetkit.memory import keep_freed_memory
from resnetkit.provenance import usable_cores
from resnetkit.recipe import Amp, Recipe
from resnetkit.step import train_step
from resnetkit.train import deterministic

SETTINGS = ("keep_freed_memory", "threads", "channels_last", "amp", "compile")  # of a recipe, in the order of trying
PAIRS = 5  # alternations of a trial
FASTER = 0.97  # of the time before: less of a gain is within the noise of so few steps
HOPELESS = 1.5  # of the time before, after the first pair: no more are taken
SIZING_SECONDS = 12.0  # for finding how many images a pass of a trial has
COMPILING_SECONDS = 60.0  # what compiling a net takes at the least: a run that cannot win that back is not compiled


@dataclass(frozen=True)
class Trial:
    """One setting that was tried."""

    setting: str
    before: float | None  # seconds of a pass without it; None: it was not tried
    seconds: float | None  # with it
    kept: bool
    note: str = ""  # why it was not tried, or left out

    def line(self) -> str:
        """Say it in one line."""
        if self.before is None or self.seconds is None:
            return f"speed: {self.setting}: {self.note}"
        word = "kept" if self.kept else "left out"
        note = f" ({self.note})" if self.note else ""
        return f"speed: {self.setting}: {self.seconds:.3g} s a pass, {self.before:.3g} s without: {word}{note}"


@dataclass(frozen=True)
class Bench:
    """What trials are made on."""

    num_classes: int
    device: torch.device
    images: int  # of a pass
    threads: int  # of a recipe that says nothing of them

    def steps_of(self, recipe: Recipe) -> Callable[[], float]:
        """Return what does a step by a recipe, and tells its seconds; the first one chooses kernels, or compiles."""
        plain = replace(without_data(recipe), compile=recipe.compile)
        training = without_updates(assemble(plain, blank_dataset(recipe.image_size, self.num_classes), self.device))
        batch: Batch = generated_batch(training, self.images)

        def step() -> float:
            torch.set_num_threads(recipe.threads or self.threads)
            return seconds(training, lambda: train_step(training, batch, 0))

        return step


def choose_speed(
    recipe: Recipe,
    num_classes: int,
    passes: int,  # forward passes of this process in the whole run: what compiling may win back
    device: torch.device,
    alone: bool = True,  # not one of several processes, whose threads the launcher chose
    say: Callable[[str], None] = lambda line: None,
) -> tuple[Recipe, tuple[Trial, ...]]:
    """Return the recipe with the fastest settings found here, and all that was tried; a minute or a few."""
    trials: list[Trial] = []
    threads = torch.get_num_threads()

    def note(trial: Trial) -> Trial:
        trials.append(trial)
        say(trial.line())
        return trial

    with deterministic():
        try:
            images = images_of_pass(recipe, num_classes, device)
            bench = Bench(num_classes, device, images, threads)
            say(f"speed: passes of {images} generated images, medians of {PAIRS}")
            if device.type == "cpu":
                recipe = replace(recipe, keep_freed_memory=note(try_memory(recipe, bench)).kept)
            for setting, change in changes(recipe, device, threads if alone else 0):
                changed = replace(recipe, **change)
                if change.get("compile") and (reason := too_short(recipe, bench, passes)):
                    note(Trial(setting, None, None, kept=False, note=reason))
                elif note(compare(setting, recipe, changed, bench, passes)).kept:
                    recipe = changed
        finally:
            torch.set_num_threads(threads)
    return recipe, tuple(trials)


def slower_precision(recipe: Recipe, num_classes: int, device: torch.device) -> Trial | None:
    """Return how a recipe's mixed precision compares with float32, where it is slower on this device."""
    if recipe.amp is None:
        return None
    if recipe.keep_freed_memory:
        keep_freed_memory()  # as training does
    half, single = replace(recipe, compile=False), replace(recipe, compile=False, amp=None)
    with deterministic():
        images = images_of_pass(single, num_classes, device, SIZING_SECONDS / 4)
        bench = Bench(num_classes, device, images, torch.get_num_threads())
        trial = compare(f"mixed precision, {recipe.amp.dtype}", single, half, bench, 0)
    slower = trial.before is not None and trial.seconds is not None and trial.before < FASTER * trial.seconds
    return trial if slower else None


def images_of_pass(
    recipe: Recipe, num_classes: int, device: torch.device, budget_seconds: float = SIZING_SECONDS
) -> int:
    """Return how many images a pass of a trial has: the recipe's micro-batch, or what is done in a second or so."""
    training = assemble(without_data(recipe), blank_dataset(recipe.image_size, num_classes), device)
    return fitting_pass(without_updates(training), recipe.microbatch_size, time.perf_counter() + budget_seconds)[0]


def changes(recipe: Recipe, device: torch.device, threads: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield what may make a recipe faster, one after the other, each with its name."""
    if device.type == "cpu" and threads:
        now = recipe.threads or threads
        for count in sorted({1, usable_cores() // 2, usable_cores()} - {0, now}, reverse=True):
            yield f"{count} threads instead of {now}", {"threads": count}
    other = not recipe.channels_last
    yield "channels last" if other else "channels first", {"channels_last": other}
    if recipe.amp is not None:
        yield "float32", {"amp": None}
    for dtype in ("bfloat16", "float16"):
        if recipe.amp is None or recipe.amp.dtype != dtype:
            yield dtype, {"amp": Amp(dtype)}  # float16 with a scale of the loss that grows and shrinks
    if not recipe.compile:
        yield "torch.compile", {"compile": True}


def compare(setting: str, recipe: Recipe, changed: Recipe, bench: Bench, passes: int) -> Trial:
    """Try a change: both sides in turns, after a step of each that does not count."""
    before = bench.steps_of(recipe)
    before()
    try:
        after = bench.steps_of(changed)
        started = time.perf_counter()
        after()
        prepared = time.perf_counter() - started
        times = [(before(), after())]
        while len(times) < PAIRS and times[0][1] < HOPELESS * times[0][0]:
            times.append((before(), after()))
    except (RuntimeError, NonFiniteLoss) as error:  # a kernel that is not there, no compiler, no memory
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return Trial(setting, None, None, kept=False, note=f"not possible here: {reason}")
    old, new = (statistics.median(column) for column in zip(*times, strict=True))
    saved = passes * (old - new) * recipe.microbatch_size / bench.images
    if changed.compile and not recipe.compile and saved < prepared:
        return Trial(setting, old, new, kept=False, note=f"compiling takes {prepared:.0f} s, more than it saves")
    return Trial(setting, old, new, kept=new < FASTER * old)


def too_short(recipe: Recipe, bench: Bench, passes: int) -> str:
    """Say why a run is too short to be compiled; half of its time is more than compiling ever saved."""
    step = bench.steps_of(recipe)
    step()
    left = passes * step() * recipe.microbatch_size / bench.images
    return f"not tried, the run takes {left:.0f} s" if left / 2 < COMPILING_SECONDS else ""


def try_memory(recipe: Recipe, bench: Bench) -> Trial:
    """Try to keep freed memory: first without, then with it, since what was kept is not given back in between."""
    setting = "keeping freed memory"
    step = bench.steps_of(recipe)
    step()
    before = statistics.median(step() for _ in range(PAIRS))
    if not keep_freed_memory():
        return Trial(setting, None, None, kept=False, note="not possible here: this is not glibc")
    step()
    after = statistics.median(step() for _ in range(PAIRS))
    faster = recipe.keep_freed_memory if FASTER * before < after < before / FASTER else after < before
    if not faster:
        keep_freed_memory(keep=False)
    return Trial(setting, before, after, kept=faster)
