"""Augmentations of whole batches in memory, and the fixed preprocessing that is stored with the weights.

Images are NHWC arrays until `Preprocess.normalize` makes them NCHW tensors.  What an augmentation draws for an
image depends only on (seed, epoch, index of the image), so any order, batch or restart gives the same picture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, get_args

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from resnetkit.errors import DamagedFile
from resnetkit.recipe import ResizeFamily

if TYPE_CHECKING:
    from torch import Tensor

MAX_IMAGE_SIZE = 4096  # pixels a side; a file that says more would have the machine's memory
Images = NDArray[Any]  # [N, H, W, C], uint8 or float32
Draws = NDArray[Any]  # one row an image


def random_stream(*words: int) -> np.random.Generator:
    """Return the random numbers that belong to these words (seed, epoch, purpose), and to no others."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(words)))


class Augmentation(Protocol):
    """A random change of a batch, in two parts: drawing for all images of an epoch, and applying."""

    def draw(self, seed: int, epoch: int, place: int, count: int) -> Draws:
        """Draw for `count` images; `place` is the augmentation's position in the recipe."""

    def apply(self, images: Images, draws: Draws) -> Images:
        """Change images [N, H, W, C] by their rows of what was drawn."""


@dataclass(frozen=True)
class RandomPadCrop:
    """Pad each side and crop the first size at a random place."""

    padding: int  # pixels a side
    mode: str  # "zero" or "reflect" (without repeating the edge)

    def draw(self, seed: int, epoch: int, place: int, count: int) -> Draws:
        """Draw the top and left corner of each crop: uint8 [count, 2]."""
        rng = random_stream(seed, epoch, place)
        return rng.integers(0, 2 * self.padding + 1, size=(count, 2), dtype=np.uint8)

    def apply(self, images: Images, draws: Draws) -> Images:
        """Crop each image [H, W, C] at its corner."""
        size = images.shape[1:3]
        edge = (self.padding, self.padding)
        widths = ((0, 0), edge, edge, (0, 0))
        padded = np.pad(images, widths, mode="constant" if self.mode == "zero" else "reflect")
        windows = sliding_window_view(padded, size, axis=(1, 2))  # [N, places, places, C, H, W]
        chosen = windows[np.arange(len(images)), draws[:, 0], draws[:, 1]]
        return chosen.transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class ProgressiveCrop:
    """Take a random part of each image, of a side that depends on the epoch; from the last one on the whole image."""

    sizes: tuple[int, ...]  # pixels a side
    until_epochs: tuple[int, ...]

    def draw(self, seed: int, epoch: int, place: int, count: int) -> Draws:
        """Draw the side (0: the whole image) and where of the free places the part begins: float32 [count, 3]."""
        side = next((size for size, until in zip(self.sizes, self.until_epochs, strict=True) if epoch < until), 0)
        drawn = np.empty((count, 3), np.float32)
        drawn[:, 0] = side
        drawn[:, 1:] = random_stream(seed, epoch, place).random((count, 2), dtype=np.float32)
        return drawn

    def apply(self, images: Images, draws: Draws) -> Images:
        """Take the part of each image [H, W, C]."""
        side = int(draws[0, 0])
        if side == 0:
            return images
        free = np.array(images.shape[1:3]) - side
        corners = np.minimum(draws[:, 1:] * (free + 1), free).astype(np.int64)
        windows = sliding_window_view(images, (side, side), axis=(1, 2))  # [N, places, places, C, side, side]
        parts: Images = windows[np.arange(len(images)), corners[:, 0], corners[:, 1]]
        return parts.transpose(0, 2, 3, 1)


@dataclass(frozen=True)
class RandomFlip:
    """Mirror left and right; alternating: an image flipped in one epoch is not in the next (arXiv 2404.00498)."""

    alternating: bool

    def draw(self, seed: int, epoch: int, place: int, count: int) -> Draws:
        """Draw whether each image is mirrored: bool [count]."""
        drawn_in = 0 if self.alternating else epoch
        coins = random_stream(seed, drawn_in, place).integers(0, 2, size=count, dtype=np.uint8)
        turned = epoch % 2 if self.alternating else 0
        return (coins ^ turned).astype(bool)

    def apply(self, images: Images, draws: Draws) -> Images:
        """Mirror the drawn images [N, H, W, C]."""
        mirrored = images.copy()
        mirrored[draws] = np.take(images[draws], np.arange(images.shape[2])[::-1], axis=2)  # 6 times as fast as a view
        return mirrored


@dataclass(frozen=True)
class Preprocess:
    """The fixed way from pixels to the model's input; stored with the weights and used everywhere.

    mean and std are in [0, 1] units: one number a channel, or for `mean` an image [H, W, C].
    """

    image_size: int  # pixels a side of the model's input
    mean: NDArray[np.float32]
    std: NDArray[np.float32]
    resize_size: int | None = None  # short side before the centre crop, not below image_size; None: image_size
    family: ResizeFamily = "pillow-bilinear"
    keep_ratio: bool = True  # else both sides become resize_size

    def normalize(self, images: Tensor) -> Tensor:
        """Turn uint8 images [N, H, W, C] into the model's float32 input [N, C, H, W], channels last in memory."""
        import torch  # here: an exported model, which does this itself, is used without torch

        shape = images.shape[1:]
        # As long as an image: operations on rows of three numbers take four times as long.
        mean, std = (
            torch.from_numpy(each).to(images.device).expand(shape).reshape(-1) for each in (self.mean, self.std)
        )
        rows = images.reshape(len(images), len(mean)).to(torch.float32)
        return rows.div_(255).sub_(mean).div_(std).reshape(images.shape).permute(0, 3, 1, 2)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data; `preprocess_from_json` gives it back equal."""
        return {
            "image_size": self.image_size,
            "resize_size": self.resize_size,
            "family": self.family,
            "keep_ratio": self.keep_ratio,
            "mean": self.mean.tolist(),
            "std": self.std.tolist(),
        }


def preprocess_from_json(data: dict[str, Any]) -> Preprocess:
    """Build the preprocessing that `Preprocess.to_json` wrote; DamagedFile where its sizes cannot be."""
    if data["resize_size"] is not None and data["resize_size"] < data["image_size"]:
        sizes = f"got resize_size {data['resize_size']} and image_size {data['image_size']}"
        raise DamagedFile("the preprocessing would crop more than it resizes to", sizes)
    if data["family"] not in get_args(ResizeFamily):
        known = ", ".join(get_args(ResizeFamily))
        raise DamagedFile("the preprocessing resizes in an unknown way", f"got {data['family']!r}", f"expected {known}")
    return Preprocess(
        image_size=int(data["image_size"]),
        resize_size=data["resize_size"],
        family=data["family"],
        keep_ratio=data["keep_ratio"],
        mean=np.asarray(data["mean"], np.float32),
        std=np.asarray(data["std"], np.float32),
    )


def mean_image(batches: Iterable[Images]) -> NDArray[np.float32]:
    """Return the mean of uint8 images, in batches [N, H, W, C], at each pixel and channel, in [0, 1] units."""
    total, count = np.zeros((), np.int64), 0
    for images in batches:
        total = total + images.sum(axis=0, dtype=np.int64)
        count += len(images)
    return (total / (255 * count)).astype(np.float32)


def refuse_unsound_preprocess(preprocess: Preprocess, channels: int) -> None:
    """Refuse a preprocessing that no image could go through; ValueError says why."""
    mean, std = preprocess.mean, preprocess.std
    sizes = (preprocess.image_size, preprocess.resize_size or preprocess.image_size)
    if not all(isinstance(size, int) and 1 <= size <= MAX_IMAGE_SIZE for size in sizes):
        raise ValueError(f"image sizes {sizes}")
    if mean.shape not in {(channels,), (*sizes[:1] * 2, channels)} or std.shape != (channels,):
        raise ValueError(f"mean {mean.shape} and std {std.shape} for {channels} channels")
    if not (np.isfinite(mean).all() and np.isfinite(std).all() and (std > 0).all()):
        raise ValueError("mean or std that is no number, or std 0")


def are_printable(names: Iterable[str]) -> bool:
    """Say whether names are texts of a line: none could move a terminal's cursor."""
    return all(name.isprintable() for name in names)
