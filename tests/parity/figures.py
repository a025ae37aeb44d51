"""What a comparison leaves behind: one figure with its bound."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Array = Tensor | NDArray[Any]


@dataclass(frozen=True)
class Figure:
    """One thing of ours compared with one peer."""

    question: str  # what is compared: "logits", "learning rate", ...
    subject: str  # of which row, net or setting
    peer: str  # the library, or the document, that gave the other side
    error: float
    bound: float  # the error must be below; 0: the two must be equal

    @property
    def passed(self) -> bool:
        """Say whether the bound is kept; NaN never is."""
        return self.error == 0 if self.bound == 0 else self.error < self.bound


def relative_error(ours: Array, theirs: Array) -> float:
    """Return max|ours - theirs| / max|theirs|, in float64; infinite for other shapes or when theirs is all zero."""
    a, b = as_float64(ours), as_float64(theirs)
    if a.shape != b.shape or not np.abs(b).max() > 0:
        return float("inf")
    return float(np.abs(a - b).max() / np.abs(b).max())


def absolute_error(ours: Array, theirs: Array) -> float:
    """Return max|ours - theirs|, in float64; infinite for other shapes."""
    a, b = as_float64(ours), as_float64(theirs)
    return float(np.abs(a - b).max()) if a.shape == b.shape else float("inf")


def worst_error(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """Return the largest relative error of tensors of equal names; infinite where the names differ."""
    if ours.keys() != theirs.keys() or not ours:
        return float("inf")
    return largest(relative_error(ours[name], theirs[name]) for name in ours)


def largest(errors: Iterable[float]) -> float:
    """Return the largest error; NaN if one is NaN, which max() would pass over."""
    return float(np.max(list(errors)))


def as_float64(values: Array) -> NDArray[np.float64]:
    """Copy to a float64 array."""
    array = values.detach().numpy() if isinstance(values, Tensor) else values
    return array.astype(np.float64)


def to_json(figures: list[Figure]) -> list[dict[str, Any]]:
    """Return the figures as JSON data."""
    return [asdict(figure) | {"passed": figure.passed} for figure in figures]


def table(figures: list[Figure]) -> list[str]:
    """Write a table: a line for each question and peer with the worst figure, and one for every figure that failed."""
    lines = [f"{'question':<34}{'peer':<16}{'compared':>9}{'worst error':>13}{'bound':>8}  result"]
    by_group = sorted(figures, key=lambda figure: (figure.question, figure.peer))
    for (question, peer), group in groupby(by_group, key=lambda figure: (figure.question, figure.peer)):
        found = list(group)
        failed = [figure for figure in found if not figure.passed]
        worst, bound = largest(figure.error for figure in found), max(figure.bound for figure in found)
        result = f"{len(failed)} FAILED" if failed else "pass"
        lines.append(f"{question:<34}{peer:<16}{len(found):>9}{worst:>13.2e}{bound or 'equal':>8}  {result}")
        lines += [f"  {figure.subject}: {figure.error:.3e}" for figure in failed]
    return lines
