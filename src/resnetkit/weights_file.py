"""What a weights file says of itself, whoever wrote it: the tensors, the architecture, and all that is known.

Ours (safetensors with metadata) says everything.  Of any other, container, layout, architecture and dtype are
recognised from the file alone, and what it cannot tell takes a default that is listed among the assumptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from resnetkit import checkpoint
from resnetkit.confidence import temperature_of
from resnetkit.data import imagenet
from resnetkit.data.transforms import Preprocess, are_printable, preprocess_from_json, refuse_unsound_preprocess
from resnetkit.errors import BadRequest, DamagedFile, WeightsError
from resnetkit.home import file_sha256
from resnetkit.layouts.contents import Constants, ForeignWeights, from_foreign, refuse_odd_names
from resnetkit.layouts.folders import ModelFolder, is_model_folder, read_model_folder
from resnetkit.layouts.recognise import check_fit, recognise
from resnetkit.models import Architecture, name_of
from resnetkit.models.resnet import StrideStyle, architecture_from_json
from resnetkit.torch_format import read_torch_file

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
ASSUMED_NAMES = "the class names of ImageNet, the file has none (--class-names)"
ABOUT: dict[str, Any] = {"recipe": None, "data": None, "metrics": {}, "license": None, "origin": None,
                         "temperature": None}  # fmt: skip


@dataclass(frozen=True)
class WeightsFile:
    """A file whose every tensor fits its architecture."""

    path: Path  # a file, or a folder of transformers or timm
    container: str  # safetensors, torch zip or torch legacy
    layout: str
    tensors: dict[str, Tensor]  # under our names, in the dtype of the file
    arch: Architecture
    preprocess: Preprocess
    class_names: tuple[str, ...]
    about: dict[str, Any]  # recipe, data, metrics, license, origin, temperature, as in our metadata
    recorded: dict[str, Any]  # numbers and short texts that the file has beside the tensors
    notes: tuple[str, ...]  # which copy was taken, what was left aside
    assumptions: tuple[str, ...]  # what the file does not say, and how to change it
    sha256: str  # of the file with the tensors

    def origin(self) -> str:
        """Say in one line what this is."""
        recipe = f"recipe {self.about['recipe']}" if self.about["recipe"] else f"{self.layout} layout"
        return f"{self.path}: {name_of(self.arch)}, {recipe}, all {len(self.tensors)} tensors used"


@dataclass(frozen=True)
class Parts:
    """The tensors of a file, before anything is recognised."""

    container: str
    content: Any  # ours: tensors by name
    metadata: dict[str, Any] | None  # ours only
    folder: ModelFolder | None
    stand_ins: tuple[str, ...]  # names of what was not read
    sha256: str


def read_weights_file(
    path: Path,
    *,
    plain: bool = False,
    stride_style: StrideStyle | None = None,  # of a foreign file; None: what it says, else "pytorch"
    raw: bool = False,  # not the averaged copy, where a file has both
) -> WeightsFile:
    """Read a weights file of any known layout; raises WeightsError that names it and everything that does not fit."""
    try:
        parts = read_parts(path)
        if parts.metadata:
            own = own_weights(path, parts)
            refuse_other_architecture(own.arch, plain, stride_style, raw)
            return own
        return foreign_weights(path, parts, from_foreign(parts.content, raw=raw), plain, stride_style)
    except (WeightsError, DamagedFile) as error:
        raise named(path, error) from error


def read_parts(path: Path) -> Parts:
    """Read the container of a file, or of the weights in a folder of transformers or timm."""
    folder = read_model_folder(path) if path.is_dir() and is_model_folder(path) else None
    file = folder.weights if folder else path
    sha256 = file_sha256(file)
    if file.suffix == ".safetensors":
        content, metadata = checkpoint.read_weights(file)
        refuse_odd_names(content)
        return Parts("safetensors", content, metadata, folder, (), sha256)
    read = read_torch_file(file)
    return Parts(read.container, read.content, None, folder, read.ignored, sha256)


@dataclass(frozen=True)
class FileTensors:
    """A file's tensors under our names, of whatever net, and what it says of that net."""

    tensors: dict[str, Tensor]
    sha256: str
    arch: Architecture | None  # of our own file
    stride_style: StrideStyle | None  # None: not recorded
    notes: tuple[str, ...]  # which copy was taken, what was left aside


def read_tensors(path: Path) -> FileTensors:
    """Read a file's tensors, also those of a backbone without a head."""
    try:
        parts = read_parts(path)
        if parts.metadata:
            own = own_weights(path, parts)
            return FileTensors(own.tensors, own.sha256, own.arch, own.arch.stride_style, ())
        foreign = from_foreign(parts.content)
    except (WeightsError, DamagedFile) as error:
        raise named(path, error) from error
    return FileTensors(foreign.tensors, parts.sha256, None, recorded_style(parts.folder, foreign), foreign.notes)


def recorded_style(folder: ModelFolder | None, foreign: ForeignWeights) -> StrideStyle | None:
    """Return the stride style that a foreign file records, if it does."""
    return (folder.stride_style if folder else None) or foreign.stride_style


def named(path: Path, error: WeightsError | DamagedFile) -> WeightsError | DamagedFile:
    """Return the error with the file's name in it."""
    return error if str(path) in error.what else type(error)(f"{path}: {error.what}", *error.details)


def own_weights(path: Path, parts: Parts) -> WeightsFile:
    """Read what our own file says of itself."""
    metadata = parts.metadata or {}
    try:
        arch = architecture_from_json(metadata["architecture"])
        preprocess = preprocess_from_json(metadata["preprocess"])
        refuse_unsound_preprocess(preprocess, arch.in_channels)
        class_names = tuple(map(str, metadata["class_names"]))
        about = checked_about(metadata)
        if sum(arch.depths) > len(parts.content):  # each is above 0: a net of a billion blocks is not even tried
            raise WeightsError("the weights do not fit the architecture", f"got {len(parts.content)} tensors")
        check_fit(arch, parts.content)
    except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise WeightsError("the file's metadata is damaged", f"got {error!r}") from error
    if len(class_names) != arch.num_classes or not are_printable(class_names):
        got = f"got {len(class_names)} class names for {arch.num_classes} classes, or such as cannot be printed"
        raise WeightsError("the file's metadata contradicts itself", got)
    return WeightsFile(
        path=path,
        container=parts.container,
        layout="resnetkit",
        tensors=parts.content,
        arch=arch,
        preprocess=preprocess,
        class_names=class_names,
        about=about,
        recorded={},
        notes=(),
        assumptions=(),
        sha256=parts.sha256,
    )


def checked_about(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of weights beside the net; TypeError for a part that is not what it must be."""
    about = {key: metadata.get(key, default) for key, default in ABOUT.items()}
    kinds = {"recipe": str | None, "data": dict | None, "metrics": dict, "license": str | None, "origin": dict | None,
             "temperature": dict | None}  # fmt: skip
    wrong = [key for key, kind in kinds.items() if not isinstance(about[key], kind)]
    wrong += ["metrics"] * (not wrong and not all(isinstance(found, dict) for found in about["metrics"].values()))
    if wrong:
        raise TypeError(f"{wrong[0]}: {type(about[wrong[0]]).__name__}")
    for name, found in about["metrics"].items():
        refuse_unsound_figures(name, found)
    temperature_of(about)  # ValueError for one that can be none
    data = about["data"]
    if data is not None and not all(isinstance(data.get(key), str) for key in ("name", "sha256")):
        raise ValueError(f"data {data!r:.100}")
    return about


def refuse_unsound_figures(name: str, figures: Mapping[str, Any]) -> None:
    """Refuse an accuracy that none can be, or one of no number of images; ValueError says which."""
    shares = [figures[key] for key in ("top1", "top5") if figures.get(key) is not None]
    images = figures.get("images")
    counted = images is None or (type(images) is int and images > 0)
    if not counted or not all(type(share) in {int, float} and 0 <= share <= 1 for share in shares):
        raise ValueError(f"metrics of {name!r:.100}: {dict(figures)!r:.200}")


def refuse_other_architecture(arch: Architecture, plain: bool, stride_style: StrideStyle | None, raw: bool) -> None:
    """Refuse flags for foreign files where our own file says otherwise."""
    if plain and arch.shortcut != "plain":
        raise BadRequest(f"--plain: the file says that its net has shortcuts, option {arch.shortcut}")
    if stride_style and stride_style != arch.stride_style:
        raise BadRequest(f"--stride-style: the file says that its stride style is {arch.stride_style}")
    if raw:
        raise BadRequest("--raw: a file of ours has one copy of the weights")


def foreign_weights(
    path: Path, parts: Parts, foreign: ForeignWeights, plain: bool, stride_style: StrideStyle | None
) -> WeightsFile:
    """Recognise the net, with stated defaults for what the file cannot tell."""
    folder = parts.folder
    said_style = recorded_style(folder, foreign)
    arch = recognise(foreign.tensors, plain=plain, stride_style=stride_style or said_style or "pytorch")
    check_fit(arch, foreign.tensors)
    if stride_style == "caffe" and arch.block == "basic":
        raise BadRequest("--stride-style caffe: the net has basic blocks, which stride in one place only")
    class_names = (folder and folder.class_names) or foreign.class_names or ()
    notes = list(foreign.notes)
    if not are_printable(class_names):
        notes.append("its class names are not used: they cannot be printed")
        class_names = ()
    if class_names and len(class_names) != arch.num_classes:
        notes.append(f"its {len(class_names)} class names are not used: the net has {arch.num_classes} classes")
        class_names = ()
    if parts.stand_ins:
        notes.append(f"not read: {', '.join(parts.stand_ins)}")
    preprocess = folder.preprocess if folder and folder.preprocess else None
    if preprocess:
        try:
            refuse_unsound_preprocess(preprocess, arch.in_channels)
        except ValueError as error:
            raise DamagedFile("its preprocessing is not sound", f"got {error}") from error
    constants = foreign.constants if arch.in_channels == 3 else None
    origin = {"file": path.name, "sha256": parts.sha256, "layout": foreign.layout, "container": parts.container}
    return WeightsFile(
        path=path,
        container=parts.container,
        layout=foreign.layout,
        tensors=foreign.tensors,
        arch=arch,
        preprocess=preprocess or default_preprocess(arch, constants),
        class_names=class_names or known_classes(arch.num_classes),
        about=ABOUT | {"license": folder and folder.license, "origin": origin | {"url": None}},
        recorded=foreign.recorded | (folder.recorded if folder else {}),
        notes=tuple(notes),
        assumptions=(
            *([] if preprocess or constants else assumed_constants(arch)),
            *assumed_net(arch, said_style),
            *([] if class_names or arch.num_classes != imagenet.NUM_CLASSES else [ASSUMED_NAMES]),
        ),
        sha256=parts.sha256,
    )


def default_preprocess(arch: Architecture, constants: Constants | None) -> Preprocess:
    """Return the preprocessing for a file that names none: ImageNet's, or for a CIFAR net its images as they are."""
    small = arch.stem == "3x3"
    known = (constants.mean, constants.std) if constants else default_constants(arch.in_channels)
    mean, std = (np.asarray(numbers, np.float32) for numbers in known)
    return Preprocess(32 if small else 224, mean, std, None if small else 256)


def default_constants(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std for a file that names none: ImageNet's for colour, else the pixels in [0, 1] as they are."""
    return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.0,) * channels, (1.0,) * channels)


def assumed_constants(arch: Architecture) -> list[str]:
    """List the constants taken where a file names none."""
    constants = zip(("mean", "std"), default_constants(arch.in_channels), strict=True)
    return [f"{name} {' '.join(map(str, numbers))}, the file names none (--{name})" for name, numbers in constants]


def assumed_net(arch: Architecture, said_style: StrideStyle | None) -> list[str]:
    """List what was taken for granted of the net, because tensors cannot tell it."""
    taken = []
    if arch.shortcut == "A":
        taken.append("residual, with shortcut option A (--plain for a net without shortcuts)")
    if arch.shortcut == "plain":
        taken.append("plain, as asked: no shortcuts")
    if arch.block == "bottleneck" and said_style is None:
        taken.append(f"stride style {arch.stride_style} (--stride-style pytorch or caffe)")
    return taken


def known_classes(num_classes: int) -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes; for any other number, the class numbers."""
    if num_classes == imagenet.NUM_CLASSES:
        return imagenet.names()
    return tuple(f"class {index}" for index in range(num_classes))


def are_placeholders(class_names: tuple[str, ...]) -> bool:
    """Tell whether class names are only numbers that stand for names nobody gave."""
    return class_names == tuple(f"class {index}" for index in range(len(class_names)))


def metadata_of(
    arch: Architecture, preprocess: Preprocess, class_names: tuple[str, ...], about: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what our own file says of its weights."""
    return {
        "architecture": asdict(arch),
        "class_names": list(class_names),
        "preprocess": preprocess.to_json(),
        **{key: about[key] for key in ABOUT},
    }
