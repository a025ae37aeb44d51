"""One function a command: plain arguments in, output printed, exit code returned."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.console import Console

from resnetkit import checkpoint
from resnetkit.data.sources import load_dataset, write_samples
from resnetkit.data.spec import DATASETS, ArrayDataset, find_spec
from resnetkit.errors import BadRequest, SourceError
from resnetkit.evaluate import Evaluation
from resnetkit.evaluate import evaluate as evaluate_model
from resnetkit.home import atomic_write, home, read_json
from resnetkit.load import LoadedModel, load_model
from resnetkit.models import ResNet, find_architecture
from resnetkit.models.counting import count
from resnetkit.models.resnet import StrideStyle
from resnetkit.predict import Unreadable, find_images
from resnetkit.predict import predict as predict_files
from resnetkit.printing import OUT, prediction_line, print_evaluation, print_origin, print_run, print_zoo
from resnetkit.progress import StepProgress, duration
from resnetkit.provenance import provenance
from resnetkit.recipe import Recipe, leaves, recipe_to_json, total_steps_of
from resnetkit.recipes import load_recipe
from resnetkit.report import write_report
from resnetkit.tracking import tensorboard_writer
from resnetkit.train import train as train_run
from resnetkit.zoo import zoo_rows


def zoo(as_json: bool) -> int:
    """Print the published nets."""
    rows = zoo_rows()
    if as_json:
        print(json.dumps(rows, indent=1))
        return 0
    print_zoo(rows)
    return 0


def show(recipe: str, overrides: list[str], as_json: bool) -> int:
    """Print a complete recipe and what it costs."""
    chosen = load_recipe(recipe, overrides)
    if as_json:
        print(json.dumps(recipe_to_json(chosen), indent=1))
        return 0
    for path, value in leaves(recipe_to_json(chosen)):
        OUT.print(f"{path:28} {json.dumps(value)}")
    OUT.print(f"\n{recipe_cost(chosen)}")
    return 0


def recipe_cost(recipe: Recipe) -> str:
    """Say what a recipe costs in steps, images and arithmetic."""
    spec = DATASETS[recipe.data]
    train_images = spec.train_images - recipe.val_images
    steps_per_epoch = math.ceil(train_images / recipe.batch_size)
    steps = total_steps_of(recipe, steps_per_epoch)
    epochs = steps / steps_per_epoch
    arch = replace(find_architecture(recipe.model), num_classes=len(spec.class_names))
    cost = count(lambda: ResNet(arch), spec.side)
    flops = 2 * 3 * cost.macs * train_images * epochs  # a backward pass costs two forward passes
    return (
        f"{steps:,} steps of {recipe.batch_size} images: {epochs:,.1f} epochs of {train_images:,}; "
        f"{cost.params:,} parameters, {cost.macs:,} multiply-adds an image, {flops / 1e15:,.3f} PFLOP of training"
    )


def data(name: str, source: str | None, samples: str | None) -> int:
    """Fetch and verify a data set."""
    dataset = load_dataset(name, source=Path(source) if source else None)
    OUT.print(f"{name}: {len(dataset.train.images):,} training and {len(dataset.test.images):,} test images")
    OUT.print(f"sha256 {dataset.sha256}, as expected")
    OUT.print(f"kept in {home() / 'data' / name}")
    if samples:
        for path in write_samples(dataset, Path(samples)):
            OUT.print(f"wrote {path}")
    return 0


def train(
    recipe: str | None,
    data: str | None,
    out: str | None,
    resume: bool,
    seed: int | None,
    max_steps: int | None,
    tensorboard: bool,
    overrides: list[str],
    device: str | None,
) -> int:
    """Train, evaluate and report."""
    extra = [f"data={data}"] * (data is not None) + [f"seed={seed}"] * (seed is not None)
    chosen, run = choose_run(recipe, out, resume, [*overrides, *extra])
    if resume:
        device = device or device_of(run)
    else:
        checkpoint.refuse_used(run)
    track = tensorboard_writer(run) if tensorboard else lambda event: None
    where = choose_device(device)
    dataset = load_dataset(chosen.data)
    OUT.print(f"{chosen.name} on {chosen.data}, {where}, into {run}\n{recipe_cost(chosen)}")
    started = time.monotonic()
    outcome = train_run(chosen, dataset, run, resume=resume, device=where, max_steps=max_steps, on_event=track)
    if outcome is None:
        OUT.print(f"stopped after step {max_steps}, as asked; next: resnetkit train --resume --out {run}")
        return 0
    OUT.print(f"trained and evaluated in {duration(time.monotonic() - started)}")
    write_report(run, dataset.test.images)
    print_run(run, outcome.top1)
    return 0


def choose_run(recipe: str | None, out: str | None, resume: bool, overrides: list[str]) -> tuple[Recipe, Path]:
    """Return the recipe and the run directory that the arguments name."""
    if resume:
        if out is None:
            raise BadRequest("--resume: expected --out RUN, the run to go on with")
        run = Path(out)
        stored = checkpoint.run_recipe(run)
        return load_recipe(recipe or str(run / checkpoint.RECIPE), overrides) if recipe or overrides else stored, run
    if recipe is None:
        raise BadRequest("train: expected a recipe", "next: resnetkit train quickstart, or --resume --out RUN")
    chosen = load_recipe(recipe, overrides)
    return chosen, Path(out) if out else free_run(chosen.name)


def device_of(run: Path) -> str | None:
    """Return the device that a run was on last, where it says so."""
    known = [event["numerics"]["device"] for event in checkpoint.read_events(run) if "numerics" in event]
    return known[-1] if known else None


def free_run(name: str) -> Path:
    """Return the first of runs/NAME, runs/NAME-2, ... that does not exist."""
    tries = (Path("runs") / (name if number == 1 else f"{name}-{number}") for number in range(1, sys.maxsize))
    return next(path for path in tries if not path.exists())


def choose_device(name: str | None) -> torch.device:
    """Return the device named, or CUDA where there is one."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise BadRequest(f"--device: expected cpu, cuda or cuda:N, got {name!r}") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type, 0)
    if (device.index or 0) >= count:
        raise BadRequest(f"--device: {name!r} is not on this machine")
    return device


def report(run: str) -> int:
    """Write a run's report anew."""
    folder = Path(run)
    recipe = checkpoint.run_recipe(folder)
    try:
        images = load_dataset(recipe.data).test.images
    except SourceError as error:
        print(f"warning: a report without pictures: {error}", file=sys.stderr)
        images = None
    write_report(folder, images)
    if (folder / checkpoint.EVALUATION).exists():
        print_run(folder, read_json(folder / checkpoint.EVALUATION)["top1"])
    else:
        OUT.print(f"not finished yet\nrun {folder}\nreport {folder / checkpoint.REPORT}")
    return 0


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
    find_spec(data)  # before the model is loaded, or its weights fetched
    if predictions and not Path(predictions).parent.is_dir():
        raise BadRequest(f"--predictions: no such folder: {Path(predictions).parent}")
    loaded = load_model(model, mean=mean, std=std, plain=plain, stride_style=stride_style)
    dataset = load_dataset(data)
    check_fit(loaded, dataset)
    started = time.perf_counter()
    with StepProgress("evaluate", len(dataset.test.images)) as progress:
        outcome = evaluate_model(
            loaded.model.to(where, memory_format=torch.channels_last),  # type: ignore[call-overload]
            dataset.test.images,
            dataset.test.labels,
            normalize=loaded.preprocess.normalize,
            device=where,
            on_batch=progress.count_images,
        )
    seconds = time.perf_counter() - started
    if as_json:
        facts = {"model": loaded.origin, "assumed": loaded.assumptions, "weights_sha256": loaded.sha256,
                 "data": {"name": dataset.name, "split": "test", "sha256": dataset.sha256},
                 "seconds": seconds}  # fmt: skip
        print(json.dumps(outcome.to_json(dataset.class_names) | facts | {"provenance": provenance()}, indent=1))
    else:
        print_evaluation(loaded, dataset, outcome)
    if predictions:
        write_predictions(Path(predictions), outcome, dataset.class_names)
    return 0


def check_fit(loaded: LoadedModel, dataset: ArrayDataset) -> None:
    """Refuse a model that cannot be evaluated on this data; all that does not fit is told."""
    arch, (height, _, channels) = loaded.model.arch, dataset.test.images.shape[1:]
    compared = (
        ("classes", arch.num_classes, len(dataset.class_names)),
        ("channels", arch.in_channels, channels),
        ("pixels a side", loaded.preprocess.image_size, height),
    )
    problems = [f"it has {ours} {what}, the data {theirs}" for what, ours, theirs in compared if ours != theirs]
    if problems:
        raise BadRequest(f"the model does not fit {dataset.name}", *problems, loaded.origin)


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


COMMANDS: dict[str, Callable[..., int]] = {
    function.__name__: function for function in (zoo, show, data, train, evaluate, predict, report)
}
