"""What commands print: lines on standard output, tables where they help."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from resnetkit import checkpoint
from resnetkit.data.spec import ArrayDataset
from resnetkit.evaluate import Evaluation
from resnetkit.load import LoadedModel
from resnetkit.predict import Prediction

OUT = Console(soft_wrap=True, highlight=False, markup=False)
MATRIX_CLASSES = 20  # a confusion matrix of more classes does not fit a terminal


def wide_console(columns: int) -> Console:
    """Return a console for tables, of this width where there is no terminal."""
    return Console(width=None if sys.stdout.isatty() else columns)


def print_zoo(rows: list[dict[str, Any]]) -> None:
    """Print the published nets."""
    columns = ("name", "net", "classes", "input", "params", "MACs", "MACs as the page", "top-1 %", "top-5 %", "source")
    title = "Parameters and multiply-adds (MACs) are counted now; top-1 and top-5 are as published."
    table = Table(*columns, title=title, title_style="", title_justify="left")
    for row in rows:
        published = ["" if row[key] is None else f"{row[key]:.2%}"[:-1] for key in ("top1", "top5")]
        costs = [f"{row[key]:,}" for key in ("params", "macs", "macs_page")]
        size = f"{row['image_size']} px"
        table.add_row(row["name"], row["model"], f"{row['num_classes']}", size, *costs, *published, row["source"])
    wide_console(200).print(table)


def print_run(run: Path, top1: float) -> None:
    """Print what a run came to, as its last lines."""
    OUT.print(f"top-1 {percent(top1)}")
    OUT.print(f"run {run}")
    OUT.print(f"report {run / checkpoint.REPORT}")


def print_evaluation(loaded: LoadedModel, dataset: ArrayDataset, outcome: Evaluation) -> None:
    """Print the figures, a table of classes and the confusion matrix."""
    found = outcome.to_json(dataset.class_names)
    print_origin(loaded, OUT)
    OUT.print(f"{dataset.name} test, {outcome.images:,} images, {outcome.correct:,} correct")
    for name in ("top1", "top5"):
        low, high = found[f"{name}_interval"]
        OUT.print(f"{name[:-1]}-{name[-1]}  {percent(found[name])}, 95 % interval {percent(low)} to {percent(high)}")
    OUT.print(f"loss {outcome.loss:.4f}\n")
    classes = Table("class", "images", "correct", "recall", "95 % interval", "precision", title="classes")
    for row in found["classes"]:
        low, high = row["recall_interval"]
        interval = f"{percent(low)} to {percent(high)}"
        counts = (f"{row['images']:,}", f"{row['correct']:,}")
        classes.add_row(row["class"], *counts, percent(row["recall"]), interval, percent(row["precision"]))
    confusion = Table("label \\ predicted", *dataset.class_names, title="confusion")
    for name, counts in zip(dataset.class_names, found["confusion"], strict=True):
        confusion.add_row(name, *(f"{number:,}" if number else "" for number in counts))
    wide = wide_console(160)
    wide.print(classes)
    if len(dataset.class_names) <= MATRIX_CLASSES:
        wide.print(confusion)


def percent(share: float | None) -> str:
    """Write a fraction in percent, nothing for None."""
    return "" if share is None else f"{100 * share:.2f} %"


def print_origin(loaded: LoadedModel, console: Console) -> None:
    """Print what was loaded, and what was assumed for it."""
    console.print(loaded.origin)
    for assumption in loaded.assumptions:
        console.print(f"assumed: {assumption}")


def prediction_line(outcome: Prediction, names: Sequence[str], width: int, as_json: bool) -> str:
    """Write one image's outcome."""
    pairs = [(index, names[index], prob) for index, prob in zip(outcome.classes, outcome.probs, strict=True)]
    if as_json:
        rows = [{"class": name, "index": index, "prob": prob} for index, name, prob in pairs]
        return json.dumps({"file": outcome.file, "predictions": rows}, ensure_ascii=False)
    chances = ", ".join(f"{name} {100 * prob:.1f} %" for _, name, prob in pairs)
    return f"{outcome.file:{width}}  {chances}"
