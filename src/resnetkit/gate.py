"""The gate of an export: a model in another form answers like the model that it was made of, or is not written.

Exporters have been silently wrong on ResNets (no accuracy at all, a batch that stays at one), and quantisation may
cost more than is thought: what counts is what comes out, on real images.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.photos import PhotoSplit
from resnetkit.data.seen import seen
from resnetkit.data.spec import Split
from resnetkit.engines import CLASS_MAPS, LAST_MAP, Engine
from resnetkit.errors import BadRequest, GateFailed, first_line
from resnetkit.metrics import wilson_interval

BATCH_SIZES = (1, 2, 7, 32)  # that must give the same
MANY = 2_000  # labelled images: of fewer, half a point of accuracy is noise, and agreement decides
MAPS = (LAST_MAP, CLASS_MAPS)
LIKE = 0.9  # cosine of the maps of an image
SAME = 1e-3  # largest difference of logits that count as the same, by the largest logit


class Remembering:
    """A model that computes the logits of a batch once, for all that are compared with it."""

    def __init__(self, model: Engine) -> None:
        self.model, self.name, self.preprocess, self.has_map = model, model.name, model.preprocess, model.has_map
        self.temperature = model.temperature
        self.known: dict[bytes, NDArray[np.float32]] = {}

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        key = hashlib.sha256(np.ascontiguousarray(images).data).digest()
        if key not in self.known:
            self.known[key] = self.model.logits(images)
        return self.known[key]

    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return an output by its name."""
        return self.model.output(name, images)


@dataclass(frozen=True)
class Bounds:
    """What an exported model may differ by."""

    min_agreement: float = 0.95  # of top-1 with the model, as a fraction
    max_drop: float = 0.005  # of top-1, as a fraction
    exact: bool = True  # logits are the same but for rounding; False: it is quantised


@dataclass(frozen=True)
class Figures:
    """What came out."""

    images: int
    agree: int  # images whose top-1 is that of the model
    correct: int | None  # None: the images have no labels
    model_correct: int | None
    largest_difference: float  # of a logit
    largest_logit: float  # of the model
    largest_batch_difference: float  # between an image alone and in a batch
    decided_by: str  # "accuracy" or "agreement"
    passed: bool
    largest_map_difference: float | None = None  # of a map, by its largest value; None: it has none
    map_cosine: float | None = None  # the smallest between an image's map and the model's

    def to_json(self) -> dict[str, Any]:
        """Return the figures as JSON data, with fractions and their 95 % intervals."""
        said = asdict(self) | {"agreement": self.agree / self.images,
                               "agreement_interval": wilson_interval(self.agree, self.images)}  # fmt: skip
        if self.correct is not None and self.model_correct is not None:
            said |= {"top1": self.correct / self.images, "model_top1": self.model_correct / self.images,
                     "top1_interval": wilson_interval(self.correct, self.images)}  # fmt: skip
        return said

    def lines(self, place: str) -> Iterator[str]:
        """Say the figures in two lines, or in one where there are no labels."""
        yield (f"gate on {place}, {self.images:,} images: top-1 agrees on {shares(self.agree, self.images)}; logits "
               f"differ by up to {self.largest_difference:.3g} of {self.largest_logit:.3g}; batches of 1, 2, 7 and 32 "
               f"by {self.largest_batch_difference:.3g}")  # fmt: skip
        if self.correct is not None and self.model_correct is not None:
            yield (f"top-1 {shares(self.correct, self.images)}, the model's "
                   f"{100 * self.model_correct / self.images:.2f} %; {self.decided_by} decides")  # fmt: skip


def shares(count: int, images: int) -> str:
    """Write a count of images in percent, with the 95 % interval."""
    low, high = wilson_interval(count, images)
    return f"{100 * count / images:.2f} % ({100 * low:.2f} % to {100 * high:.2f} %)"


def measure(
    own: Engine,
    model: Engine,
    split: Split | PhotoSplit,
    bounds: Bounds,
    *,
    labelled: bool = True,
    has_map: bool = False,  # the last feature map is an output too
    on_batch: Callable[[int], None] = lambda count: None,
) -> tuple[Figures, list[str]]:
    """Compare an engine with the model it was made of on every image; returns the figures and what is out of bounds."""
    if not len(split):
        raise BadRequest("there are no images to compare on")
    agree = correct = model_correct = 0
    difference = largest = 0.0
    first: NDArray[np.uint8] | None = None
    for images, labels in seen(split, model.preprocess):
        first = images if first is None else first
        found, wanted = own.logits(images), model.logits(images)
        if found.shape != wanted.shape:
            raise GateFailed(f"{own.name} gives logits {list(found.shape)}, the model {list(wanted.shape)}")
        own_best, best = found.argmax(1), wanted.argmax(1)
        agree += int((own_best == best).sum())
        correct, model_correct = correct + int((own_best == labels).sum()), model_correct + int((best == labels).sum())
        difference = max(difference, largest_difference(found, wanted))
        largest = max(largest, float(np.abs(wanted).max()))
        on_batch(len(labels))
    assert first is not None
    apart = batch_difference(own, first)
    by_accuracy = labelled and len(split) >= MANY
    figures = Figures(
        images=len(split), agree=agree, correct=correct if labelled else None,
        model_correct=model_correct if labelled else None, largest_difference=difference, largest_logit=largest,
        largest_batch_difference=apart, decided_by="accuracy" if by_accuracy else "agreement", passed=True)  # fmt: skip
    if has_map:
        found_maps = [map_difference(own.output(name, first), model.output(name, first)) for name in MAPS]
        worst, cosines = zip(*found_maps, strict=True)
        figures = replace(figures, largest_map_difference=max(worst), map_cosine=min(cosines))
    problems = problems_of(figures, bounds)
    return replace(figures, passed=not problems), problems


def problems_of(figures: Figures, bounds: Bounds) -> list[str]:
    """List what is out of bounds."""
    found = []
    same = SAME * figures.largest_logit
    if bounds.exact and not figures.largest_difference <= same:
        found.append(f"logits differ by up to {figures.largest_difference:.3g}, expected {same:.3g} or less")
    if not figures.largest_batch_difference <= same:
        found.append(f"an image alone and in a batch of {' or '.join(map(str, BATCH_SIZES[1:]))} differ by up to "
                     f"{figures.largest_batch_difference:.3g}, expected {same:.3g} or less")  # fmt: skip
    if figures.largest_map_difference is not None and figures.map_cosine is not None:
        if bounds.exact and not figures.largest_map_difference <= SAME:
            found.append(f"last maps differ by up to {figures.largest_map_difference:.3g} of their largest value, "
                         f"expected {SAME:g} or less")  # fmt: skip
        if not figures.map_cosine >= LIKE:
            found.append(f"a last map is unlike the model's: cosine {figures.map_cosine:.3g}, expected {LIKE} or more")
    agreement = figures.agree / figures.images
    if figures.decided_by == "agreement" and agreement < bounds.min_agreement:
        low, high = wilson_interval(figures.agree, figures.images)
        found.append(f"top-1 agrees on {100 * agreement:.2f} % of {figures.images:,} images ({100 * low:.2f} to "
                     f"{100 * high:.2f} %), expected {100 * bounds.min_agreement:g} % or more")  # fmt: skip
    if figures.decided_by == "accuracy" and figures.correct is not None and figures.model_correct is not None:
        drop = (figures.model_correct - figures.correct) / figures.images
        if drop > bounds.max_drop:
            found.append(f"top-1 falls by {100 * drop:.2f} points on {figures.images:,} images, from "
                         f"{figures.model_correct:,} to {figures.correct:,}, expected {100 * bounds.max_drop:g} or "
                         "less")  # fmt: skip
    return found


def batch_difference(own: Engine, images: NDArray[np.uint8], sizes: Sequence[int] = BATCH_SIZES) -> float:
    """Return the largest difference of a logit between images alone and in batches; GateFailed for a fixed batch."""
    some = np.resize(images, (max(sizes), *images.shape[1:]))  # of fewer images some come twice
    alone = np.concatenate([own.logits(some[place : place + 1]) for place in range(len(some))])
    apart = 0.0
    for size in sizes:
        try:
            found = own.logits(some[:size])
        except Exception as error:
            raise GateFailed(f"{own.name} takes no batch of {size}", f"got {first_line(error)}") from error
        if len(found) != size:
            raise GateFailed(f"{own.name} gives {len(found)} rows for a batch of {size}")
        apart = max(apart, largest_difference(found, alone[:size]))
    return apart


def map_difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest difference of maps [N, C, h, w] by their largest value, and the smallest cosine."""
    if found.shape != wanted.shape:
        raise GateFailed(f"the last map has the shape {list(found.shape)}, the model's {list(wanted.shape)}")
    own, model = (maps.reshape(len(maps), -1).astype(np.float64) for maps in (found, wanted))
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(model, axis=1)
    cosines = (own * model).sum(1) / np.maximum(lengths, np.finfo(np.float64).tiny)
    cosines[(own == model).all(1)] = 1  # all zero, too
    largest = max(float(np.abs(wanted).max()), float(np.finfo(np.float32).tiny))
    return largest_difference(found, wanted) / largest, float(np.nan_to_num(cosines, nan=-1).min())


def largest_difference(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    """Return the largest difference of two arrays; infinite where one has nan."""
    apart = float(np.abs(found - wanted).max())
    return apart if np.isfinite(apart) else float("inf")
