"""What a run directory and a running process have to do with each other: opening, locking, logging, going on."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetkit import checkpoint
from resnetkit.errors import BadRequest, SaveFailed
from resnetkit.home import locked
from resnetkit.interrupt import StopSignals
from resnetkit.processes import Processes
from resnetkit.recipe import Recipe
from resnetkit.recipe_json import recipe_differences

Event = dict[str, Any]


@dataclass(frozen=True)
class Journal:
    """Where a run writes what happens, since when it has been at work, and whether it is asked to stop."""

    run: Path
    on_event: Callable[[Event], None]
    began: float  # of time.perf_counter; earlier parts of a resumed run count
    signals: StopSignals
    processes: Processes

    def log(self, event: Event) -> None:
        """Write an event to metrics.jsonl and to the tracker: the first process's, what the others know is the same."""
        if self.processes.is_first:
            with writing(self.run, f"what happened at step {event['step']}"):
                checkpoint.append_event(self.run, event)
            self.on_event(event)

    def signal(self) -> int | None:
        """Return a signal that any process has received; all processes ask at the same moment."""
        return self.processes.largest(self.signals.received or 0) or None

    def seconds(self) -> float:
        """Return how long the run has been at work."""
        return time.perf_counter() - self.began


@contextmanager
def writing(run: Path, what: str) -> Iterator[None]:
    """Say of a write that fails what is whole, and how the run goes on."""
    try:
        yield
    except OSError as error:
        states = sorted((run / checkpoint.STATE).glob("step-*"))
        whole = f"the state of step {int(states[-1].name[5:])} is whole" if states else "no state was saved before"
        next_step = (
            f"next: make room, or the folder writable, and: resnetkit train --resume --out {shlex.quote(str(run))}"
        )
        where = f"{error.filename}: " if error.filename else ""
        raise SaveFailed(f"{what} could not be saved: {where}{error.strerror}", whole, next_step) from error


@contextmanager
def opened(recipe: Recipe, run: Path, resume: bool, processes: Processes) -> Iterator[None]:
    """Make the run directory, or reopen it for the same recipe, and hold it alone: the first process does."""
    with ExitStack() as stack:

        def open_it() -> None:
            stack.enter_context(opened_here(recipe, run, resume))

        processes.on_first(open_it)
        yield


@contextmanager
def opened_here(recipe: Recipe, run: Path, resume: bool) -> Iterator[None]:
    """Make or reopen a run directory, and hold it alone."""
    if resume:
        stored = checkpoint.run_recipe(run)
        differences = recipe_differences(replace(stored, data=recipe.data), recipe)  # the data's hash tells
        if differences:
            raise BadRequest(f"{run} was started with another recipe", *differences, "next: give another --out")
    else:
        checkpoint.start_run(run, recipe)

    def refuse() -> None:
        raise BadRequest(f"another process is training in {run}", "next: wait for it, or give another --out")

    (run / checkpoint.STATE).mkdir(exist_ok=True)  # somebody may have removed it
    with locked(run / checkpoint.STATE / "lock", on_wait=refuse):
        yield


def state_to_go_on_from(
    run: Path, data_sha256: str, device: torch.device, processes: Processes, step: int | None = None
) -> checkpoint.State | None:
    """Return the state that a run goes on from, the newest or that of a step; later events are taken out.

    None where none was saved yet.  The first process reads it: the others need not see the run directory.
    """
    found: list[checkpoint.State] = []

    def read() -> dict[str, Any] | None:
        state = checked_state(run, data_sha256, device, processes.size, step)
        found.extend([state] if state else [])
        return {"step": state.step, "facts": state.facts} if state else None

    about = processes.on_first(read)
    if about is None:
        return None
    return checkpoint.State(tensors=processes.share_tensors(found[0].tensors if found else {}), **about)


def checked_state(
    run: Path, data_sha256: str, device: torch.device, processes: int, step: int | None
) -> checkpoint.State | None:
    """Read the state that a run goes on from, warn of what is no longer as it was, and take out later events."""
    state = checkpoint.load_state(run, step)
    if state is None:
        warn(f"no state was saved in {run} yet: the run starts at step 0")
    elif state.facts["data_sha256"] != data_sha256:
        expected = f"expected sha256 {state.facts['data_sha256']}"
        raise BadRequest(f"{run} was started with other data", f"got sha256 {data_sha256}", expected)
    else:
        before = state.facts["numerics"]
        for name, now in numerics(device, processes).items():
            if before.get(name, now) != now:
                warn(f"{name} was {before[name]} and is {now}: the run goes on, but not bit for bit")
    with writing(run, "the events before the resumed step"):
        checkpoint.drop_redone_events(run, state.step if state else -1)
    return state


def numerics(device: torch.device, processes: int) -> dict[str, str]:
    """Return what decides rounding beside the recipe: a run goes on bit for bit only where these are the same."""
    threads = f"{torch.get_num_threads()}"
    return {"torch": torch.__version__, "device": device.type, "threads": threads, "processes": f"{processes}"}


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {text}", file=sys.stderr)
