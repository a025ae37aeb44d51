"""The commands `evaluate` and `predict`: plain arguments in, output printed, exit code returned."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resnetkit.classifier import fitting, open_classifier
from resnetkit.commands.device import choose_device
from resnetkit.commands.names import read_class_names
from resnetkit.data.opening import open_evaluation_data, refuse_unknown
from resnetkit.data.spec import Split
from resnetkit.errors import BadRequest
from resnetkit.evaluate import Evaluation
from resnetkit.evaluate import evaluate as evaluate_model
from resnetkit.home import atomic_write
from resnetkit.journal import warn
from resnetkit.models.resnet import StrideStyle
from resnetkit.predict import Unreadable, find_images
from resnetkit.predict import predict as predict_files
from resnetkit.printing import ERR, prediction_line, print_evaluation, print_origin
from resnetkit.processes import joined, local_device
from resnetkit.progress import StepProgress
from resnetkit.provenance import provenance, versions
from resnetkit.weights_file import are_placeholders


def evaluate(
    model: str,
    data: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    plain: bool,
    stride_style: StrideStyle | None,
    raw: bool,
    class_names: str | None,
    predictions: str | None,
    quarantine: str | None,
    as_json: bool,
    device: str | None,
    engine: str | None,
) -> int:
    """Evaluate a model on a data set's test images, in one process or in those that torchrun started."""
    where = local_device(choose_device(device))
    refuse_unknown(data)  # before the model is loaded, or its weights fetched
    if predictions and not Path(predictions).parent.is_dir():
        raise BadRequest(f"--predictions: no such folder: {Path(predictions).parent}")
    names = read_class_names(class_names) if class_names else None
    loaded = open_classifier(model, where, engine, mean=mean, std=std, class_names=names, plain=plain,
                             stride_style=stride_style, raw=raw)  # fmt: skip
    trained_on = (loaded.about.get("data") or {}).get("sha256")
    given = open_evaluation_data(data, trained_on=trained_on, quarantine=quarantine)
    split, matched = fitting(loaded, given.split, given.class_names, data)
    if matched:
        loaded = replace(loaded, assumptions=(*loaded.assumptions, matched))
    with joined(where) as processes:
        labels = hashlib.sha256(split.labels.tobytes()).hexdigest()
        processes.refuse_differences(
            {"weights": loaded.sha256, "data": given.sha256, "labels": labels, "versions": versions()}
        )
        for note in given.notes if processes.is_first else ():
            warn(note)
        started = time.perf_counter()
        with StepProgress("evaluate", len(split), shown=processes.is_first) as progress:
            outcome = evaluate_model(loaded.engine, split, on_batch=progress.count_images, processes=processes)
        seconds = time.perf_counter() - started
    if not processes.is_first:
        return 0
    placeholders = are_placeholders(loaded.class_names) and isinstance(split, Split)
    names = given.class_names if placeholders else loaded.class_names
    if as_json:
        facts = {"model": loaded.origin, "engine": loaded.engine.name, "assumed": loaded.assumptions,
                 "weights_sha256": loaded.sha256,
                 "data": {"name": data, "split": "test", "sha256": given.sha256}, "seconds": seconds}  # fmt: skip
        print(json.dumps(outcome.to_json(names) | facts | {"provenance": provenance()}, indent=1))
    else:
        print_evaluation(loaded, data, names, outcome)
    if predictions:
        write_predictions(Path(predictions), outcome, names)
    return 0


def write_predictions(path: Path, outcome: Evaluation, class_names: Sequence[str]) -> None:
    """Write one CSV line an image, in the order of the data."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("index", "label", "prediction", "confidence", "rank_of_label", "loss"))
    columns = (outcome.labels, outcome.predictions, outcome.confidences, outcome.ranks, outcome.losses)
    for index, (label, prediction, *numbers) in enumerate(zip(*(c.tolist() for c in columns), strict=True)):
        writer.writerow((index, class_names[label], class_names[prediction], *numbers))
    with atomic_write(path) as file:
        file.write(text.getvalue().encode())


def predict(
    model: str,
    images: list[str],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    plain: bool,
    stride_style: StrideStyle | None,
    raw: bool,
    top: int,
    class_names: str | None,
    as_json: bool,
    device: str | None,
    engine: str | None,
) -> int:
    """Print the most likely classes of each image; exit code 1 when one could not be read."""
    where = choose_device(device)
    files = find_images(images)
    chosen = read_class_names(class_names) if class_names else None
    loaded = open_classifier(model, where, engine, mean=mean, std=std, class_names=chosen, plain=plain,
                             stride_style=stride_style, raw=raw)  # fmt: skip
    if loaded.channels != 3:
        raise BadRequest(f"images have 3 channels, the model takes {loaded.channels}", loaded.origin)
    names = loaded.class_names
    print_origin(loaded, ERR)
    width = max(map(len, files))
    unreadable = 0
    for outcome in predict_files(loaded.engine, files, top_k=top):
        if isinstance(outcome, Unreadable):
            unreadable += 1
            print(f"error: {outcome.file}: {outcome.reason}", file=sys.stderr)
            if as_json:
                print(json.dumps({"file": outcome.file, "error": outcome.reason}), flush=True)
        else:
            print(prediction_line(outcome, names, width, as_json), flush=True)
    if unreadable:
        print(f"{unreadable} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0
