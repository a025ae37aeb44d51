"""The commands `evaluate` and `predict`: plain arguments in, output printed, exit code returned."""

from __future__ import annotations

import csv
import io
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from resnetkit.commands.device import choose_device
from resnetkit.data.folder import PhotoSplit
from resnetkit.data.opening import open_evaluation_data, refuse_unknown
from resnetkit.data.spec import DATASETS, Split
from resnetkit.errors import BadRequest
from resnetkit.evaluate import Evaluation
from resnetkit.evaluate import evaluate as evaluate_model
from resnetkit.home import atomic_write
from resnetkit.load import LoadedModel, load_model
from resnetkit.models.resnet import StrideStyle
from resnetkit.predict import Unreadable, find_images
from resnetkit.predict import predict as predict_files
from resnetkit.printing import prediction_line, print_evaluation, print_origin
from resnetkit.progress import StepProgress
from resnetkit.provenance import provenance


def evaluate(
    model: str,
    data: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    plain: bool,
    stride_style: StrideStyle,
    predictions: str | None,
    as_json: bool,
    device: str | None,
) -> int:
    """Evaluate a model on a data set's test images."""
    where = choose_device(device)
    refuse_unknown(data)  # before the model is loaded, or its weights fetched
    if predictions and not Path(predictions).parent.is_dir():
        raise BadRequest(f"--predictions: no such folder: {Path(predictions).parent}")
    loaded = load_model(model, mean=mean, std=std, plain=plain, stride_style=stride_style)
    split, class_names, data_sha256 = open_evaluation_data(data)
    split = fitting(loaded, split, class_names, data)
    started = time.perf_counter()
    with StepProgress("evaluate", len(split)) as progress:
        outcome = evaluate_model(
            loaded.model.to(where, memory_format=torch.channels_last),  # type: ignore[call-overload]
            split,
            preprocess=loaded.preprocess,
            device=where,
            on_batch=progress.count_images,
        )
    seconds = time.perf_counter() - started
    names = loaded.class_names if isinstance(split, PhotoSplit) else class_names
    if as_json:
        facts = {"model": loaded.origin, "assumed": loaded.assumptions, "weights_sha256": loaded.sha256,
                 "data": {"name": data, "split": "test", "sha256": data_sha256}, "seconds": seconds}  # fmt: skip
        print(json.dumps(outcome.to_json(names) | facts | {"provenance": provenance()}, indent=1))
    else:
        print_evaluation(loaded, data, names, outcome)
    if predictions:
        write_predictions(Path(predictions), outcome, names)
    return 0


def fitting(
    loaded: LoadedModel, split: Split | PhotoSplit, class_names: Sequence[str], data: str
) -> Split | PhotoSplit:
    """Return the images with the labels of the model's classes; all that does not fit is told in one refusal.

    Folders may be named as the model's classes in another order, or be fewer; else the order of both counts.
    """
    arch = loaded.model.arch
    problems = []
    if isinstance(split, PhotoSplit) and set(class_names) <= set(loaded.class_names):
        split = split.relabelled([loaded.class_names.index(name) for name in class_names])
    elif arch.num_classes != len(class_names):
        problems.append(f"it has {arch.num_classes} classes, the data {len(class_names)}")
    if arch.in_channels != 3:
        problems.append(f"it has {arch.in_channels} channels, the data 3")
    if isinstance(split, Split) and loaded.preprocess.image_size != split.images.shape[1]:
        sides = f"{loaded.preprocess.image_size} pixels a side, the data {split.images.shape[1]}"
        problems.append(f"it has {sides}")
    if problems:
        raise BadRequest(f"the model does not fit {data}", *problems, loaded.origin)
    return split


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
    stride_style: StrideStyle,
    top: int,
    class_names: str | None,
    as_json: bool,
    device: str | None,
) -> int:
    """Print the most likely classes of each image; exit code 1 when one could not be read."""
    where = choose_device(device)
    files = find_images(images)
    loaded = load_model(model, mean=mean, std=std, plain=plain, stride_style=stride_style)
    if loaded.model.arch.in_channels != 3:
        raise BadRequest(f"images have 3 channels, the model takes {loaded.model.arch.in_channels}", loaded.origin)
    names = choose_names(class_names, loaded)
    print_origin(loaded, Console(stderr=True, soft_wrap=True, highlight=False, markup=False))
    width = max(map(len, files))
    unreadable = 0
    for outcome in predict_files(loaded.model, files, preprocess=loaded.preprocess, top_k=top, device=where):
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


def choose_names(class_names: str | None, loaded: LoadedModel) -> Sequence[str]:
    """Return the class names asked for, or those of the weights."""
    if class_names is None:
        return loaded.class_names
    if class_names in DATASETS:
        names: Sequence[str] = DATASETS[class_names].class_names
    elif Path(class_names).is_file():
        names = Path(class_names).read_text(encoding="utf-8").splitlines()
    else:
        raise BadRequest(
            f"--class-names: {class_names!r} is no file", f"expected a file or one of {', '.join(DATASETS)}"
        )
    if len(names) != loaded.model.arch.num_classes:
        raise BadRequest(f"--class-names: expected {loaded.model.arch.num_classes} names, got {len(names)}")
    return names
