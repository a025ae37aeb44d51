"""Learning-rate factors as pure functions of the step.

Each function returns the factor by which the recipe's learning rate is multiplied at `step` (counted from 0);
`assemble.py` multiplies the factors of the schedule and of the warm-up.  A plateau depends on what was evaluated: it
is a state that each evaluation turns into the next.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace


def step_decay(step: int, *, drop_steps: Sequence[int], drop_factor: float) -> float:
    """Multiply by `drop_factor` at each of `drop_steps`; the drop counts from that step on."""
    return drop_factor ** bisect_right(drop_steps, step)


def cosine(step: int, *, total_steps: int, final_factor: float = 0.0) -> float:
    """Fall from 1 at step 0 to `final_factor` at `total_steps` on half a cosine (arXiv 1608.03983)."""
    progress = min(step / total_steps, 1.0)
    return final_factor + (1.0 - final_factor) * (1.0 + math.cos(math.pi * progress)) / 2.0


def linear(step: int, *, total_steps: int, final_factor: float = 0.0) -> float:
    """Fall from 1 at step 0 to `final_factor` at `total_steps` on a straight line."""
    progress = min(step / total_steps, 1.0)
    return 1.0 + (final_factor - 1.0) * progress


def linear_warmup(step: int, *, warmup_steps: int, start_factor: float) -> float:
    """Rise from `start_factor` at step 0 to 1 at `warmup_steps` on a straight line."""
    if step >= warmup_steps:
        return 1.0
    return start_factor + (1.0 - start_factor) * step / warmup_steps


def constant_warmup(step: int, *, warmup_steps: int, start_factor: float) -> float:
    """Stay at `start_factor` before `warmup_steps`: the paper's warm-up of the 110-layer net."""
    return start_factor if step < warmup_steps else 1.0


@dataclass(frozen=True)
class PlateauState:
    """Where a plateau schedule is: the factor of the rate, and what it was last dropped or kept for."""

    factor: float = 1.0
    best_error: float = math.inf
    waited: int = 0  # evaluations since the error was best, or since the last drop


def after_evaluation(
    state: PlateauState, error: float, *, drop_factor: float, patience_evaluations: int, min_improvement: float
) -> PlateauState:
    """Return the state after an evaluation that gave `error`, a fraction.

    The rate drops when `patience_evaluations` in a row were not better than the best by `min_improvement`.
    """
    if error < state.best_error - min_improvement:
        return replace(state, best_error=error, waited=0)
    if state.waited + 1 < patience_evaluations:
        return replace(state, waited=state.waited + 1)
    return replace(state, factor=state.factor * drop_factor, waited=0)
