"""Pictures of benchmarks for the docs: equal bytes for equal figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt

FOLDER = Path(__file__).parents[1] / "docs" / "pictures"
COLOURS = ("#0072b2", "#d55e00", "#e69f00", "#56b4e9")  # of Okabe and Ito: told apart by colour-blind readers too
plt.rcParams.update({"svg.hashsalt": "resnetkit", "font.size": 9, "axes.grid": True, "grid.alpha": 0.3,
                     "axes.spines.top": False, "axes.spines.right": False})  # fmt: skip


def new_picture(columns: int = 1) -> tuple[Any, Any]:
    """Return a figure and its axes, side by side."""
    return plt.subplots(1, columns, figsize=(4.5 * columns + 1, 3.6), sharey=columns > 1)


def save_picture(figure: Any, name: str) -> None:
    """Write a picture."""
    FOLDER.mkdir(exist_ok=True)
    figure.tight_layout()
    figure.savefig(FOLDER / name, metadata={"Date": None, "Creator": None})
