"""What a run directory and a running process have to do with each other: opening, locking, logging, going on."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from resnetkit import checkpoint
from resnetkit.errors import BadRequest
from resnetkit.home import locked
from resnetkit.interrupt import StopSignals
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

    def log(self, event: Event) -> None:
        """Write an event to metrics.jsonl and to the tracker."""
        checkpoint.append_event(self.run, event)
        self.on_event(event)

    def seconds(self) -> float:
        """Return how long the run has been at work."""
        return time.perf_counter() - self.began


@contextmanager
def opened(recipe: Recipe, run: Path, resume: bool) -> Iterator[None]:
    """Make the run directory, or reopen it for the same recipe, and hold it alone."""
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


def state_to_go_on_from(run: Path, data_sha256: str, device: torch.device) -> checkpoint.State | None:
    """Return the state that a resumed run goes on from, None where none was saved yet; later events are taken out."""
    state = checkpoint.load_state(run)
    if state is None:
        warn(f"no state was saved in {run} yet: the run starts at step 0")
    elif state.facts["data_sha256"] != data_sha256:
        expected = f"expected sha256 {state.facts['data_sha256']}"
        raise BadRequest(f"{run} was started with other data", f"got sha256 {data_sha256}", expected)
    else:
        before = state.facts["numerics"]
        for name, now in numerics(device).items():
            if before[name] != now:
                warn(f"{name} was {before[name]} and is {now}: the run goes on, but not bit for bit")
    checkpoint.drop_redone_events(run, state.step if state else -1)
    return state


def numerics(device: torch.device) -> dict[str, str]:
    """Return what decides rounding beside the recipe: a run goes on bit for bit only where these are the same."""
    return {"torch": torch.__version__, "device": device.type, "threads": f"{torch.get_num_threads()}"}


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {text}", file=sys.stderr)
