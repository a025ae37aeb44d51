"""What classifies images, by whatever name: weights on torch, or an exported model on its own engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from resnetkit.artefact import is_artefact, open_artefact
from resnetkit.engines import Engine
from resnetkit.engines.of_torch import on_device
from resnetkit.errors import BadRequest
from resnetkit.load import LoadedModel, load_model
from resnetkit.models.resnet import StrideStyle


@dataclass(frozen=True)
class Classifier:
    """An engine with the names of its classes, and what is known of its weights."""

    engine: Engine
    class_names: tuple[str, ...]
    channels: int  # of the images that it takes
    origin: str  # one line: file, layout, architecture
    assumptions: tuple[str, ...]  # what the file does not say, and how to change it
    sha256: str  # of the file
    about: dict[str, Any] = field(default_factory=dict)  # recipe, data, metrics, license, origin


def open_classifier(
    name: str,
    device: torch.device,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    plain: bool = False,
    stride_style: StrideStyle | None = None,
    raw: bool = False,
) -> Classifier:
    """Open a model by its name; the arguments and errors are those of `load_model`.

    BadRequest for one of them, or another device than the CPU, beside an exported model: all of it is inside.
    """
    if not is_artefact(Path(name)):
        return classifier_of(load_model(name, mean=mean, std=std, class_names=class_names, plain=plain,
                                        stride_style=stride_style, raw=raw), device)  # fmt: skip
    given = {"--mean": mean, "--std": std, "--class-names": class_names, "--plain": plain,
             "--stride-style": stride_style, "--raw": raw}  # fmt: skip
    problems = [f"{option}: it has its own inside" for option, value in given.items() if value]
    if device.type != "cpu":
        problems.append(f"--device {device}: its engine runs on the CPU")
    if problems:
        raise BadRequest(f"{name} is an exported model", *problems, "next: export the weights anew")
    artefact = open_artefact(Path(name))
    return Classifier(artefact.engine, artefact.facts.class_names, 3, artefact.origin(), (), artefact.sha256,
                      artefact.facts.about)  # fmt: skip


def classifier_of(loaded: LoadedModel, device: torch.device) -> Classifier:
    """Return a loaded model as a classifier on a device."""
    return Classifier(
        engine=on_device(loaded.model, loaded.preprocess, device),
        class_names=loaded.class_names,
        channels=loaded.model.arch.in_channels,
        origin=loaded.origin,
        assumptions=loaded.assumptions,
        sha256=loaded.sha256,
        about=loaded.about,
    )
