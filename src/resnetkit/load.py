"""Loading a model by whatever it is called: a zoo name, published weights, a run directory, a file, a hub name."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnetkit import checkpoint, hub
from resnetkit.checkpoint import tensors_sha256
from resnetkit.confidence import temperature_of
from resnetkit.data import imagenet
from resnetkit.data.spec import DATASETS
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadRequest, WeightsError, did_you_mean
from resnetkit.layouts.folders import CONFIG, is_model_folder
from resnetkit.layouts.recognise import build_with, load_checked
from resnetkit.models import ResNet
from resnetkit.models.resnet import STRIDE_STYLES, StrideStyle
from resnetkit.published import PUBLISHED, Published, published, published_file
from resnetkit.recipe_checks import constants_problems
from resnetkit.shipped_weights import SHIPPED
from resnetkit.weights_file import (
    ABOUT,
    ASSUMED_NAMES,
    FileTensors,
    WeightsFile,
    default_preprocess,
    known_classes,
    metadata_of,
    read_tensors,
    read_weights_file,
)
from resnetkit.zoo import ZOO


@dataclass(frozen=True)
class LoadedModel:
    """A model ready to use, and what is known of it."""

    model: ResNet  # in eval mode, on the CPU, float32
    preprocess: Preprocess
    class_names: tuple[str, ...]
    origin: str  # one line: file, layout, architecture
    assumptions: tuple[str, ...]  # what the file does not say, and how to change it
    sha256: str  # of the weights file
    about: dict[str, Any] = field(default_factory=ABOUT.copy)  # recipe, data, metrics, license, origin, temperature
    measured: str | None = None  # `tensors_sha256` of the weights that metrics and temperature are of

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return temperature_of(self.about)


def load_model(
    name: str | Path,
    *,
    weights: str | None = None,  # whose published weights of a net: openmmlab, torchvision or timm
    mean: Sequence[float] | None = None,  # these replace what the weights say, in [0, 1] units
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    plain: bool = False,
    stride_style: StrideStyle | None = None,
    raw: bool = False,
) -> LoadedModel:
    """Load a model by its name, run directory, folder or weights file; the net is in eval mode, float32, on the CPU.

    `name` is a zoo name (resnet50_8xb32_in1k), published weights (timm/resnet50.a1_in1k, or resnet50 with
    weights="timm"), a run directory, a file of any known layout, a folder of transformers or timm, or hf:OWNER/NAME.
    `plain`, `stride_style` and `raw` say of a foreign file what it cannot: a net without shortcuts, where a strided
    bottleneck has its stride, and to take the weights that were not averaged.

    Raises BadRequest for a name that is nothing of these, SourceError where weights cannot be fetched, and
    WeightsError or DamagedFile for a file that is no ResNet's, whole and safe to read.
    """
    file = read_model_file(
        name,
        weights=weights,
        mean=mean,
        std=std,
        class_names=class_names,
        plain=plain,
        stride_style=stride_style,
        raw=raw,
    )
    model = build_with(file.arch, file.tensors)
    return LoadedModel(
        model=model,
        preprocess=file.preprocess,
        class_names=file.class_names,
        origin=file.origin(),
        assumptions=file.assumptions,
        sha256=file.sha256,
        about=file.about,
        measured=tensors_sha256(model.state_dict()) if file.about["metrics"] or file.about["temperature"] else None,
    )


def drawn_model(name: str) -> LoadedModel:
    """Build a net of the zoo with weights that are drawn, always the same: for what does not depend on weights."""
    entry = ZOO[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = entry.build().eval()
    if not isinstance(model, ResNet):
        raise BadRequest(f"{name} is no residual net", f"got {entry.model}")
    preprocess = replace(default_preprocess(model.arch, None), image_size=entry.image_size)
    return LoadedModel(model, preprocess, known_classes(entry.num_classes), f"{name}: drawn weights", (), "drawn")


def read_model_file(
    name: str | Path,
    *,
    weights: str | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    plain: bool = False,
    stride_style: StrideStyle | None = None,
    raw: bool = False,
) -> WeightsFile:
    """Read the weights file that a name stands for, fetched when absent; arguments and errors are `load_model`'s."""
    if stride_style not in (None, *STRIDE_STYLES):
        raise BadRequest(f"--stride-style: expected {' or '.join(STRIDE_STYLES)}, got {stride_style!r}")
    entry, path = find_model(name, weights)
    file = read_weights_file(path, plain=plain, stride_style=stride_style, raw=raw)
    if entry:
        file = as_published(file, entry)
    elif is_hub_name(name):
        file = with_url(file, str(name))
    return with_class_names(with_constants(file, mean, std), class_names)


def load_all_but_head(model: ResNet, name: str | Path) -> FileTensors:
    """Load the weights called `name` into a model, all but its head (`fc`); returns what was in their file.

    Every other tensor of both is used; raises BadRequest for an unknown name, WeightsError where one does not fit,
    or where the file says that its net is another one with tensors of the same names and shapes.
    """
    _, path = find_model(name)
    file = read_tensors(path)
    head = {name: value for name, value in model.state_dict().items() if name.startswith("fc.")}
    body = {name: value for name, value in file.tensors.items() if not name.startswith("fc.")}
    try:
        load_checked(model, body | head)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error.what}", *error.details) from error
    said = {"stride_style": file.stride_style} | (asdict(file.arch) if file.arch else {})
    wanted = asdict(model.arch)
    other = [f"{key} {value!r} instead of {wanted[key]!r}" for key, value in said.items()
             if value not in (None, wanted[key]) and key != "num_classes"]  # fmt: skip
    if other and not (model.arch.block == "basic" and file.arch is None):
        raise WeightsError(f"{path}: the weights of another net, though all of them fit", f"got {', '.join(other)}")
    return file


def is_hub_name(name: str | Path) -> bool:
    """Say whether a name means a repository on the hub, and nothing that is here."""
    return not Path(name).exists() and hub.parse_hub_name(str(name)) is not None


def with_url(file: WeightsFile, url: str) -> WeightsFile:
    """Say of a foreign file where it came from; ours says itself where its weights did."""
    if file.layout == "resnetkit":
        return file
    return replace(file, about=file.about | {"origin": file.about["origin"] | {"url": url}})


def find_model(name: str | Path, weights: str | None = None) -> tuple[Published | None, Path]:
    """Return the published weights that a name stands for, if it does, and the file or folder that has the weights.

    A name of the zoo means the weights that come with the package, where it has them.
    """
    if weights is None and not Path(name).exists() and str(name) in SHIPPED:
        return None, SHIPPED[str(name)]
    if weights is None and (Path(name).exists() or (str(name) not in ZOO and str(name) not in PUBLISHED)):
        return None, find_weights(Path(name))
    entry = published(str(name), weights)
    return entry, published_file(entry)


def find_weights(path: Path) -> Path:
    """Return a file, or a folder of transformers or timm, that is there or comes from the hub."""
    if path.is_dir():
        if (path / checkpoint.RECIPE).is_file() or not is_model_folder(path):
            return run_weights(path)
        return path
    if path.is_file():
        return path
    if path.exists():  # a pipe would be waited for, for ever
        raise BadRequest(f"{path} is no ordinary file", "expected a weights file or a folder")
    if remote := hub.parse_hub_name(str(path)):
        return pulled(*remote)
    known = [*ZOO, *PUBLISHED]
    raise BadRequest(
        f"no model {str(path)!r}{did_you_mean(str(path), known)}",
        "expected a run directory, a weights file, hf:OWNER/NAME, or a name that `resnetkit zoo` lists",
    )


def pulled(repo: str, revision: str | None) -> Path:
    """Return what has the weights of a repository on the hub: our one file, or the folder."""
    folder = hub.pull(repo, revision)
    return folder if is_model_folder(folder) else folder / "model.safetensors"


def run_weights(run: Path) -> Path:
    """Return the weights file of a run directory."""
    weights = run / checkpoint.WEIGHTS
    if not weights.is_file():
        if not (run / checkpoint.RECIPE).is_file():
            raise BadRequest(
                f"{run} is neither a run directory nor a model's folder",
                f"expected {checkpoint.RECIPE} and {checkpoint.WEIGHTS} in it, or {CONFIG} and model.safetensors",
            )
        raise BadRequest(f"{run} has no weights yet", f"next: resnetkit train --resume --out {run}")
    return weights


def as_published(file: WeightsFile, entry: Published) -> WeightsFile:
    """Give published weights what their publisher says of them: preprocessing, class names, figures, licence."""
    lists = {"imagenet": imagenet.names(), "cifar10": DATASETS["cifar10"].class_names}
    names = tuple(lists.get(entry.class_list or "", ()))
    figures = {"images": entry.images, "top1": entry.top1, "top5": entry.top5}
    said = {
        "license": entry.licence,
        "metrics": {"as published": figures} if entry.top1 is not None else {},
        "origin": file.about["origin"] | {"url": entry.url},
    }
    known = names if len(names) == file.arch.num_classes else file.class_names
    return replace(file, preprocess=entry.preprocess, class_names=known, about=file.about | said, assumptions=())


def with_constants(file: WeightsFile, mean: Sequence[float] | None, std: Sequence[float] | None) -> WeightsFile:
    """Replace the mean and std of the preprocessing, one number a channel in [0, 1] units."""
    channels, preprocess = file.arch.in_channels, file.preprocess
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
    unsaid = tuple(assumption for assumption in file.assumptions if not assumption.startswith(said))
    return replace(file, preprocess=preprocess, assumptions=unsaid)


def with_class_names(file: WeightsFile, class_names: Sequence[str] | None) -> WeightsFile:
    """Replace the names of the classes, one a class in order."""
    if class_names is None:
        return file
    if len(class_names) != file.arch.num_classes:
        raise BadRequest(f"--class-names: expected {file.arch.num_classes} names, got {len(class_names)}")
    odd = [name for name in class_names if not (isinstance(name, str) and name.strip() and name.isprintable())]
    if odd or isinstance(class_names, str):
        got = f"got {ascii(odd[0])[:60]}" if odd else "got one text"
        raise BadRequest("--class-names: expected names that are not empty and can be printed", got)
    unsaid = tuple(assumption for assumption in file.assumptions if assumption != ASSUMED_NAMES)
    return replace(file, class_names=tuple(class_names), assumptions=unsaid)


def save(loaded: LoadedModel, path: str | Path, *, license: str | None = None) -> str:  # noqa: A002
    """Write a model into one .safetensors file that describes itself; returns the file's SHA-256.

    The file has the architecture, class names, preprocessing, recipe, data hash, metrics with their number of
    images, temperature, licence, and where the weights came from; `load_model(path)` gives all of it back.  Metrics
    and temperature are kept only while the weights are those that were measured.  Raises BadRequest for another
    ending, or a file there.
    """
    target = Path(path)
    if target.suffix != ".safetensors":
        raise BadRequest(f"{target}: expected a name that ends in .safetensors")
    if os.path.lexists(target):
        raise BadRequest(f"{target} exists already", "next: name another file, or remove it")
    if not target.absolute().parent.is_dir():
        raise BadRequest(f"no such folder: {target.parent}")
    tensors = loaded.model.state_dict()
    about = loaded.about | ({"license": license} if license else {})
    if loaded.measured != tensors_sha256(tensors):
        about |= {"metrics": {}, "temperature": None}
    metadata = metadata_of(loaded.model.arch, loaded.preprocess, loaded.class_names, about)
    return checkpoint.save_weights(target, tensors, metadata)
