"""Features are what the head gets, of files and of pixels alike."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit import features
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadImage, BadRequest
from resnetkit.load import LoadedModel
from resnetkit.models import ResNet, cifar_architecture

SIZE = 16
PREPROCESS = Preprocess(SIZE, np.full(3, 0.4, np.float32), np.full(3, 0.3, np.float32), 20)


@pytest.fixture
def loaded() -> LoadedModel:
    torch.manual_seed(0)
    net = ResNet(replace(cifar_architecture(1), num_classes=4))
    return LoadedModel(net.eval(), PREPROCESS, ("a", "b", "c", "d"), "", (), "")


def pixels(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (24 + number % 3, 30, 3), np.uint8) for number in range(count)]


def test_the_head_makes_its_logits_of_them(loaded: LoadedModel) -> None:
    images = pixels(70)  # more than two batches
    found = features(loaded, images)
    assert found.shape == (70, 64)
    assert found.dtype == np.float32
    alone = np.concatenate([features(loaded, [image]) for image in images])
    np.testing.assert_allclose(found, alone, rtol=1e-4, atol=1e-5)
    maps = features(loaded, images[:2], pooled=False)
    assert maps.shape == (2, 64, 4, 4)
    np.testing.assert_allclose(maps.mean(axis=(2, 3)), found[:2], rtol=1e-5)
    assert features(loaded, images[:2], stage=1).shape == (2, 16)
    assert features(loaded, images[:2], stage=2, pooled=False).shape == (2, 32, 8, 8)


def test_files_are_prepared_as_their_pixels_are(loaded: LoadedModel, tmp_path: Path) -> None:
    images = pixels(3)
    files = [tmp_path / f"{number}.png" for number in range(3)]
    for image, file in zip(images, files, strict=True):
        Image.fromarray(image).save(file)
    np.testing.assert_array_equal(features(loaded, [*files[:2], str(files[2])]), features(loaded, images))


def test_what_is_wrong_is_said(loaded: LoadedModel, tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"bad\.png"):
        features(loaded, [tmp_path / "bad.png"])
    wrongs: list[Any] = [np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 1), np.uint8)]
    for wrong in wrongs:
        with pytest.raises(BadRequest, match=r"expected pixels uint8 \[H, W, 3\]"):
            features(loaded, [wrong])
    for stage in (0, 4):
        with pytest.raises(BadRequest, match="expected 1 to 3"):
            features(loaded, pixels(1), stage=stage)
    with pytest.raises(BadRequest, match="no images"):
        features(loaded, [])
