"""The report of a run: one HTML file that asks nothing of any server, made from the run directory alone."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit import checkpoint
from resnetkit.charts import Chart, Series, Style, bar, draw_chart
from resnetkit.home import atomic_write, read_json
from resnetkit.metrics import wilson_interval
from resnetkit.models import ResNet
from resnetkit.models.counting import Cost, count
from resnetkit.models.resnet import architecture_from_json
from resnetkit.page import data_uri, render
from resnetkit.progress import duration
from resnetkit.recipe_json import leaves, recipe_to_json

MATRIX_CLASSES = 25  # a larger confusion matrix cannot be read; the most frequent confusions can
BAR_CLASSES = 50  # of more classes, those of the lowest recall are shown
SHOWN_CONFUSIONS = 10
THUMBNAIL = 96  # pixels of the long side; smaller images stay as they are

Event = Mapping[str, Any]
Json = dict[str, Any]
Picture = Callable[[int], NDArray[np.uint8]]


def write_report(run: Path, picture: Picture | None) -> Path:
    """Write report.html into a run directory, from whatever the run has so far; returns its path.

    picture: returns an evaluated image by its index, uint8 [H, W, 3], for the mistakes; None: no pictures.
    Raises BadRequest where there is no run, DamagedFile for a file of it that cannot be read.
    """
    page = render(checkpoint.REPORT, collect(run, picture), {"bar": bar, "duration": duration})
    with atomic_write(run / checkpoint.REPORT) as file:
        file.write(page.encode())
    return run / checkpoint.REPORT


def collect(run: Path, picture: Picture | None) -> Json:
    """Gather what the page says."""
    recipe = recipe_to_json(checkpoint.run_recipe(run))
    events = checkpoint.read_events(run)
    path, test = run / checkpoint.EVALUATION, last(events, "test")
    # Beside events without a test it is of an earlier end, before a resume.
    evaluation: Json = read_json(path) if path.exists() and (test or not events) else {}
    names = [row["class"] for row in evaluation.get("classes", [])]
    return {
        "run": shlex.quote(str(run)),
        "recipe_file": shlex.quote(str(run / checkpoint.RECIPE)),
        "again": shlex.quote(f"{run}-again"),
        "recipe": recipe,
        "result": result(evaluation, test),
        "so_far": last(events, "eval"),
        "progress": progress(recipe, events),
        "cost": read_cost(run / checkpoint.WEIGHTS),
        "speed": speed(recipe, events),
        "test": test,
        "charts": draw_charts(events),
        "classes": class_rows(evaluation),
        "class_count": len(names),
        "matrix": matrix(evaluation, names) if len(names) <= MATRIX_CLASSES else [],
        "confusions": confusions(evaluation, names),
        "mistakes": mistakes(evaluation, names, picture),
        "recipe_rows": readable(recipe),
        "environment": list(surroundings(last(events, "start") or {}).items()),
        "resumes": resumes(events),
        "missing": missing(run, events, evaluation, picture),
    }


def last(events: Sequence[Event], kind: str) -> Event | None:
    """Return the last event of a kind."""
    return next((event for event in reversed(events) if event["event"] == kind), None)


def result(evaluation: Json, test: Event | None) -> Json | None:
    """Return the figures on the test images: those of the evaluation, else of the event; None without both."""
    if evaluation or test is None:
        return evaluation or None
    correct = round(test["top1"] * test["images"])
    return {**test, "correct": correct, "top1_interval": wilson_interval(correct, test["images"])}


def steps_per_epoch(events: Sequence[Event]) -> int:
    """Return the steps of an epoch; 1, so that steps stand for epochs, where nothing tells."""
    train = last(events, "train")
    return round(train["step"] / train["epoch"]) if train else 1


def progress(recipe: Json, events: Sequence[Event]) -> Json:
    """Return the steps and epochs done and the steps in all; None for what cannot be known yet."""
    train = last(events, "train") or {"step": 0, "epoch": None}
    by_epochs = round((recipe["total_epochs"] or 0) * steps_per_epoch(events)) if train["step"] else None
    return {"done": train["step"], "total": recipe["total_steps"] or by_epochs, "epochs": train["epoch"]}


def read_cost(weights: Path) -> Cost | None:
    """Count the net that the weights file describes; None where there is no file yet."""
    metadata = checkpoint.read_weights(weights)[1] if weights.exists() else None
    if metadata is None:
        return None
    arch = architecture_from_json(metadata["architecture"])
    return count(lambda: ResNet(arch), metadata["preprocess"]["image_size"], arch.in_channels)


def speed(recipe: Json, events: Sequence[Event]) -> Json | None:
    """Return images a second, the median of the log, and the time of all steps at the logged rates."""
    logged = [event for event in events if event["event"] == "train" and event["images_per_second"] > 0]
    rates = np.array([event["images_per_second"] for event in logged])
    images = np.diff([0, *(event["step"] for event in logged)]) * recipe["batch_size"]
    return {"rate": float(np.median(rates)), "time": duration(sum(images / rates))} if logged else None


def draw_charts(events: Sequence[Event]) -> list[Chart]:
    """Draw loss, top-1, learning rate and speed over the epochs."""
    if last(events, "train") is None:
        return []
    per_epoch, heldout = steps_per_epoch(events), last(events, "eval")

    def line(kind: str, field: str, factor: float, name: str, style: Style) -> Series:
        points = [(e["step"] / per_epoch, factor * e[field]) for e in events if e["event"] == kind]
        return Series(name, points, style)

    def compared(field: str, factor: float) -> list[Series]:
        return [
            line("train", field, factor, "train", "train"),
            line("eval", field, factor, heldout["split"] if heldout else "", "heldout"),
            line("test", field, factor, "final test", "test"),
        ]

    marks = [event["step"] / per_epoch for event in events if event["event"] == "resume"]
    rates, speeds = line("train", "lr", 1, "rate", "other"), line("train", "images_per_second", 1, "training", "other")
    return [
        draw_chart("Loss", "nats", compared("loss", 1), ".3f", marks, from_zero=True),
        draw_chart("Top-1 accuracy", "% of images", compared("top1", 100), ".1f", marks, from_zero=False),
        draw_chart("Learning rate", "rate", [rates], ".3g", marks, from_zero=True),
        draw_chart("Speed", "images a second", [speeds], ",.0f", marks, from_zero=True),
    ]


def class_rows(evaluation: Json) -> list[Json]:
    """Return the classes by rising recall; those without images have none and come last."""
    rows = evaluation.get("classes", [])
    return sorted(rows, key=lambda row: math.inf if row["recall"] is None else row["recall"])[:BAR_CLASSES]


def matrix(evaluation: Json, names: Sequence[str]) -> list[Json]:
    """Return the confusion matrix: of each cell the kind, the count and the strength of its colour.

    Right answers and mistakes have a scale each: on one scale the mistakes would hardly be seen.
    """
    counts = np.zeros((len(names), len(names)), np.int64)
    for label, prediction, images in evaluation.get("confusion", []):
        counts[label, prediction] = images
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    right = np.eye(len(names), dtype=bool)
    shades = np.where(right, shares, shares / max(shares[~right].max(initial=0.0), 1e-9))
    kinds = np.where(right, "right", np.where(counts > 0, "wrong", "none"))
    rows = zip(names, kinds.tolist(), counts.tolist(), shades.tolist(), strict=True)
    return [{"name": name, "cells": list(zip(*cells, strict=True))} for name, *cells in rows]


def confusions(evaluation: Json, names: Sequence[str]) -> list[Json]:
    """Return the most frequent confusions, the most frequent first."""
    pairs = [cell for cell in evaluation.get("confusion", []) if cell[0] != cell[1]]
    best = sorted(pairs, key=lambda cell: (-cell[2], *cell[:2]))[:SHOWN_CONFUSIONS]
    images = [row["images"] for row in evaluation.get("classes", [])]
    return [{"count": n, "label": names[i], "prediction": names[j], "images": images[i]} for i, j, n in best]


def mistakes(evaluation: Json, names: Sequence[str], picture: Picture | None) -> list[Json]:
    """Return the most confident mistakes with their class names and pictures."""
    shown = evaluation.get("mistakes", [])
    named = [one | {key: names[one[key]] for key in ("label", "prediction")} for one in shown]
    return [one | {"picture": None if picture is None else data_uri(picture(one["index"]), THUMBNAIL)} for one in named]


def readable(data: Any) -> list[tuple[str, str]]:
    """List the leaves of JSON data by path, in words."""
    words = {None: "none", True: "yes", False: "no"}

    def word(value: Any) -> str:
        if isinstance(value, list):
            return ", ".join(map(str, value)) or "none"
        return words[value] if value is None or isinstance(value, bool) else str(value)

    return [(path, word(value)) for path, value in leaves(data)]


def surroundings(event: Event) -> dict[str, str]:
    """Return what a start or resume event says of where it ran."""
    return dict(readable({name: value for name, value in event.items() if name not in {"event", "step"}}))


def resumes(events: Sequence[Event]) -> list[Json]:
    """Return where the run was resumed, each with what but the time was not as at the start."""
    first = surroundings(last(events, "start") or {})

    def shown(event: Event) -> Json:
        now = surroundings(event)
        differing = [(name, value) for name, value in now.items() if name != "time" and first.get(name) != value]
        return {"step": event["step"], "time": now.get("time", ""), "differing": differing}

    return [shown(event) for event in events if event["event"] == "resume"]


def missing(run: Path, events: Sequence[Event], evaluation: Json, picture: Picture | None) -> list[str]:
    """Say what the page cannot show, and why."""
    kinds = {event["event"] for event in events}
    found = {
        "Curves: metrics.jsonl has no training steps yet.": "train" in kinds,
        "Held-out curves: no image was evaluated while training.": "eval" in kinds or "train" not in kinds,
        "Environment: metrics.jsonl does not say where the run was started.": "start" in kinds,
        "Classes, confusions and mistakes: evaluation.json is written when the run ends.": bool(evaluation),
        "Weights: weights.safetensors is written when the run ends.": (run / checkpoint.WEIGHTS).exists(),
        "Mistakes: evaluation.json does not list them.": "mistakes" in evaluation or not evaluation,
        "Pictures: the test images were not given.": picture is not None or not evaluation.get("mistakes"),
    }
    return [text for text, there in found.items() if not there]
