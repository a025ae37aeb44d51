"""What classifies images, by whatever name: weights on torch, or an exported model on its own engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from resnetkit import engine_store
from resnetkit.artefact import Artefact, is_artefact, open_artefact
from resnetkit.data import imagenet
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.spec import Split
from resnetkit.engines import Engine
from resnetkit.engines.of_torch import on_device
from resnetkit.errors import BadRequest
from resnetkit.layouts.recognise import shorten
from resnetkit.load import LoadedModel, load_model
from resnetkit.models.resnet import StrideStyle
from resnetkit.ways import AUTO, WAYS
from resnetkit.weights_file import are_placeholders


class Said(TypedDict, total=False):
    """What a user says of weights in place of, or beside, what they say: the options of `load_model`."""

    mean: Sequence[float] | None
    std: Sequence[float] | None
    class_names: Sequence[str] | None
    plain: bool
    stride_style: StrideStyle | None
    raw: bool


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
    name: str, device: torch.device, engine_name: str | None = None, **said: Unpack[Said]
) -> Classifier:
    """Open a model by its name; what is said of it, and the errors, are those of `load_model`.

    It runs as it is, weights in torch and an exported model on its own engine, or on the engine that is named: "auto"
    is the one that `bench` found to be the fastest here, if it did.  BadRequest for an engine that does not run it, and
    for anything said beside an exported model, or another device than the CPU: all of it is inside.
    """
    if not is_artefact(Path(name)):
        return classifier_on(load_model(name, **said), device, engine_name, name)
    given = {f"--{option.replace('_', '-')}": value for option, value in said.items()}
    problems = [f"{option}: it has its own inside" for option, value in given.items() if value]
    if device.type != "cpu":
        problems.append(f"--device {device}: its engine runs on the CPU")
    if problems:
        raise BadRequest(f"{name} is an exported model", *problems, "next: export the weights anew")
    artefact = open_artefact(Path(name), engine_name or AUTO)
    fastest = engine_store.remembered(artefact.sha256) if engine_name == AUTO else None
    return classifier_of_artefact(open_artefact(Path(name), fastest) if fastest else artefact)


def classifier_on(loaded: LoadedModel, device: torch.device, engine_name: str | None, name: str) -> Classifier:
    """Return a loaded model on an engine, by a form of it that `bench` has made."""
    key = engine_store.key_of(loaded)
    way = WAYS[(engine_store.remembered(key) if engine_name == AUTO else engine_name) or "torch"]
    if way.form and device.type != "cpu":
        if engine_name != AUTO:
            raise BadRequest(f"--engine {way.name} runs on the CPU", f"got --device {device}")
        way = WAYS["torch"]
    if not way.form:
        return classifier_of(loaded, device, way.name)
    file = engine_store.file_of(key, way)
    if file is None:
        raise BadRequest(f"--engine {way.name}: no such form of {name} was made here", loaded.origin,
                         f"next: resnetkit bench {name}")  # fmt: skip
    return replace(classifier_of(loaded, device), engine=open_artefact(file, way.name).engine)


def classifier_of_artefact(artefact: Artefact) -> Classifier:
    """Return an exported model as a classifier."""
    return Classifier(artefact.engine, artefact.facts.class_names, 3, artefact.origin(), (), artefact.sha256,
                      artefact.facts.about)  # fmt: skip


def classifier_of(loaded: LoadedModel, device: torch.device, way_name: str = "torch") -> Classifier:
    """Return a loaded model as a classifier in torch, on a device."""
    return Classifier(
        engine=on_device(loaded.model, loaded.preprocess, device, way_name),
        class_names=loaded.class_names,
        channels=loaded.model.arch.in_channels,
        origin=loaded.origin,
        assumptions=loaded.assumptions,
        sha256=loaded.sha256,
        about=loaded.about,
    )


# --- which of its classes the folders of a data set are ---


def fitting(
    loaded: Classifier, split: Split | PhotoSplit, folder_names: Sequence[str], data: str
) -> tuple[Split | PhotoSplit, str | None]:
    """Return the images with the labels of the model's classes, and what was assumed for that.

    All that does not fit is told in one refusal.
    """
    matched, count = None, len(loaded.class_names)
    problems = []
    if are_same(tuple(folder_names), loaded.class_names):
        pass
    elif sorted(folder_names) == sorted(loaded.class_names) and len(set(folder_names)) == len(folder_names):
        split = split.relabelled([loaded.class_names.index(name) for name in folder_names])
    elif isinstance(split, PhotoSplit) and not are_placeholders(loaded.class_names):
        numbers, strangers = match_classes(folder_names, loaded.class_names)
        if strangers:
            problems += [
                *strangers,
                "next: name the folders as the model's classes, or its classes: --class-names FILE",
            ]
        else:
            split = split.relabelled(numbers)
    elif count != len(folder_names):
        problems.append(f"it has {count} classes, the data {len(folder_names)}")
    elif isinstance(split, PhotoSplit):
        matched = "class folders in the order of their names, the weights name no classes (--class-names)"
    if loaded.channels != 3:
        problems.append(f"it has {loaded.channels} channels, the data 3")
    if isinstance(split, Split) and loaded.engine.preprocess.image_size != split.images.shape[1]:
        sides = f"{loaded.engine.preprocess.image_size} pixels a side, the data {split.images.shape[1]}"
        problems.append(f"it has {sides}")
    if problems:
        raise BadRequest(f"the model does not fit {data}", *problems, loaded.origin)
    return split, matched


def are_same(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Say whether two lists have the same classes in the same order; ImageNet's may be written with synonyms."""
    return names == others or (imagenet.are_imagenet(names) and imagenet.are_imagenet(others))


def match_classes(folder_names: Sequence[str], class_names: tuple[str, ...]) -> tuple[list[int], list[str]]:
    """Return the class number of each folder, found by its name or ImageNet synset, and what is wrong with others."""
    places: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        places.setdefault(name, []).append(number)
    if imagenet.are_imagenet(class_names):
        places |= {synset: [number] for number, synset in enumerate(imagenet.synsets())}
    unknown = [name for name in folder_names if name not in places]
    doubtful = [name for name in folder_names if len(places.get(name, [])) > 1]
    strangers = []
    if unknown:
        strangers.append(f"folders that are no class of it: {shorten(unknown)}; its classes: {shorten(list(places))}")
    if doubtful:
        strangers.append(f"folders whose name several of its classes have: {shorten(doubtful)}")
    return [places[name][0] for name in folder_names if name in places], strangers
