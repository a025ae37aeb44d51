from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.autoaugment import TrivialAugmentWide, _apply_op

from resnetkit.data import trivial_augment
from resnetkit.data.trivial_augment import OPS, TrivialAugment, strengths

PIXELS = np.cumsum(np.random.default_rng(0).integers(-9, 10, (40, 33, 3)), axis=1).astype(np.uint8)
THEIRS = {
    "identity": "Identity", "shear_x": "ShearX", "shear_y": "ShearY", "translate_x": "TranslateX",
    "translate_y": "TranslateY", "rotate": "Rotate", "brightness": "Brightness", "color": "Color",
    "contrast": "Contrast", "sharpness": "Sharpness", "posterize": "Posterize", "solarize": "Solarize",
    "auto_contrast": "AutoContrast", "equalize": "Equalize",
}  # fmt: skip


def test_the_operations_are_torchvisions() -> None:
    space = TrivialAugmentWide()._augmentation_space(31)
    assert [THEIRS[name] for name in OPS] == list(space)
    assert [op.signed for op in OPS.values()] == [signed for _, signed in space.values()]


@pytest.mark.parametrize("name", list(OPS))
def test_pixels_are_torchvisions_at_every_strength(name: str) -> None:
    magnitudes, signed = TrivialAugmentWide()._augmentation_space(31)[THEIRS[name]]
    image = Image.fromarray(PIXELS)
    for level in range(31):
        for sign in (1, -1) if signed else (1,):
            magnitude = float(magnitudes[level]) if magnitudes.ndim else 0.0
            nearest = InterpolationMode.NEAREST
            theirs = _apply_op(image, THEIRS[name], sign * magnitude, interpolation=nearest, fill=[9, 8, 7])
            ours = OPS[name].change(image, sign * strengths(name, 31)[level], (9, 8, 7))
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs), f"level {level}, sign {sign}")


def test_operations_levels_and_signs_are_drawn_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[str, float]] = []

    def recording(name: str) -> trivial_augment.Op:
        def change(image: Image.Image, strength: float, fill: tuple[int, int, int]) -> Image.Image:
            drawn.append((name, strength))
            return image

        return trivial_augment.Op(change, OPS[name].span, OPS[name].signed)

    monkeypatch.setattr(trivial_augment, "OPS", {name: recording(name) for name in OPS})
    rng = np.random.default_rng(0)
    for _ in range(14_000):
        TrivialAugment()(PIXELS[:2, :2], rng)
    counts = np.array([sum(name == op for op, _ in drawn) for name in OPS])
    assert (((counts - 1000) ** 2 / 1000).sum()) < 34.5  # chi-square of 13 degrees, 0.1 %
    slopes = np.array([strength for name, strength in drawn if name == "shear_x"])
    assert abs((slopes > 0).mean() - 0.5 * 30 / 31) < 0.05
    assert len(np.unique(np.abs(slopes))) == 31


@given(seed=st.integers(0, 2**32), height=st.integers(1, 9), width=st.integers(1, 9))
def test_any_image_keeps_its_size(seed: int, height: int, width: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    before = pixels.copy()
    changed = TrivialAugment()(pixels, np.random.default_rng(seed))
    assert changed.shape == pixels.shape
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(pixels, before)


def test_a_mirrored_view_is_taken() -> None:
    assert TrivialAugment()(PIXELS[:, ::-1], np.random.default_rng(1)).shape == PIXELS.shape
    assert torch.from_numpy(np.array(TrivialAugment()(PIXELS, np.random.default_rng(1)))).dtype == torch.uint8
