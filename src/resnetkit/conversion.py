"""Conversion of weights from any layout to any other that can hold the net, with a check on images."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnetkit.errors import BadRequest, WeightsError, did_you_mean
from resnetkit.layout_files import missing_counters, write_layout
from resnetkit.layouts.folders import processor_config
from resnetkit.layouts.recognise import build_with, shorten
from resnetkit.layouts.tables import TARGETS, Target
from resnetkit.layouts.targets import LAYOUTS, refuse_inexpressible
from resnetkit.load import read_model_file
from resnetkit.models.resnet import StrideStyle
from resnetkit.predict import read_pixels
from resnetkit.weights_file import ASSUMED_NAMES, WeightsFile, are_placeholders, read_weights_file

GENERATED_IMAGES, MAX_GENERATED_SIDE = 8, 512  # pixels; a net is the same at any size
MAX_BATCH_PIXELS = 8 * 512 * 512


@dataclass(frozen=True)
class Conversion:
    """What was written, and how it was checked."""

    source: str  # one line: file, net, layout
    target: Target
    files: tuple[Path, ...]
    tensors: int
    images: int  # on which the logits were compared
    images_from: str  # generated or named
    largest_difference: float  # of any logit, before and after; 0.0, or nothing is written
    notes: tuple[str, ...]  # which copy was taken, what the layout does not keep
    assumptions: tuple[str, ...]  # what the source does not say, and how to change it


def convert(
    source: str | Path,
    out: str | Path,
    to: str,
    *,
    weights: str | None = None,
    images: Sequence[str | Path] | None = None,  # files to compare logits on; None: generated ones
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    class_names: Sequence[str] | None = None,
    license: str | None = None,  # noqa: A002
    plain: bool = False,
    stride_style: StrideStyle | None = None,
    raw: bool = False,
) -> Conversion:
    """Write the weights called `source` to `out` in the layout `to`, with equal bits under other names.

    `source` is anything that `load_model` takes, with the same arguments.  `to` is
    torchvision, timm, openmmlab, huggingface (a folder) or resnetkit.  What was written is read back, and its logits
    are compared with the source's on images; the output appears only if all are equal.

    Raises BadRequest, before anything is written, for a layout that cannot hold the net (with the reasons), for an
    `out` of another ending or that is there already; WeightsError as `load_model` does.
    """
    target, place = checked_target(to), Path(out)
    refuse_place(place, target)
    file = read_model_file(
        source,
        weights=weights,
        mean=mean,
        std=std,
        class_names=class_names,
        plain=plain,
        stride_style=stride_style,
        raw=raw,
    )
    refuse_inexpressible(file.arch, target)
    file = described(file, license)
    refuse_no_numbers(file)
    pixels = read_images(images, file)
    temporary = place.with_name(f".{secrets.token_hex(4)}.{place.name}")
    try:
        files = write_layout(temporary, file, target)
        difference = compare(file, read_back(temporary, file, target), pixels)
        temporary.rename(place)
    except OSError as error:  # a full disk, say, of which the temporary name tells nobody anything
        if error.errno and place.name in str(error.filename or place):
            raise type(error)(error.errno, error.strerror, str(place)) from error
        raise
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary)
        temporary.unlink(missing_ok=True)
    return Conversion(
        source=file.origin(),
        target=target,
        files=tuple(place / path.relative_to(temporary) if path != temporary else place for path in files),
        tensors=len(file.tensors),
        images=len(pixels),
        images_from="generated" if images is None else "named",
        largest_difference=difference,
        notes=(*file.notes, *losses(file, target)),
        assumptions=kept_assumptions(file, target),
    )


def checked_target(to: str) -> Target:
    """Return the layout called `to`."""
    for target in TARGETS:
        if target == to:
            return target
    raise BadRequest(f"no layout {to!r}{did_you_mean(to, TARGETS)}", f"expected one of {', '.join(TARGETS)}")


def refuse_place(out: Path, target: Target) -> None:
    """Refuse a place that is taken, or whose name is not one for the layout."""
    endings = LAYOUTS[target].endings
    problems = []
    if os.path.lexists(out):  # also a link to nothing, which would be replaced
        problems.append(f"{out} exists already")
    if not out.absolute().parent.is_dir():
        problems.append(f"no such folder: {out.parent}")
    if endings and out.suffix not in endings:
        problems.append(f"{out}: expected a name that ends in {' or '.join(endings)} for {target}")
    if not endings and out.suffix in {".pth", ".pt", ".safetensors"}:
        problems.append(f"{out}: expected the name of a folder, which {target} keeps a model in")
    if problems:
        raise BadRequest(*problems)


def described(file: WeightsFile, license: str | None) -> WeightsFile:  # noqa: A002
    """Add the licence that the user names, and to the origin what the foreign file records."""
    about = file.about | ({"license": license} if license else {})
    if file.recorded and about["origin"]:
        about["origin"] = about["origin"] | {"recorded": file.recorded}
    return replace(file, about=about)


def refuse_no_numbers(file: WeightsFile) -> None:
    """Refuse weights with which no logits can be compared."""
    odd = [name for name, value in file.tensors.items()
           if value.is_floating_point() and not bool(value.isfinite().all())]  # fmt: skip
    if odd:
        raise WeightsError(f"{file.path}: nan or infinite weights, no logits to compare", f"got them in {shorten(odd)}")


def read_images(files: Sequence[str | Path] | None, file: WeightsFile) -> NDArray[np.uint8]:
    """Return the images to compare on: uint8 [N, side, side, C], of files or drawn at random."""
    side, channels = file.preprocess.image_size, file.arch.in_channels
    if files is None:
        if file.preprocess.mean.ndim == 1:  # else it is an image of this size
            side = min(side, MAX_GENERATED_SIDE)
        shape = (GENERATED_IMAGES, side, side, channels)
        return np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    if not files:
        raise BadRequest("no images to compare on")
    if channels != 3:
        raise BadRequest(f"images have 3 channels, the model takes {channels}", file.origin())
    return np.stack([read_pixels(str(image), file.preprocess) for image in files])


def read_back(path: Path, file: WeightsFile, target: Target) -> WeightsFile:
    """Read what was written as anybody would, told only what its layout cannot say."""
    says_all = target in {"resnetkit", "huggingface"} or file.arch.block == "basic"
    return read_weights_file(path, stride_style=None if says_all else file.arch.stride_style)


def compare(before: WeightsFile, after: WeightsFile, pixels: NDArray[np.uint8]) -> float:
    """Return the largest difference of any logit; WeightsError for any difference at all, in tensors too."""
    changed = [name for name, value in before.tensors.items() if not same_bits(value, after.tensors.get(name))]
    nets = [build_with(file.arch, file.tensors) for file in (before, after)]
    largest, batch_size = 0.0, max(1, MAX_BATCH_PIXELS // pixels[0, ..., 0].size)
    for start in range(0, len(pixels), batch_size):
        images = before.preprocess.normalize(torch.from_numpy(pixels[start : start + batch_size]))
        with torch.inference_mode():
            logits = [net(images) for net in nets]
        # where a logit is nan nothing was compared (finite weights, but too large)
        largest = max(largest, float((logits[0] - logits[1]).abs().nan_to_num(nan=torch.inf).max()))
    if changed or largest:
        what = f"largest difference of a logit {largest}, tensors that changed: {', '.join(changed[:6]) or 'none'}"
        raise WeightsError("the conversion changed the net; nothing was written", what)
    return largest


def same_bits(value: Tensor, other: Tensor | None) -> bool:
    """Say whether two tensors are equal in dtype, shape and every bit."""
    if other is None or value.dtype != other.dtype or value.shape != other.shape:
        return False
    return bool(torch.equal(bits(value), bits(other)))


def bits(value: Tensor) -> Tensor:
    """Return a tensor as bytes, so that nan equals itself."""
    return value.detach().cpu().contiguous().reshape(-1).view(torch.uint8)


def kept_assumptions(file: WeightsFile, target: Target) -> tuple[str, ...]:
    """Return what was assumed of a foreign source and is written down as if it were known."""
    keeps_constants, keeps_names = target in {"huggingface", "resnetkit"}, target not in {"torchvision", "timm"}
    constants = tuple(line for line in file.assumptions if line.startswith(("mean ", "std ")))
    names = tuple(line for line in file.assumptions if line == ASSUMED_NAMES)
    net = tuple(line for line in file.assumptions if line not in constants + names)
    return (*(constants if keeps_constants else ()), *net, *(names if keeps_names else ()))


def losses(file: WeightsFile, target: Target) -> list[str]:
    """Say what of a file's description a layout does not keep, and what was added."""
    said: list[str] = []
    if target == "resnetkit":
        return said
    if counters := missing_counters(file.tensors):
        said.append(f"{len(counters)} counters of batches are added as 0: the source has none")
    if temperature := file.about["temperature"]:
        said.append(f"the temperature, {temperature['value']:.3g}, is not kept: confidences will be those without it")
    if target in {"torchvision", "timm"} and not are_placeholders(file.class_names):
        said.append("class names are not kept")
    if target != "huggingface":
        said.append("preprocessing is not kept")
    elif processor_config(file.preprocess) is None:
        said.append("preprocessing is not kept: no image processor of transformers prepares images in this way")
    if target == "openmmlab" and file.arch.stride_style == "caffe":
        said.append("the stride style is not kept: build the net with style='caffe'")
    return said
