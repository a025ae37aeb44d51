"""The command `export`: plain arguments in, exit code returned."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from resnetkit.artefact import ENDINGS, Facts, Format
from resnetkit.classifier import classifier_of, fitting
from resnetkit.commands.names import read_class_names
from resnetkit.data.opening import open_data, open_evaluation_data, refuse_unknown
from resnetkit.data.spec import DATASETS
from resnetkit.engines import Engine
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest, GateFailed
from resnetkit.export import Deployed, check_target, draft_of, drafted, facts_of, keep, write_facts
from resnetkit.gate import Bounds, Figures, measure
from resnetkit.load import LoadedModel, load_model
from resnetkit.models.resnet import StrideStyle
from resnetkit.printing import OUT, percent
from resnetkit.progress import StepProgress
from resnetkit.quantize import Calibration, Int8, calibration_of, layers_that_hurt

CPU = torch.device("cpu")
REFUSED = "the exported model does not answer like the model; nothing was written"


def export(
    model: str,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    class_names: str | None,
    plain: bool,
    stride_style: StrideStyle | None,
    raw: bool,
    form: Format,
    out: str | None,
    data: str | None,
    last_map: bool,
    min_agreement: float,
    max_drop: float,
    int8: bool,
    calibration: str | None,
    images: int,
    no_gate: bool,
) -> int:
    """Write a model for another engine, if it answers there as it does here."""
    names = read_class_names(class_names) if class_names else None
    loaded = load_model(model, mean=mean, std=std, class_names=names, plain=plain, stride_style=stride_style, raw=raw)
    own = Path(model).stem if Path(model).is_file() else Path(model).name
    target = Path(out or f"{own or 'model'}{ENDINGS[form]}")
    check_target(target, form)
    refuse_odd(loaded, form, int8, calibration)
    place = None if no_gate else data_of(loaded, data)
    OUT.print(loaded.origin)
    facts = facts_of(loaded, form, last_map)
    bounds = Bounds(min_agreement=min_agreement, max_drop=max_drop, exact=not int8)
    how = Int8(calibrated(loaded, str(calibration), images)) if int8 else None
    with drafted(target) as draft:
        engine = write_gated(loaded, facts, draft, place, bounds, how)
        if not place:
            OUT.print("no gate, as asked: nobody knows whether it answers like the model")
        keep(draft, target, form)
    OUT.print(f"exported {target}, for {engine.name}")
    OUT.print(f"next: resnetkit predict {target} PHOTO...")
    return 0


def refuse_odd(loaded: LoadedModel, form: Format, int8: bool, calibration: str | None) -> None:
    """Refuse what does not go together, all at once."""
    problems = []
    if loaded.model.arch.in_channels != 3:
        problems.append(f"images have 3 channels, the model takes {loaded.model.arch.in_channels}")
    if int8 and form == "torch-export":
        problems.append("--int8: expected --format onnx or openvino; torch-export is float only")
    if int8 and not calibration:
        problems.append("--int8: expected --calibration DIR, images like those that it will see")
    if calibration and not int8:
        problems.append("--calibration: expected --int8 beside it")
    if problems:
        raise BadRequest(problems[0], *problems[1:])


def calibrated(loaded: LoadedModel, place: str, most: int) -> Calibration:
    """Return images to calibrate with: of a data set those that it is trained with, never the test images."""
    refuse_unknown(place)
    data = open_data(place) if place in DATASETS else None
    split = data.train if data else open_evaluation_data(place).split
    found = calibration_of(split, loaded.preprocess, place, most)
    OUT.print(f"calibrated on {len(found.images)} images of {place}")
    return found


def write_gated(
    loaded: LoadedModel, facts: Facts, draft: Path, place: str | None, bounds: Bounds, int8: Int8 | None
) -> Engine:
    """Write a draft that passes its gate, of a quantised net with as few layers in float as it takes."""
    ranking, count = list[tuple[int, str, float]](), 0
    while True:
        artefact = draft_of(loaded, facts, draft, int8)
        if not place:
            return artefact.engine
        figures, problems = compared(loaded, artefact.engine, place, bounds)
        if not problems:
            write_facts(draft, replace(artefact.facts, gate=figures.to_json() | {"data": place}))
            return artefact.engine
        if int8 is None:
            raise GateFailed(REFUSED, *problems)
        if not ranking:
            module = Deployed(loaded.model, loaded.preprocess, has_map=False).eval()
            ranking = layers_that_hurt(module, int8.calibration.images)
        worst = ", ".join(f"{name.removeprefix('model.')} {change:.2g}" for _, name, change in ranking[:5])
        hurt = f"layers that hurt, by the change of the logits' squares: {worst}"
        count = max(1, 2 * count)
        if count > len(ranking) // 2:
            kept = f"{len(int8.in_float)} of {len(ranking)} layers were kept in float"
            raise GateFailed(REFUSED, *problems, kept, hurt)
        OUT.print(f"out of bounds: {'; '.join(problems)}\n{hurt}; {count} of them stay in float")
        int8 = replace(int8, in_float=tuple((number, name) for number, name, _ in ranking[:count]))


def data_of(loaded: LoadedModel, data: str | None) -> str:
    """Return the images to compare on: those that are named, or those that the weights were trained on."""
    place = data or (loaded.about["data"] or {}).get("name")
    if not place:
        says = f"{loaded.origin}: it does not say of which data"
        raise BadRequest("no images to compare the exported model on", says,
                         "next: --data DIR, or --no-gate to know nothing")  # fmt: skip
    refuse_unknown(str(place))
    return str(place)


def compared(loaded: LoadedModel, engine: Engine, place: str, bounds: Bounds) -> tuple[Figures, list[str]]:
    """Compare an engine with its model on real images, and say what came out; returns what is out of bounds too."""
    given = open_evaluation_data(place, (loaded.about["data"] or {}).get("sha256"))
    split, _ = fitting(classifier_of(loaded, CPU), given.split, given.class_names, place)
    model = TorchEngine(loaded.model, loaded.preprocess)
    with StepProgress("gate", len(split)) as progress:
        figures, problems = measure(engine, model, split, bounds, on_batch=progress.count_images)
    print_gate(figures, place)
    return figures, problems


def print_gate(figures: Figures, place: str) -> None:
    """Print the figures of a gate."""
    said = figures.to_json()
    low, high = said["agreement_interval"]
    OUT.print(f"gate on {place}, {figures.images:,} images: top-1 agrees on {percent(said['agreement'])} "
              f"({percent(low)} to {percent(high)}); logits differ by up to {figures.largest_difference:.3g} of "
              f"{figures.largest_logit:.3g}; batches of 1, 2, 7 and 32 by "
              f"{figures.largest_batch_difference:.3g}")  # fmt: skip
    if figures.correct is not None:
        low, high = said["top1_interval"]
        OUT.print(f"top-1 {percent(said['top1'])} ({percent(low)} to {percent(high)}), the model's "
                  f"{percent(said['model_top1'])}; {figures.decided_by} decides")  # fmt: skip
