"""Does each comparison of odd_pictures.py see what it is there for?  Each is shown something broken on purpose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("mmpretrain", reason="the libraries compared with are in .venv-parity: make parity")

import odd_pictures
import pictures
from configs import recipe_of_1x
from figures import Figure
from odd_pictures import CUB, RSB, odd_draw_figures, odd_resize_figures, row_crop_figures

from resnetkit.data.photo_transforms import RandomResizedCrop
from resnetkit.data.resize import resize
from resnetkit.feed import photo_transforms
from resnetkit.recipe import RandomResizedCrop as RecipeCrop
from resnetkit.recipe import Recipe

SOME = 6  # photos
TALL = "resized crop of 1200 x 90"
ODD = "parts to odd sizes"


@pytest.fixture(autouse=True)
def few_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take a few photos: what is broken shows on any."""
    if not (pictures.SHARED / "imagenet-samples.tar").is_file():
        pytest.skip("the photos are not beside the repository")
    some = dict(list(pictures.photos().items())[:SOME])
    monkeypatch.setattr(odd_pictures, "photos", lambda: some)


def failing(figures: Iterator[Figure]) -> set[str]:
    return {figure.subject for figure in figures if not figure.passed}


def test_another_resize_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(odd_resize_figures()) == set()
    other = {"cv2-bilinear": "pillow-bilinear", "pillow-bilinear": "pillow-bicubic", "pillow-bicubic": "cv2-bilinear"}
    monkeypatch.setattr(odd_pictures, "resize", lambda p, h, w, family: resize(p, h, w, other[family]))  # type: ignore[arg-type]
    figures = list(odd_resize_figures())
    assert len(figures) == 6
    assert not any(figure.passed for figure in figures)


def test_an_edge_off_by_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(odd_pictures, "resize", lambda p, h, w, family: resize(p[: max(len(p) - 1, 1)], h, w, family))
    assert failing(odd_resize_figures()) == {"both sides 600", ODD}


def test_training_crops_of_another_family_or_place_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    assert failing(row_crop_figures()) == set()

    def smoother(row: str) -> Recipe:
        recipe = recipe_of_1x(row)
        first, *rest = recipe.augment
        if not isinstance(first, RecipeCrop):
            return recipe
        return replace(recipe, augment=(replace(first, family="pillow-bilinear"), *rest))

    monkeypatch.setattr(odd_pictures, "recipe_of_1x", smoother)
    assert failing(row_crop_figures()) == {f"training crop of {RSB}"}


def test_a_crop_off_by_one_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = pictures.at_place
    monkeypatch.setattr(odd_pictures, "at_place", lambda step, p, place: honest(step, p, (place[0] + 1, place[1])))
    assert failing(row_crop_figures()) == {f"training crop of {CUB}"}


def test_other_draws_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    few = 4000
    assert failing(odd_draw_figures(count=few)) == set()
    honest = RandomResizedCrop(224, family="cv2-bilinear").box

    def at_the_top(height: int, width: int, rng: Any) -> tuple[int, int, int, int]:
        return (0, *honest(height, width, rng)[1:])

    assert f"{TALL}: top" in failing(odd_draw_figures(at_the_top, few))
    narrower = RandomResizedCrop(224, ratio=(0.8, 4 / 3), family="cv2-bilinear").box  # the fallback's ratio too
    assert {f"{TALL}: area", f"{TALL}: ratio"} <= failing(odd_draw_figures(narrower, few))
    real = photo_transforms

    def never_at_the_edge(recipe: Recipe) -> list[Any]:
        resize_step, crop, *rest = real(recipe)
        return [resize_step, lambda image, rng: crop(image[16:], rng), *rest]

    monkeypatch.setattr(odd_pictures, "photo_transforms", never_at_the_edge)
    assert "crop of 448 from 600 x 600: top" in failing(odd_draw_figures(count=few))
