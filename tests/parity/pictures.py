"""Operations, resizes, crops and flips on real photos against mmpretrain's, OpenCV's and Pillow's: pixel differences.

Both sides get the same decoded pixels; differences are in levels of 0 to 255.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from figures import Figure
from mmpretrain.datasets.transforms.auto_augment import RANDAUG_POLICIES
from mmpretrain.registry import TRANSFORMS
from numpy.typing import NDArray
from PIL import Image

from resnetkit.data.decode import decode
from resnetkit.data.photo_transforms import HorizontalFlip, PadCrop, RandomCrop, RandomResizedCrop
from resnetkit.data.randaugment import OPS, RandAugment, magnitude_of
from resnetkit.data.resize import PILLOW_FILTERS, centre_crop, resize, resize_short, view
from resnetkit.data.transforms import RandomFlip, RandomPadCrop, random_stream
from resnetkit.recipe import ResizeFamily

Pixels = NDArray[np.uint8]
SHARED = Path(__file__).parents[3] / "shared" / "data"
PHOTOS = 200
LEVELS = (6.0, 7.0, 10.0)  # of the page's rows, and the strongest
FILL_BGR = tuple(reversed(RandAugment().fill))
TABLES = {"auto_contrast", "equalize", "invert", "posterize", "solarize", "solarize_add"}
PLACES = {"rotate", "shear_x", "shear_y", "translate_x", "translate_y"}
# From 4.14 on OpenCV blends, and from 5.0 on it moves pixels, otherwise than the versions that the rows were trained
# with.  With those all must be equal; with later ones colours may be a level apart, places half a level on average.
AS_TRAINED = tuple(map(int, cv2.__version__.split(".")[:2])) <= (4, 13)
EQUAL = 0.0
ONE_LEVEL, HALF_A_LEVEL, EIGHT_LEVELS = (EQUAL,) * 3 if AS_TRAINED else (1.0 + 1e-9, 0.5 + 1e-9, 8.0 + 1e-9)
BACKENDS: dict[ResizeFamily, tuple[str, str]] = {
    "cv2-bilinear": ("cv2", "bilinear"),
    "pillow-bilinear": ("pillow", "bilinear"),
    "pillow-bicubic": ("pillow", "bicubic"),
}
Operation = Callable[[Pixels, str, float, bool], Pixels]  # pixels, name, level, whether the sign is turned


@cache
def photos() -> dict[str, Pixels]:
    """Return the 200 photos, decoded, by name."""
    return {name: decode(data, name) for name, data in photo_files().items()}


@cache
def photo_files() -> dict[str, bytes]:
    """Return the bytes of the 200 photos by name; their folders are their synsets."""
    found = {}
    with tarfile.open(SHARED / "imagenet-samples.tar") as archive:
        for member in archive:
            if file := archive.extractfile(member):
                found[member.name] = file.read()
    assert len(found) == PHOTOS
    return dict(sorted(found.items()))


@cache
def crops() -> list[Pixels]:
    """Return the photos as evaluation sees them, 224 pixels a side."""
    return [view(pixels, resize_size=256, crop_size=224, family="cv2-bilinear", keep_ratio=True)
            for pixels in photos().values()]  # fmt: skip


class Differences:
    """The largest and the mean difference of pairs of pictures."""

    def __init__(self) -> None:
        self.worst, self.total, self.count = 0.0, 0.0, 0

    def add(self, ours: NDArray[Any], theirs: NDArray[Any]) -> None:
        """Count one pair; of other shapes they are as far apart as can be."""
        apart = np.abs(ours.astype(np.float64) - theirs) if ours.shape == theirs.shape else np.full(1, np.inf)
        self.worst = max(self.worst, float(apart.max()))
        self.total, self.count = self.total + float(apart.sum()), self.count + apart.size

    def figures(
        self, question: str, subject: str, peer: str, worst: float, mean: float | None = None
    ) -> Iterator[Figure]:
        """Yield the worst difference with its bound, and the mean one where it has a bound."""
        yield Figure(f"{question}, worst", subject, peer, self.worst if self.count else float("nan"), worst)
        if mean is not None:
            share = self.total / self.count if self.count else float("nan")
            yield Figure(f"{question}, mean", subject, peer, share, mean)


def compare(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> Differences:
    """Return the differences of pairs, ours first."""
    found = Differences()
    for ours, theirs in pairs:
        found.add(ours, theirs)
    return found


# --- RandAugment's operations ---


def our_operation(pixels: Pixels, name: str, level: float, negative: bool) -> Pixels:
    """Apply one of our operations at a level."""
    op = OPS[name]
    return op.change(pixels, (-1 if negative and op.signed else 1) * magnitude_of(name, level), RandAugment().fill)


@cache
def their_operation(name: str, level: float, negative: bool) -> Any:
    """Build mmpretrain's transform of an operation, always applied, at a fixed level and sign."""
    policy = dict(RANDAUG_POLICIES["timm_increasing"][list(OPS).index(name)])
    if "magnitude_range" in policy:
        policy |= {"magnitude_level": level, "magnitude_std": 0.0, "total_level": 10}
    if OPS[name].signed:
        policy["random_negative_prob"] = float(negative)
    if name in PLACES:
        policy |= {"pad_val": FILL_BGR, "interpolation": "bicubic"}
    return TRANSFORMS.build(policy | {"prob": 1.0})


def operation_figures(apply: Operation = our_operation, pictures: list[Pixels] | None = None) -> Iterator[Figure]:
    """Compare each operation at its strengths, both signs, on all photos: worst and mean difference."""
    for name, op in OPS.items():
        signs = (False, True) if op.signed else (False,)
        strengths = [(level, negative) for level in (LEVELS if op.span else LEVELS[:1]) for negative in signs]
        found = compare(
            (apply(pixels, name, level, negative), in_bgr(their_operation(name, level, negative), pixels))
            for level, negative in strengths
            for pixels in (crops() if pictures is None else pictures)
        )
        worst = EQUAL if name in TABLES else EIGHT_LEVELS if name in PLACES else ONE_LEVEL
        yield from found.figures("operation", name, "mmpretrain", worst, EQUAL if name in TABLES else HALF_A_LEVEL)


def in_bgr(transform: Any, pixels: Pixels) -> Pixels:
    """Apply a transform of theirs, which works on BGR, to RGB."""
    changed: Pixels = transform({"img": np.ascontiguousarray(pixels[:, :, ::-1])})["img"]
    return changed[:, :, ::-1]


# --- resizes ---


def resize_figures() -> Iterator[Figure]:
    """Compare each family's resizes: short edge and square, to smaller and larger, in the library and in mmpretrain."""
    for family, (backend, interpolation) in BACKENDS.items():
        for size in (256, 236, 600):
            theirs = TRANSFORMS.build({"type": "ResizeEdge", "scale": size, "edge": "short", "backend": backend,
                                       "interpolation": interpolation})  # fmt: skip
            found = compare((resize_short(pixels, size, family), in_bgr(theirs, pixels)) for pixels in some_photos())
            yield from found.figures(f"resize, {family}", f"short edge {size}", "mmpretrain", EQUAL)
        for side in (32, 224, 600):
            found = compare((resize(pixels, side, side, family), library_resize(pixels, side, family))
                            for pixels in some_photos())  # fmt: skip
            yield from found.figures(f"resize, {family}", f"square {side}", backend_name(family), EQUAL)


def some_photos() -> list[Pixels]:
    """Return every photo once, by its name."""
    return list(photos().values())


def library_resize(pixels: Pixels, side: int, family: ResizeFamily) -> Pixels:
    """Resize to a square by the library that a family is named after."""
    if family == "cv2-bilinear":
        return np.asarray(cv2.resize(pixels, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)
    return np.asarray(Image.fromarray(pixels).resize((side, side), PILLOW_FILTERS[family]))


def backend_name(family: ResizeFamily) -> str:
    """Return the library that a family is named after."""
    return "opencv" if family == "cv2-bilinear" else "pillow"


# --- crops and flips: the same draws on both sides ---


def crop_figures() -> Iterator[Figure]:
    """Compare centre crops, random crops, padded crops, resized crops and flips, given the same draws."""
    centre = TRANSFORMS.build({"type": "CenterCrop", "crop_size": 224})
    large = [resize_short(pixels, 256, "cv2-bilinear") for pixels in some_photos()]
    found = compare((centre_crop(pixels, 224), in_bgr(centre, pixels)) for pixels in large)
    yield from found.figures("crop", "centre 224 of short edge 256", "mmpretrain", EQUAL)
    found = compare(random_crop_pair(pixels, number) for number, pixels in enumerate(large))
    yield from found.figures("crop", "random 224", "mmpretrain", EQUAL)
    small = [resize(pixels, 32, 32, "pillow-bilinear") for pixels in some_photos()]
    found = compare(padded_crop_pair(pixels, number) for number, pixels in enumerate(small))
    yield from found.figures("crop", "random 32 of 32 padded by 4, one by one", "mmpretrain", EQUAL)
    yield from batch_crops(np.stack(small)).figures("crop", "random 32 of 32 padded by 4, a batch", "mmpretrain", EQUAL)
    flip = TRANSFORMS.build({"type": "RandomFlip", "prob": 1.0, "direction": "horizontal"})
    found = compare((HorizontalFlip(1.0)(pixels, random_stream(0)), in_bgr(flip, pixels)) for pixels in some_photos())
    yield from found.figures("flip", "horizontal", "mmpretrain", EQUAL)
    batch = RandomFlip(alternating=False).apply(np.stack(small), np.ones(len(small), bool))
    found = compare(zip(batch, (in_bgr(flip, pixels) for pixels in small), strict=True))
    yield from found.figures("flip", "horizontal, a batch", "mmpretrain", EQUAL)
    for family in ("cv2-bilinear", "pillow-bilinear"):
        found = compare(resized_crop_pair(pixels, number, family) for number, pixels in enumerate(some_photos()))
        yield from found.figures("crop", f"resized 224, {family}", "mmpretrain", EQUAL)


def random_crop_pair(pixels: Pixels, number: int) -> tuple[Pixels, Pixels]:
    """Crop at a random place, and at the same place by mmpretrain."""
    ours = RandomCrop(224)(pixels, random_stream(number))
    rng = random_stream(number)
    top, left = (int(rng.integers(side - 224 + 1)) for side in pixels.shape[:2])
    return ours, at_place(TRANSFORMS.build({"type": "RandomCrop", "crop_size": 224}), pixels, (top, left))


def padded_crop_pair(pixels: Pixels, number: int) -> tuple[Pixels, Pixels]:
    """Crop a padded image at a random place, one image alone."""
    ours = PadCrop(32, 4)(pixels, random_stream(number))
    rng = random_stream(number)
    top, left = int(rng.integers(9)), int(rng.integers(9))
    return ours, at_place(padded_crop(), pixels, (top, left))


def batch_crops(images: Pixels) -> Differences:
    """Crop a batch of padded images, each at its own place."""
    augmentation = RandomPadCrop(4, "zero")
    draws = augmentation.draw(0, 0, 0, len(images))
    ours = augmentation.apply(images, draws)
    places = [(int(top), int(left)) for top, left in draws]
    return compare((a, at_place(padded_crop(), pixels, place))
                   for a, pixels, place in zip(ours, images, places, strict=True))  # fmt: skip


def padded_crop() -> Any:
    """Build mmpretrain's crop of the CIFAR rows."""
    return TRANSFORMS.build({"type": "RandomCrop", "crop_size": 32, "padding": 4})


def at_place(transform: Any, pixels: Pixels, place: tuple[int, int]) -> Pixels:
    """Apply mmpretrain's random crop with the place decided."""
    transform.rand_crop_params = lambda image: (*place, *transform.crop_size)
    return in_bgr(transform, pixels)


def resized_crop_pair(pixels: Pixels, number: int, family: ResizeFamily) -> tuple[Pixels, Pixels]:
    """Crop a random part and resize it, the same part on both sides."""
    ours = RandomResizedCrop(224, family=family)
    top, left, height, width = ours.box(pixels.shape[0], pixels.shape[1], random_stream(number))
    backend, interpolation = BACKENDS[family]
    theirs = TRANSFORMS.build({"type": "RandomResizedCrop", "scale": 224, "backend": backend,
                               "interpolation": interpolation})  # fmt: skip
    theirs.rand_crop_params = lambda image: (top, left, height, width)
    return ours(pixels, random_stream(number)), in_bgr(theirs, pixels)
