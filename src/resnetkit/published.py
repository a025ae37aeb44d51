"""Published weights by name: where they are to be had, and what their publisher says of them.

A file is looked for in RESNETKIT_HOME/weights, then where RESNETKIT_MIRROR says (a folder or a URL, with the path that
the file has below its publisher's host, or only its name), then at its publisher's URL.  It is kept only when its
SHA-256 begins as the end of its name says.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np

from resnetkit.data.download import download
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadRequest, DamagedFile, ResnetkitError, SourceError, did_you_mean
from resnetkit.home import file_sha256, home, locked
from resnetkit.published_tables import DEFAULTS, LICENCES, TIMM_WEIGHTS, TORCH, TORCHVISION
from resnetkit.recipe import Normalize, Recipe, ResizeFamily
from resnetkit.recipes import RECIPES
from resnetkit.weights_file import IMAGENET_MEAN, IMAGENET_STD
from resnetkit.zoo import ZOO, ZooEntry

MIRROR = "RESNETKIT_MIRROR"
PAGE_WEIGHTS = "https://download.openmmlab.com/mmclassification/v0/"
HASH_DIGITS = 8
MAX_WEIGHTS_BYTES = 2**30
IMAGENET_VAL = 50_000  # images behind the figures that are published for ImageNet
# resnet50-mill_in21k has no recipe: its authors (Alibaba-MIIL) feed squares of 224 pixels in [0, 1] as they are.
MILL_PREPROCESS = Preprocess(
    224, np.zeros(3, np.float32), np.ones(3, np.float32), resize_size=224, family="pillow-bilinear", keep_ratio=False
)
# Rows whose weights OpenMMLab converted from others': torchvision's, and Alibaba-MIIL's, whose licence is not known.
CONVERTED = {"wide-resnet50_8xb32_in1k": "bsd-3-clause", "wide-resnet101_8xb32_in1k": "bsd-3-clause",
             "resnet50-mill_in21k": None}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """One file of weights, as published."""

    name: str  # as in timm/resnet50.a1_in1k
    url: str
    licence: str | None
    class_list: str | None  # imagenet, cifar10, or None where the names are not known
    preprocess: Preprocess
    top1: float | None = None  # published fractions
    top5: float | None = None
    images: int | None = None  # that the figures are of

    @property
    def file_name(self) -> str:
        """The last part of the URL."""
        return PurePosixPath(urlsplit(self.url).path).name

    @property
    def hash_prefix(self) -> str:
        """The first digits of the file's SHA-256, with which its name ends."""
        return PurePosixPath(self.file_name).stem[-HASH_DIGITS:]


def imagenet_preprocess(crop: int, resize: int, family: ResizeFamily) -> Preprocess:
    """Return the preprocessing with ImageNet's constants."""
    mean, std = (np.asarray(numbers, np.float32) for numbers in (IMAGENET_MEAN, IMAGENET_STD))
    return Preprocess(crop, mean, std, resize, family)


def preprocess_of(recipe: Recipe) -> Preprocess:
    """Return the preprocessing of a recipe with constants a channel."""
    assert isinstance(recipe.preprocess, Normalize)
    mean, std = (np.asarray(numbers, np.float32) for numbers in (recipe.preprocess.mean, recipe.preprocess.std))
    view = recipe.view
    return Preprocess(view.crop_size, mean, std, view.resize_size, view.family, view.keep_ratio)


def of_page(entry: ZooEntry) -> Published:
    """Describe the weights of a row of the page."""
    recipe = RECIPES.get(entry.name)
    data = recipe.data if recipe else None
    images = {"imagenet1k": IMAGENET_VAL, "cifar10": 10_000, "cifar100": 10_000, "cub200": 5_794}.get(data or "")
    return Published(
        name=f"openmmlab/{entry.name}",
        url=f"{PAGE_WEIGHTS}{entry.weights}",
        licence=CONVERTED.get(entry.name, "apache-2.0"),
        class_list={"imagenet1k": "imagenet", "cifar10": "cifar10"}.get(data or ""),
        preprocess=preprocess_of(recipe) if recipe else MILL_PREPROCESS,
        top1=entry.top1,
        top5=entry.top5,
        images=images if entry.top1 else None,
    )


def all_published() -> Iterator[Published]:
    """Yield every file of weights that has a name here."""
    yield from (of_page(entry) for entry in ZOO.values() if entry.weights)
    for name, file, top1, top5, resize in TORCHVISION:
        view = imagenet_preprocess(224, resize, "pillow-bilinear")
        figures = round(top1 / 100, 6), round(top5 / 100, 6), IMAGENET_VAL
        yield Published(f"torchvision/{name}", TORCH + file, LICENCES[TORCH], "imagenet", view, *figures)
    for name, where, file, crop, resize, family in TIMM_WEIGHTS:
        view = imagenet_preprocess(crop, resize, family)
        yield Published(f"timm/{name}", where + file, LICENCES.get(where, "apache-2.0"), "imagenet", view)


PUBLISHED: dict[str, Published] = {entry.name: entry for entry in all_published()}
PUBLISHERS = ("openmmlab", *DEFAULTS)


def published(name: str, weights: str | None = None) -> Published:
    """Return what a name of published weights means, as in timm/resnet50.a1_in1k, or a row of the page.

    `weights` names the publisher where the name does not: openmmlab (of a row), torchvision or timm (of a net, with
    or without the tag of its weights).  Raises BadRequest with the nearest name.
    """
    if weights is not None and weights not in PUBLISHERS:
        near = did_you_mean(weights, PUBLISHERS)
        raise BadRequest(f"weights: expected one of {', '.join(PUBLISHERS)}, got {weights!r}{near}")
    if name in PUBLISHED and weights in {None, name.partition("/")[0]}:
        return PUBLISHED[name]
    publisher = weights or "openmmlab"
    tag = DEFAULTS.get(publisher, {}).get(name)
    full = f"{publisher}/{name}.{tag}" if tag else f"{publisher}/{name}"
    if full in PUBLISHED:
        return PUBLISHED[full]
    if publisher == "openmmlab" and name in ZOO:
        train = f"resnetkit train {name}, then name the run directory; or " if name in RECIPES else ""
        raise BadRequest(f"{name} has no weights that can be had here", f"next: {train}name a weights file")
    known = [key.removeprefix(f"{publisher}/") for key in PUBLISHED if key.startswith(f"{publisher}/")]
    raise BadRequest(f"{publisher} has no weights {name!r}{did_you_mean(name, known)}", f"known: {', '.join(known)}")


def published_row(entry: Published) -> dict[str, Any]:
    """Return an entry as JSON data."""
    view = entry.preprocess
    sizes = {"image_size": view.image_size, "resize_size": view.resize_size, "family": view.family}
    figures = {"top1": entry.top1, "top5": entry.top5, "images": entry.images}
    return {"name": entry.name, "license": entry.licence, **figures, **sizes, "url": entry.url}


def kept_file(entry: Published) -> Path:
    """Return where published weights are kept, fetched or not."""
    return home() / "weights" / entry.file_name


def published_file(entry: Published) -> Path:
    """Return the file of published weights, fetched once into the weights folder of RESNETKIT_HOME.

    Raises DamagedFile for a kept file that is another, SourceError with every place that was tried.
    """
    path = kept_file(entry)
    folder = path.parent
    if not path.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / f".{entry.file_name}.lock"):  # one process fetches, the others wait
            if not path.is_file():
                fetch(entry, path)
    check(entry, path, "next: remove it, and it is fetched again")
    return path


def check(entry: Published, path: Path, *next_step: str) -> None:
    """Refuse a file that has not the hash that its published name ends in."""
    found = file_sha256(path)
    if not found.startswith(entry.hash_prefix):
        got = f"got sha256 {found}"
        raise DamagedFile(f"{path} is not the published file", got, f"expected {entry.hash_prefix}...", *next_step)


def fetch(entry: Published, path: Path) -> None:
    """Bring a file to `path`, from the first place that has it whole."""
    tried = []
    for place in places(entry):
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        try:
            bring(place, part)
            check(entry, part)
            part.replace(path)
        except (ResnetkitError, OSError) as error:
            tried.append(f"{place}: {reason(error)}")
        else:
            return
        finally:
            part.unlink(missing_ok=True)
    raise SourceError(
        f"no source gave the weights of {entry.name}",
        *tried,
        f"next: put the file there yourself: {path}",
        f"or: set {MIRROR} to a folder or URL that has {entry.file_name}",
    )


def reason(error: ResnetkitError | OSError) -> str:
    """Say in one line why a place did not give the file."""
    if isinstance(error, DamagedFile):  # the temporary name says nothing to anybody
        return "; ".join(("another file", *error.details))
    return error.what if isinstance(error, ResnetkitError) else error.strerror or str(error)


def places(entry: Published) -> Iterator[str]:
    """Yield where to look: the mirror, with the publisher's path and with the bare name, then the publisher."""
    mirror, path = os.environ.get(MIRROR, "").rstrip("/"), urlsplit(entry.url).path.lstrip("/")
    if mirror:
        yield f"{mirror}/{path}"
        if path != entry.file_name:
            yield f"{mirror}/{entry.file_name}"
    yield entry.url


def bring(place: str, part: Path) -> None:
    """Copy a file or fetch a URL into the new file `part`."""
    if urlsplit(place).scheme in {"http", "https"}:
        download(quote(place, safe=":/%?&=@"), part, MAX_WEIGHTS_BYTES, show=True)
    else:
        shutil.copyfile(Path(place.removeprefix("file://")).expanduser(), part)
