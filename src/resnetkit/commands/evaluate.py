"""The command `evaluate`: plain arguments in, output printed, exit code returned."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from resnetkit.classifier import Said, open_classifier
from resnetkit.data.opening import open_evaluation_data, refuse_unknown
from resnetkit.data.spec import Split
from resnetkit.errors import BadRequest
from resnetkit.evaluate import Evaluation
from resnetkit.evaluate import evaluate as evaluate_model
from resnetkit.fitting import fitting
from resnetkit.home import atomic_write
from resnetkit.journal import warn
from resnetkit.printing import print_evaluation
from resnetkit.processes import choose_device, joined, local_device
from resnetkit.progress import StepProgress
from resnetkit.provenance import provenance, versions
from resnetkit.weights_file import are_placeholders


def evaluate(
    model: str,
    data: str,
    said: Said,
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
    loaded = open_classifier(model, device, engine, **said)
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
