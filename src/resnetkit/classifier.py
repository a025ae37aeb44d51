"""What classifies images, by whatever name: weights on torch, or an exported model on its own engine.

torch is imported only where it computes: an exported model, or a form that `bench` found to be fastest, does without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from resnetkit import engine_store
from resnetkit.artefact import Artefact, artefact_sha256, is_artefact, open_artefact
from resnetkit.engines import Engine
from resnetkit.errors import BadRequest, EngineRefused
from resnetkit.ways import AUTO, WAYS

if TYPE_CHECKING:
    from resnetkit.load import LoadedModel
    from resnetkit.models.resnet import StrideStyle

CPU = "cpu"


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
    about: dict[str, Any] = field(default_factory=dict)  # recipe, data, metrics, license, origin, temperature


def open_classifier(
    name: str, device: str | None = None, engine_name: str | None = None, **said: Unpack[Said]
) -> Classifier:
    """Open a model by its name; what is said of it, and the errors, are those of `load_model`.

    It runs as it is, weights in torch and an exported model on its own engine, or on the engine that is named: "auto"
    is the one that `bench` found to be the fastest here, if it did.  A device is one of torch's; None is CUDA's where
    torch has one to run the model on.  BadRequest for an engine that does not run it, and for anything said beside an
    exported model, or another device than the CPU: all of it is inside.
    """
    if is_artefact(Path(name)):
        refuse_said(name, said, device)
        return classifier_of_artefact(artefact_on(Path(name), engine_name))
    if engine_name and (device == CPU or (device is None and not engine_store.may_have_gpu())):
        found = known_form(name, engine_name, said)
        if found:
            return found
    from resnetkit.load import load_model

    return classifier_on(load_model(name, **said), device, engine_name, name)


def refuse_said(name: str, said: Said, device: str | None = None) -> None:
    """Refuse what is said beside an exported model."""
    problems = [f"--{option.replace('_', '-')}: it has its own inside" for option, value in said.items() if value]
    if device not in (None, CPU):
        problems.append(f"--device {device}: its engine runs on the CPU")
    if problems:
        raise BadRequest(f"{name} is an exported model", *problems, "next: export the weights anew")


def artefact_on(path: Path, engine_name: str | None) -> Artefact:
    """Open an exported model on its own engine, one that is named, or with "auto" the fastest here."""
    fastest = engine_store.remembered(artefact_sha256(path)) if engine_name == AUTO else None
    return open_artefact(path, fastest or engine_name or AUTO)


def known_form(name: str, engine_name: str, said: Said) -> Classifier | None:
    """Open the form of a weights file that `bench` made for an engine; None where it is torch, or nothing is known."""
    known = engine_store.known_file(name, said)
    way = engine_store.way_for(known.key, engine_name) if known else None
    file = engine_store.file_of(known.key, way) if known and way and way.form else None
    if known is None or way is None or file is None:
        return None
    classifier = classifier_of_artefact(open_artefact(file, way.name))
    return replace(classifier, origin=f"{known.path}{known.origin}", assumptions=known.assumptions,
                   sha256=known.sha256)  # fmt: skip


def classifier_on(loaded: LoadedModel, device: str | None, engine_name: str | None, name: str) -> Classifier:
    """Return a loaded model on an engine, by a form of it that `bench` has made."""
    from resnetkit.processes import choose_device

    key = engine_store.key_of(loaded)
    way = engine_store.way_for(key, engine_name)
    if way.form and engine_name == AUTO and choose_device(device).type != CPU:
        way = WAYS["torch"]
    if not way.form:
        return classifier_of(loaded, device, way.name)
    if device not in (None, CPU):
        raise EngineRefused(f"--engine {way.name} runs on the CPU", f"got --device {device}")
    file = engine_store.file_of(key, way)
    if file is None:
        makes = f"export {name} --format {way.form}" if way.library == "torch-export" else f"bench {name}"
        raise EngineRefused(f"--engine {way.name}: no such form of {name} was made here", loaded.origin,
                            f"next: resnetkit {makes}")  # fmt: skip
    return replace(classifier_of(loaded, CPU), engine=open_artefact(file, way.name).engine)


def classifier_of_artefact(artefact: Artefact) -> Classifier:
    """Return an exported model as a classifier."""
    return Classifier(artefact.engine, artefact.facts.class_names, 3, artefact.origin(), (), artefact.sha256,
                      artefact.facts.about)  # fmt: skip


def classifier_of(loaded: LoadedModel, device: str | None = CPU, way_name: str = "torch") -> Classifier:
    """Return a loaded model as a classifier in torch, on a device; None: this process's GPU where there is one."""
    from resnetkit.engines.of_torch import on_device
    from resnetkit.processes import choose_device, local_device

    where = local_device(choose_device(device))
    return Classifier(
        engine=on_device(loaded.model, loaded.preprocess, where, way_name, loaded.temperature),
        class_names=loaded.class_names,
        channels=loaded.model.arch.in_channels,
        origin=loaded.origin,
        assumptions=loaded.assumptions,
        sha256=loaded.sha256,
        about=loaded.about,
    )
