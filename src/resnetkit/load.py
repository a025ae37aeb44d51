"""Loading a model by whatever it is called: a zoo name, a run directory or a weights file of a known layout."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnetkit import checkpoint
from resnetkit.convert import ForeignWeights, from_foreign, load_checked, recognise
from resnetkit.data.download import download
from resnetkit.data.spec import DATASETS
from resnetkit.data.transforms import Preprocess, preprocess_from_json
from resnetkit.errors import BadRequest, DamagedFile, SourceError, WeightsError, did_you_mean
from resnetkit.home import home
from resnetkit.models import Architecture, ResNet, name_of
from resnetkit.models.resnet import StrideStyle, architecture_from_json
from resnetkit.recipe import Normalize, Recipe
from resnetkit.recipe_checks import constants_problems
from resnetkit.recipes import RECIPES
from resnetkit.torch_format import read_torch_file
from resnetkit.zoo import ZOO, ZooEntry

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
PAGE_WEIGHTS = "https://download.openmmlab.com/mmclassification/v0/"
HASH_DIGITS = 8  # the name of a file of the page ends in the first digits of its SHA-256
MAX_WEIGHTS_BYTES = 2**30
# resnet50-mill_in21k has no recipe: its authors (Alibaba-MIIL) feed squares of 224 pixels in [0, 1] as they are.
MILL_PREPROCESS = Preprocess(
    224, np.zeros(3, np.float32), np.ones(3, np.float32), resize_size=224, family="pillow-bilinear", keep_ratio=False
)


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to use, and what is known of it."""

    model: ResNet  # in eval mode, on the CPU, float32
    preprocess: Preprocess
    class_names: tuple[str, ...]
    origin: str  # one line: file, layout, architecture
    assumptions: tuple[str, ...]  # what the file does not say, and how to change it
    sha256: str  # of the weights file


def load_model(
    name: str | Path,
    *,
    mean: Sequence[float] | None = None,  # these replace what the weights say, in [0, 1] units
    std: Sequence[float] | None = None,
    plain: bool = False,
    stride_style: StrideStyle = "pytorch",
) -> LoadedModel:
    """Load a model by its zoo name, run directory or weights file.

    Raises BadRequest for a name that is nothing of these, WeightsError for a file that is no ResNet's.
    """
    path = find_weights(name)
    loaded = load_file(path, plain, stride_style)
    if not Path(name).exists():
        loaded = as_published(loaded, ZOO[str(name)])
    return with_constants(loaded, mean, std)


def load_all_but_head(model: ResNet, name: str | Path) -> str:
    """Load the weights called `name` into a model, all but its head (`fc`); returns the SHA-256 of their file.

    Every other tensor of both is used; raises BadRequest for an unknown name, WeightsError where one does not fit.
    """
    path = find_weights(name)
    content, metadata = read_content(path)
    head = {name: value for name, value in model.state_dict().items() if name.startswith("fc.")}
    try:
        tensors = content if metadata else from_foreign(content).tensors
        body = {name: value for name, value in tensors.items() if not name.startswith("fc.")}
        load_checked(model, body | head)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.what}", *error.details) from error
    return file_sha256(path)


def find_weights(name: str | Path) -> Path:
    """Return the weights file that a zoo name (fetched when absent), a run directory or a path stands for."""
    path = Path(name)
    if path.is_dir():
        return run_weights(path)
    if path.is_file():
        return path
    if str(name) in ZOO:
        return published_file(ZOO[str(name)])
    raise BadRequest(
        f"no model {str(name)!r}{did_you_mean(str(name), ZOO)}",
        "expected a run directory, a weights file, or a name that `resnetkit zoo` lists",
    )


def read_content(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """Read a weights file: what it holds, and the metadata that our own files have."""
    if path.suffix == ".safetensors":
        return checkpoint.read_weights(path)
    return read_torch_file(path).content, None


def run_weights(run: Path) -> Path:
    """Return the weights file of a run directory."""
    weights = run / checkpoint.WEIGHTS
    if not weights.is_file():
        checkpoint.run_recipe(run)  # is it a run directory at all?
        raise BadRequest(f"{run} has no weights yet", f"next: resnetkit train --resume --out {run}")
    return weights


def load_file(path: Path, plain: bool = False, stride_style: StrideStyle = "pytorch") -> LoadedModel:
    """Load a weights file: ours, which describes itself, or a foreign one."""
    sha256 = file_sha256(path)
    content, metadata = read_content(path)
    try:
        if metadata:
            own = load_own(path, content, metadata, sha256)
            refuse_other_architecture(own.model.arch, plain, stride_style)
            return own
        foreign = from_foreign(content)
        arch = recognise(foreign.tensors, plain=plain, stride_style=stride_style)
        return load_foreign(path, foreign, arch, sha256)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.what}", *error.details) from error


def load_own(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, Any], sha256: str) -> LoadedModel:
    """Build what our own file describes."""
    try:
        model = ResNet(architecture_from_json(metadata["architecture"]))
        preprocess = preprocess_from_json(metadata["preprocess"])
        recipe, class_names = metadata["recipe"], tuple(metadata["class_names"])
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError("the file's metadata is damaged", f"got {error!r}") from error
    used = load_checked(model, tensors)
    origin = f"{path}: {name_of(model.arch)}, recipe {recipe}, all {used} tensors used"
    return LoadedModel(model.eval(), preprocess, class_names, origin, (), sha256)


def refuse_other_architecture(arch: Architecture, plain: bool, stride_style: StrideStyle) -> None:
    """Refuse flags for foreign files where our own file says otherwise."""
    if plain and arch.shortcut != "plain":
        raise BadRequest(f"--plain: the file says that its net has shortcuts, option {arch.shortcut}")
    if stride_style == "caffe" and arch.stride_style != "caffe":
        raise BadRequest(f"--stride-style: the file says that its stride style is {arch.stride_style}")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_foreign(path: Path, foreign: ForeignWeights, arch: Architecture, sha256: str) -> LoadedModel:
    """Build the recognised architecture, with stated defaults for what its file cannot tell."""
    model = ResNet(arch)
    used = load_checked(model, foreign.tensors)
    origin = f"{path}: {name_of(arch)}, {foreign.layout} layout, all {used} tensors used"
    small = arch.stem == "3x3"
    mean, std = (np.asarray(constants, np.float32) for constants in default_constants(arch.in_channels))
    preprocess = Preprocess(32 if small else 224, mean, std, None if small else 256)
    return LoadedModel(
        model.eval(), preprocess, known_classes(arch.num_classes), origin, tuple(assumptions(arch)), sha256
    )


def default_constants(channels: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and std for a file that names none: ImageNet's for colour, else the pixels in [0, 1] as they are."""
    return (IMAGENET_MEAN, IMAGENET_STD) if channels == 3 else ((0.0,) * channels, (1.0,) * channels)


def assumptions(arch: Architecture) -> list[str]:
    """List the defaults taken for what the tensors of a foreign file cannot tell."""
    constants = zip(("mean", "std"), default_constants(arch.in_channels), strict=True)
    taken = [f"{name} {' '.join(map(str, numbers))}, the file names none (--{name})" for name, numbers in constants]
    if arch.shortcut == "A":
        taken.append("residual, with shortcut option A (--plain for a net without shortcuts)")
    if arch.shortcut == "plain":
        taken.append("plain, as asked: no shortcuts")
    if arch.block == "bottleneck":
        taken.append(f"stride style {arch.stride_style} (--stride-style pytorch or caffe)")
    return taken


def known_classes(num_classes: int) -> tuple[str, ...]:
    """Return the names of ImageNet's 1000 classes; for any other number, the class numbers."""
    if num_classes != 1000:
        return tuple(f"class {index}" for index in range(num_classes))
    lines = (files("resnetkit.data") / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return tuple(line.partition(" ")[2] for line in lines)


def published_file(entry: ZooEntry) -> Path:
    """Return the page's own weights of a row, fetched once into the weights folder of RESNETKIT_HOME."""
    if entry.weights is None:
        train = f"resnetkit train {entry.name}, then name the run directory; or " if entry.name in RECIPES else ""
        raise BadRequest(f"{entry.name} has no weights that can be had here", f"next: {train}name a weights file")
    path = home() / "weights" / Path(entry.weights).name
    if not path.is_file():
        fetch_published(entry, path)
    check_published(path, path.name, "next: remove it, and it is fetched again")
    return path


def as_published(loaded: LoadedModel, entry: ZooEntry) -> LoadedModel:
    """Give published weights the preprocessing of their row and, where the file has none, its class names."""
    names = DATASETS["cifar10"].class_names if entry.num_classes == 10 else loaded.class_names
    recipe = RECIPES.get(entry.name)
    preprocess = preprocess_of(recipe) if recipe else MILL_PREPROCESS
    return replace(loaded, class_names=names, assumptions=(), preprocess=preprocess)


def preprocess_of(recipe: Recipe) -> Preprocess:
    """Return the preprocessing of a recipe with constants a channel."""
    assert isinstance(recipe.preprocess, Normalize)
    mean, std = (np.asarray(numbers, np.float32) for numbers in (recipe.preprocess.mean, recipe.preprocess.std))
    view = recipe.view
    return Preprocess(view.crop_size, mean, std, view.resize_size, view.family, view.keep_ratio)


def check_published(path: Path, published: str, next_step: str) -> None:
    """Refuse a file that does not have the hash that its `published` name ends in."""
    found, expected = file_sha256(path), Path(published).stem[-HASH_DIGITS:]
    if not found.startswith(expected):
        raise DamagedFile(f"{path} is not the published file", f"got sha256 {found}", f"expected {expected}", next_step)


def fetch_published(entry: ZooEntry, path: Path) -> None:
    """Fetch a row's file of the page to `path`, whole or not at all."""
    url = f"{PAGE_WEIGHTS}{entry.weights}"
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        download(url, part, MAX_WEIGHTS_BYTES, show=True)
        check_published(part, path.name, f"next: try again, or put the file there yourself: {path}")
        part.replace(path)
    except SourceError as error:
        raise SourceError(
            f"no source gave the weights of {entry.name}",
            f"{url}: {error.what}",
            f"next: put the file there yourself: {path}",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def with_constants(loaded: LoadedModel, mean: Sequence[float] | None, std: Sequence[float] | None) -> LoadedModel:
    """Replace the mean and std of the preprocessing, one number a channel in [0, 1] units."""
    channels = loaded.model.arch.in_channels
    preprocess = loaded.preprocess
    for flag, numbers in (("--mean", mean), ("--std", std)):
        if numbers is not None and len(numbers) != channels:
            raise BadRequest(f"{flag}: expected {channels} numbers, one a channel, got {len(numbers)}")
    problems = constants_problems("--mean", mean, "--std", std)
    if problems:
        raise BadRequest(*problems)
    if mean is not None:
        preprocess = replace(preprocess, mean=np.asarray(mean, np.float32))
    if std is not None:
        preprocess = replace(preprocess, std=np.asarray(std, np.float32))
    said = (("mean ",) if mean is not None else ()) + (("std ",) if std is not None else ())
    unsaid = tuple(assumption for assumption in loaded.assumptions if not assumption.startswith(said))
    return replace(loaded, preprocess=preprocess, assumptions=unsaid)
