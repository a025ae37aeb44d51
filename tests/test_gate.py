"""The gate: each figure is what was counted, and each way to be wrong is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadRequest, GateFailed
from resnetkit.gate import MANY, Bounds, Figures, measure

SMALL = Preprocess(2, np.zeros(3, np.float32), np.ones(3, np.float32))
CLASSES = 4
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class Scripted:
    """The first values of an image are its logits, changed by a function of the batch."""

    change: Callable[[Logits], Logits] = lambda logits: logits
    preprocess: Preprocess = SMALL
    name: str = "scripted"
    has_map: bool = False
    temperature: float = 1.0

    def logits(self, images: NDArray[np.uint8]) -> Logits:
        return self.change(images.reshape(len(images), -1)[:, :CLASSES].astype(np.float32))

    def output(self, name: str, images: NDArray[np.uint8]) -> Logits:
        """The logits again, as maps of one place."""
        return self.logits(images)[:, :, None, None]


def images(count: int) -> Split:
    rng = np.random.default_rng(0)
    pixels = rng.permuted(np.tile(np.arange(12, dtype=np.uint8) * 20, (count, 1)), axis=1).reshape(count, 2, 2, 3)
    return Split(pixels, pixels.reshape(count, 12)[:, :CLASSES].argmax(1).astype(np.uint8))


def test_the_same_passes_and_its_figures_are_counted() -> None:
    split = images(50)
    figures, problems = measure(Scripted(), Scripted(), split, Bounds())
    assert problems == [] and figures == Figures(50, 50, 50, 50, 0.0, 220.0, 0.0, "agreement", True)
    said = figures.to_json()
    assert said["agreement"] == said["top1"] == said["model_top1"] == 1.0 and said["agreement_interval"][0] > 0.92
    unlabelled = measure(Scripted(), Scripted(), split, Bounds(), labelled=False)[0]
    assert unlabelled.correct is None and "top1" not in unlabelled.to_json()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda logits: logits + 1, "logits differ by up to 1, expected 0.22 or less"),
        (lambda logits: logits * np.float32("nan"), "logits differ by up to inf"),
        (
            lambda logits: logits + len(logits) / 16,
            "an image alone and in a batch of 2 or 7 or 32 differ by up to 1.94",
        ),
        (lambda logits: -logits, "top-1 agrees on 0.00 %"),
    ],
)
def test_what_is_wrong_is_told(change: Callable[[Logits], Logits], said: str) -> None:
    figures, problems = measure(Scripted(change), Scripted(), images(50), Bounds())
    assert not figures.passed and any(said in problem for problem in problems), problems


def test_a_few_that_differ_are_let_through_where_numbers_are_rounded() -> None:
    """A quantised net is told by what it decides: of few images by agreement, of many by accuracy."""
    rounded = Bounds(min_agreement=0.9, max_drop=0.01, exact=False)

    def wrong(share: float, count: int) -> tuple[Figures, list[str]]:
        split = images(count)
        chosen = {row.tobytes() for row in split.images.reshape(count, -1)[: round(share * count)]}

        @dataclass(frozen=True)
        class Own(Scripted):
            def logits(self, images: NDArray[np.uint8]) -> Logits:
                found = super().logits(images)
                mask = np.array([row.tobytes() in chosen for row in images.reshape(len(images), -1)])
                found[mask] = -found[mask]
                return found

        return measure(Own(), Scripted(), split, rounded)

    assert wrong(0.05, 200)[1] == [] and wrong(0.05, 200)[0].decided_by == "agreement"
    assert "top-1 agrees on 8" in wrong(0.15, 200)[1][0]
    assert wrong(0.005, MANY)[1] == [] and wrong(0.005, MANY)[0].decided_by == "accuracy"
    assert "top-1 falls by 2.00 points on 2,000 images, from 2,000 to 1,960" in wrong(0.02, MANY)[1][0]


def test_a_batch_that_is_fixed_is_refused() -> None:
    def fixed(logits: Logits) -> Logits:
        if len(logits) not in (1, 50):
            raise RuntimeError("Got invalid dimensions for input\n index 0")
        return logits

    with pytest.raises(GateFailed, match="takes no batch of 2\n  got Got invalid dimensions"):
        measure(Scripted(fixed), Scripted(), images(50), Bounds())
    with pytest.raises(GateFailed, match="gives 1 rows for a batch of 2"):
        measure(Scripted(lambda logits: logits[:1] if len(logits) < 50 else logits), Scripted(), images(50), Bounds())
    with pytest.raises(GateFailed, match=r"gives logits \[50, 3\], the model \[50, 4\]"):
        measure(Scripted(lambda logits: logits[:, :3]), Scripted(), images(50), Bounds())
    with pytest.raises(BadRequest, match="no images"):
        measure(Scripted(), Scripted(), images(0), Bounds())
