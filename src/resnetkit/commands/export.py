"""The command `export`: plain arguments in, exit code returned."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from resnetkit.artefact import ENDINGS, FORMATS, Format
from resnetkit.classifier import classifier_of
from resnetkit.commands.names import fitting, read_class_names
from resnetkit.data.opening import open_evaluation_data, refuse_unknown
from resnetkit.engines import Engine
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest, GateFailed
from resnetkit.export import check_target, draft_of, drafted, facts_of, gated, keep, write_facts
from resnetkit.gate import Bounds, Figures, measure
from resnetkit.load import LoadedModel, load_model
from resnetkit.models.resnet import StrideStyle
from resnetkit.printing import OUT, percent
from resnetkit.progress import StepProgress

CPU = torch.device("cpu")


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
    no_gate: bool,
) -> int:
    """Write a model for another engine, if it answers there as it does here."""
    assert form in FORMATS
    names = read_class_names(class_names) if class_names else None
    loaded = load_model(model, mean=mean, std=std, class_names=names, plain=plain, stride_style=stride_style, raw=raw)
    target = Path(out or f"{Path(model).name.removesuffix('.safetensors') or 'model'}{ENDINGS[form]}")
    check_target(target, form)
    if loaded.model.arch.in_channels != 3:
        raise BadRequest(f"images have 3 channels, the model takes {loaded.model.arch.in_channels}", loaded.origin)
    place = None if no_gate else data_of(loaded, data)
    OUT.print(loaded.origin)
    with drafted(target) as draft:
        artefact = draft_of(loaded, facts_of(loaded, form, last_map), draft)
        if place:
            bounds = Bounds(min_agreement=min_agreement, max_drop=max_drop)
            gate = passed(loaded, artefact.engine, place, bounds).to_json() | {"data": place}
            write_facts(draft, gated(artefact, gate))
        else:
            OUT.print("no gate, as asked: nobody knows whether it answers like the model")
        keep(draft, target, form)
    OUT.print(f"exported {target}, for {artefact.engine.name}")
    OUT.print(f"next: resnetkit predict {target} PHOTO...")
    return 0


def data_of(loaded: LoadedModel, data: str | None) -> str:
    """Return the images to compare on: those that are named, or those that the weights were trained on."""
    place = data or (loaded.about["data"] or {}).get("name")
    if not place:
        says = f"{loaded.origin}: it does not say of which data"
        raise BadRequest("no images to compare the exported model on", says,
                         "next: --data DIR, or --no-gate to know nothing")  # fmt: skip
    refuse_unknown(str(place))
    return str(place)


def passed(loaded: LoadedModel, engine: Engine, place: str, bounds: Bounds) -> Figures:
    """Compare an engine with its model on real images, and say what came out; GateFailed where it is out of bounds."""
    given = open_evaluation_data(place, (loaded.about["data"] or {}).get("sha256"))
    split, _ = fitting(classifier_of(loaded, CPU), given.split, given.class_names, place)
    model = TorchEngine(loaded.model, loaded.preprocess)
    with StepProgress("gate", len(split)) as progress:
        figures, problems = measure(engine, model, split, bounds, on_batch=progress.count_images)
    print_gate(figures, place)
    if problems:
        raise GateFailed("the exported model does not answer like the model; nothing was written", *problems)
    return figures


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
