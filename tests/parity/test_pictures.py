"""Does each comparison of pixels and draws see what it is there for?  Each is shown something broken on purpose."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("mmpretrain", reason="the libraries compared with are in .venv-parity: make parity")

from dataclasses import replace

import draws
import pictures
import views
from configs import recipe_of_1x
from draws import chi_square, critical_chi_square, draw_figures, kolmogorov_smirnov
from figures import Figure
from pictures import crop_figures, operation_figures, our_operation, resize_figures
from views import accuracy_figures, decode_figures, pipeline_figures

from resnetkit.data.decode import decode
from resnetkit.data.photo_transforms import RandomResizedCrop
from resnetkit.data.randaugment import OPS
from resnetkit.data.randaugment import RandAugment as RealRandAugment
from resnetkit.data.resize import resize as real_resize
from resnetkit.recipe import Normalize, Recipe, View

SOME = 6  # photos


@pytest.fixture(autouse=True)
def few_photos(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Take a few photos: what is broken shows on any."""
    if not (pictures.SHARED / "imagenet-samples.tar").is_file():
        pytest.skip("the photos are not beside the repository")
    every = dict(list(pictures.photo_files().items())[:SOME])
    monkeypatch.setattr(pictures, "photo_files", lambda: every)
    monkeypatch.setattr(views, "photo_files", lambda: every)
    cached = (pictures.photos, pictures.crops, views.without_profiles, views.changed_by_profile, views.files,
              views.view_differences)  # fmt: skip
    for one in cached:
        one.cache_clear()
    yield
    for one in cached:
        one.cache_clear()


def failing(figures: Iterator[Figure]) -> set[str]:
    return {figure.subject for figure in figures if not figure.passed}


def broken(name: str) -> Callable[..., Any]:
    """Return our operations with one of them broken."""

    def apply(pixels: Any, op: str, level: float, negative: bool) -> Any:
        changed = our_operation(pixels, op, level + 0.3 * (op == name), negative)
        if op == name and name in pictures.TABLES:
            changed = changed.copy()
            changed[0, 0, 0] ^= 1
        return changed

    return apply


@pytest.mark.parametrize("name", list(OPS))
def test_an_operation_that_is_a_little_stronger_is_seen(name: str) -> None:
    assert failing(operation_figures(broken(name), pictures.crops()[:2])) == {name}


def test_whole_operations_are_equal() -> None:
    assert failing(operation_figures(pictures=pictures.crops()[:2])) == set()


def test_another_sign_is_seen() -> None:
    def turned(pixels: Any, name: str, level: float, negative: bool) -> Any:
        return our_operation(pixels, name, level, not negative if name == "rotate" else negative)

    assert failing(operation_figures(turned, pictures.crops()[:2])) == {"rotate"}


def test_another_resize_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(resize_figures()) == set()
    other = {"cv2-bilinear": "pillow-bilinear", "pillow-bilinear": "pillow-bicubic", "pillow-bicubic": "cv2-bilinear"}
    monkeypatch.setattr(pictures, "resize", lambda p, h, w, family: real_resize(p, h, w, other[family]))  # type: ignore[arg-type]
    assert failing(resize_figures()) == {"square 32", "square 224", "square 600"}


def test_a_crop_that_is_off_by_one_and_a_flip_that_is_none_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(crop_figures()) == set()
    monkeypatch.setattr(pictures, "centre_crop", lambda pixels, size: pixels[:size, 1 : size + 1])
    assert failing(crop_figures()) == {"centre 224 of short edge 256"}
    monkeypatch.undo()
    monkeypatch.setattr(pictures, "HorizontalFlip", lambda p: lambda pixels, rng: pixels)
    assert "horizontal" in failing(crop_figures())


def test_channels_in_another_order_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(decode_figures()) <= {f"{len(views.changed_by_profile())} photos"}  # none of these few has a profile
    real = decode
    views.without_profiles.cache_clear()
    monkeypatch.setattr(views, "decode", lambda data, name: real(data, name)[:, :, ::-1].copy())
    assert "200 photos, profiles passed over" in failing(decode_figures())


def test_another_view_and_other_constants_are_seen() -> None:
    def other(change: Callable[[Recipe], Recipe]) -> Callable[[str], Recipe]:
        return lambda row: change(recipe_of_1x(row)) if row == "resnet50_8xb32_in1k" else recipe_of_1x(row)

    assert failing(pipeline_figures()) == set()
    wider = other(lambda recipe: replace(recipe, name="broken", view=View(257, 224, "cv2-bilinear")))
    assert "broken" in failing(pipeline_figures(wider))
    smoother = other(lambda recipe: replace(recipe, name="broken", view=View(256, 224, "pillow-bilinear")))
    assert "broken" in failing(pipeline_figures(smoother))
    dark = Normalize((0.4,) * 3, (0.2,) * 3)
    darker = other(lambda recipe: replace(recipe, name="broken", preprocess=dark))
    assert "broken" in failing(pipeline_figures(darker))


def test_other_predictions_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(accuracy_figures()) == set()
    real = views.seen
    monkeypatch.setattr(views, "seen", lambda pixels, shown: 255 - real(pixels, shown))
    assert "cv2, profiles passed over" in failing(accuracy_figures())


# --- draws ---


def test_equal_distributions_pass_and_others_do_not() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 5000))
    assert kolmogorov_smirnov(first, second) < 1
    assert kolmogorov_smirnov(first, second + 0.1) > 1
    first, second = rng.integers(0, 15, (2, 5000))
    assert chi_square(first, second, 15) < 1
    assert chi_square(first, np.minimum(second, 13), 15) > 1
    assert critical_chi_square(1) == pytest.approx(10.828, abs=0.001)  # tables of the distribution, 0.1 %
    assert critical_chi_square(14) == pytest.approx(36.123, abs=0.001)


def test_draws_of_other_distributions_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    few = 4000
    assert failing(draw_figures(draws=few)) == set()
    smaller = RandomResizedCrop(224, (0.2, 1.0), family="cv2-bilinear").box
    assert "resized crop of 375 x 500: area" in failing(draw_figures(smaller, draws=few))
    rounder = RandomResizedCrop(224, ratio=(0.9, 4 / 3), family="cv2-bilinear").box
    assert "resized crop of 375 x 500: ratio" in failing(draw_figures(rounder, draws=few))
    corner = lambda height, width, rng: (0, *RandomResizedCrop(224, family="cv2-bilinear").box(height, width, rng)[1:])  # noqa: E731
    assert "resized crop of 375 x 500: top" in failing(draw_figures(corner, draws=few))
    monkeypatch.setattr(
        draws, "HorizontalFlip", lambda: lambda pixels, rng: pixels[:, ::-1] if rng.random() < 0.45 else pixels
    )
    monkeypatch.setattr(draws, "RandAugment", lambda: RealRandAugment(level=7.6))
    found = failing(draw_figures(draws=few))
    assert "flip, one by one" in found
    assert "RandAugment: strength of solarize" in found


def test_the_photos_are_those_of_the_tar() -> None:
    assert len(pictures.photos()) == SOME
    assert all(Path(name).suffix == ".JPEG" for name in pictures.photos())
