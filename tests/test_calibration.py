"""Confidences: the expected calibration error, and the temperature that is fitted, stored and used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from resnetkit import checkpoint, load_model, save
from resnetkit.calibration import (
    COLDEST,
    HOTTEST,
    LEAST_IMAGES,
    calibration_error,
    fit_temperature,
    softmax,
    temperature_of,
)
from resnetkit.classifier import classifier_of
from resnetkit.data.spec import ArrayDataset
from resnetkit.engine_store import key_of
from resnetkit.evaluate import all_logits, evaluate
from resnetkit.predict import Prediction, predict
from resnetkit.train import train
from tiny import RECIPE, tiny_dataset

Logits = NDArray[np.float32]


def loss_at(logits: Logits, labels: NDArray[np.int64], temperature: float) -> float:
    scaled = torch.from_numpy(logits.astype(np.float64) / temperature)
    return float(torch.nn.functional.cross_entropy(scaled, torch.from_numpy(labels)))


def drawn(seed: int, images: int = 300, classes: int = 4, scale: float = 3.0) -> tuple[Logits, NDArray[np.int64]]:
    """Logits, and labels that are often but not always the largest one's."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(images, classes)).astype(np.float32) * scale
    chances = softmax(logits, 2.0)
    labels = np.array([rng.choice(classes, p=row / row.sum()) for row in chances.astype(np.float64)])
    return logits, labels


@given(st.lists(st.tuples(st.floats(2**-10, 1, width=32), st.booleans()), min_size=1, max_size=60))
def test_the_error_equals_its_definition(rows: list[tuple[float, bool]]) -> None:
    confidences, right = np.array([row[0] for row in rows], np.float32), np.array([row[1] for row in rows])
    expected = 0.0
    for number in range(15):
        inside = (confidences > np.float32(number / 15)) & (confidences <= np.float32((number + 1) / 15))
        if inside.any():
            expected += inside.mean() * abs(right[inside].mean() - confidences[inside].mean(dtype=np.float64))
    assert calibration_error(confidences, right) == pytest.approx(expected, abs=1e-6)


def test_the_error_of_known_cases() -> None:
    sure = np.ones(10, np.float32)
    assert calibration_error(sure, np.ones(10, bool)) == 0.0
    assert calibration_error(sure, np.arange(10) < 6) == pytest.approx(0.4)
    two_bins = np.array([0.5] * 4 + [0.9] * 6, np.float32)  # half of the first are right, all of the others
    assert calibration_error(two_bins, np.array([1, 1, 0, 0] + [1] * 6, bool)) == pytest.approx(0.06)


@given(st.integers(0, 2**32 - 1), st.floats(0.5, 6))
def test_the_temperature_is_where_the_loss_is_least(seed: int, scale: float) -> None:
    logits, labels = drawn(seed, scale=scale)
    found = fit_temperature(logits, labels)
    assert COLDEST <= found <= HOTTEST
    least = loss_at(logits, labels, found)
    assert all(least <= loss_at(logits, labels, found * factor) + 1e-9 for factor in (0.5, 0.9, 0.99, 1.01, 1.1, 2))


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3))
def test_logits_that_are_larger_have_a_temperature_that_is(seed: int, factor: float) -> None:
    logits, labels = drawn(seed)
    expected = factor * fit_temperature(logits, labels)
    assert fit_temperature((factor * logits).astype(np.float32), labels) == pytest.approx(expected, rel=1e-3)


def test_a_net_that_is_always_right_or_always_wrong_keeps_to_the_bounds() -> None:
    logits = np.eye(4, dtype=np.float32)[np.arange(40) % 4]
    labels = np.arange(40) % 4
    assert fit_temperature(logits, labels) == pytest.approx(COLDEST)
    assert fit_temperature(logits, (labels + 1) % 4) == pytest.approx(HOTTEST)


def test_softmax_at_a_temperature() -> None:
    logits, _ = drawn(0)
    np.testing.assert_allclose(softmax(logits, 2.5), torch.from_numpy(logits / 2.5).softmax(1).numpy(), atol=1e-6)
    np.testing.assert_array_equal(softmax(logits), softmax(logits, 1.0))


# --- through a run and its weights ---


@pytest.fixture(scope="module")
def data() -> ArrayDataset:
    """120 training images: enough to hold out what a temperature is fitted to."""
    return tiny_dataset()


@pytest.fixture(scope="module")
def run(data: ArrayDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    train(replace(RECIPE, val_images=LEAST_IMAGES), data, folder)
    return folder


def test_a_run_stores_the_temperature_of_its_val_images(run: Path, data: ArrayDataset) -> None:
    loaded = load_model(run)
    classifier = classifier_of(loaded)
    held = data.train.part(np.arange(len(data.train) - LEAST_IMAGES, len(data.train)))
    logits, labels = all_logits(classifier.engine, held)
    said = loaded.about["calibration"]
    assert said["images"] == LEAST_IMAGES
    assert said["temperature"] == pytest.approx(fit_temperature(logits, labels), rel=1e-3)
    right = logits.argmax(1) == labels
    assert said["ece"] == pytest.approx(calibration_error(softmax(logits, said["temperature"]).max(1), right), abs=1e-4)
    assert said["ece_at_temperature_1"] == pytest.approx(calibration_error(softmax(logits).max(1), right), abs=1e-4)
    assert classifier.temperature == said["temperature"] != 1.0
    evaluation = json.loads((run / checkpoint.EVALUATION).read_text())
    assert evaluation["temperature"] == said["temperature"]


def test_without_val_images_there_is_none(data: ArrayDataset, tmp_path: Path) -> None:
    train(replace(RECIPE, val_images=0), data, tmp_path / "none")
    train(replace(RECIPE, val_images=LEAST_IMAGES - 1), data, tmp_path / "few")
    for name in ("none", "few"):
        loaded = load_model(tmp_path / name)
        assert loaded.about["calibration"] is None
        assert temperature_of(loaded.about) == 1.0


def test_evaluation_and_prediction_answer_at_the_stored_temperature(run: Path, data: ArrayDataset) -> None:
    classifier = classifier_of(load_model(run))
    plain = evaluate(classifier.engine, data.test)
    found = evaluate(classifier.engine, data.test, temperature=classifier.temperature)
    np.testing.assert_array_equal(plain.predictions, found.predictions)
    np.testing.assert_array_equal(plain.confidences, found.confidences)
    assert (plain.loss, plain.top1) == (found.loss, found.top1)
    logits, labels = all_logits(classifier.engine, data.test)
    expected = softmax(logits, classifier.temperature).max(1)
    np.testing.assert_allclose(found.calibrated, expected, atol=1e-5)
    assert found.ece == pytest.approx(calibration_error(expected, logits.argmax(1) == labels), abs=1e-4)


def test_predict_answers_at_the_temperature(run: Path, data: ArrayDataset, tmp_path: Path) -> None:
    from PIL import Image

    Image.fromarray(data.test.images[0]).save(tmp_path / "x.png")
    classifier = classifier_of(load_model(run))
    (outcome,) = predict(classifier.engine, [str(tmp_path / "x.png")], temperature=4.0)
    assert isinstance(outcome, Prediction)
    (expected,) = softmax(classifier.engine.logits(data.test.images[:1]), 4.0)
    np.testing.assert_allclose(sorted(expected, reverse=True)[: len(outcome.probs)], outcome.probs, atol=1e-6)


def test_a_temperature_goes_with_its_weights(run: Path, tmp_path: Path) -> None:
    loaded = load_model(run)
    save(loaded, tmp_path / "same.safetensors")
    assert load_model(tmp_path / "same.safetensors").about["calibration"] == loaded.about["calibration"]
    with torch.no_grad():
        loaded.model.fc.bias[0] += 1
    save(loaded, tmp_path / "other.safetensors")
    assert load_model(tmp_path / "other.safetensors").about["calibration"] is None


def test_another_temperature_is_another_model_to_the_store(run: Path) -> None:
    loaded = load_model(run)
    before = key_of(loaded)
    loaded.about["calibration"] = {"temperature": 7.0}
    assert key_of(loaded) != before
