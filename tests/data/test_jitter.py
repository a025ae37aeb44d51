from __future__ import annotations

import numpy as np
import pytest
import torchvision.transforms.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from resnetkit.data import jitter
from resnetkit.data.jitter import CHANGES, ColorJitter

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
THEIRS = {"brightness": F.adjust_brightness, "contrast": F.adjust_contrast, "saturation": F.adjust_saturation,
          "hue": F.adjust_hue}  # fmt: skip


@pytest.mark.parametrize("name", list(CHANGES))
def test_pixels_are_torchvisions(name: str) -> None:
    image = Image.fromarray(PIXELS)
    for factor in (-0.5, -0.31, -0.001, 0.0, 0.2, 0.5) if name == "hue" else (0.0, 0.3, 0.99, 1.0, 1.4, 5.0):
        ours, theirs = CHANGES[name](image, factor), THEIRS[name](image, factor)
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), f"{factor}")


def test_factors_and_their_order_are_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: dict[str, list[float]] = {name: [] for name in CHANGES}
    first: list[str] = []
    order: list[str] = []

    def recording(name: str, image: Image.Image, factor: float) -> Image.Image:
        drawn[name].append(factor)
        order.append(name)
        return image

    named = {name: (lambda image, factor, name=name: recording(name, image, factor)) for name in CHANGES}
    monkeypatch.setattr(jitter, "CHANGES", named)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        order.clear()
        ColorJitter(0.4, 2.0, 0.1, 0.05)(PIXELS[:1, :1], rng)
        assert sorted(order) == sorted(CHANGES)
        first.append(order[0])
    spans = {"brightness": (0.6, 1.4), "contrast": (0.0, 3.0), "saturation": (0.9, 1.1), "hue": (-0.05, 0.05)}
    for name, (low, high) in spans.items():
        width = high - low
        assert low <= min(drawn[name]) < low + 0.01 * width
        assert high - 0.01 * width < max(drawn[name]) <= high
        assert abs(np.mean(drawn[name]) - (low + high) / 2) < 0.02 * width
        assert abs(first.count(name) - 500) < 80


@given(seed=st.integers(0, 2**32))
def test_what_is_zero_changes_nothing(seed: int) -> None:
    rng = np.random.default_rng(seed)
    np.testing.assert_array_equal(ColorJitter()(PIXELS, rng), PIXELS)
    changed = ColorJitter(0.4, 0.4, 0.4, 0.1)(PIXELS, rng)
    assert changed.shape == PIXELS.shape
    assert changed.dtype == np.uint8
