"""Confidences: the expected calibration error, and the temperature that is fitted, stored and used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from resnetkit import checkpoint, load_model, save
from resnetkit.artefact import facts_from_json, open_artefact
from resnetkit.classifier import classifier_of
from resnetkit.cli import main
from resnetkit.confidence import (
    COLDEST,
    HOTTEST,
    LEAST_IMAGES,
    LEAST_WRONG,
    calibration_error,
    fit_temperature,
    fitted,
    softmax,
)
from resnetkit.data.spec import ArrayDataset, Split
from resnetkit.engine_store import key_of
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import DamagedFile
from resnetkit.evaluate import evaluate, logits_of
from resnetkit.export import facts_of
from resnetkit.recipe import EarlyStopping
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


def test_a_temperature_is_fitted_only_to_images_that_tell_one() -> None:
    logits, labels = drawn(0)
    said = fitted(logits, labels)
    assert said and said["value"] == fit_temperature(logits, labels) and said["images"] == len(labels)
    right = logits.argmax(1) == labels
    assert said["ece_at_1"] == calibration_error(softmax(logits).max(1), right)
    assert said["ece"] == calibration_error(softmax(logits, said["value"]).max(1), right)
    few_wrong = np.where(np.cumsum(~right) < LEAST_WRONG, labels, logits.argmax(1))
    assert (few_wrong != logits.argmax(1)).sum() == LEAST_WRONG - 1
    assert fitted(logits, few_wrong) is None  # of a net that is hardly ever wrong it would say nothing
    assert fitted(logits[: LEAST_IMAGES - 1], labels[: LEAST_IMAGES - 1]) is None
    assert fitted(np.where(np.arange(4) == 1, np.float32("nan"), logits), labels) is None


# --- through a run and its weights ---


@pytest.fixture(scope="module")
def data() -> ArrayDataset:
    """120 training images of which a fifth has a wrong label: enough to hold out what a temperature is fitted to."""
    clean = tiny_dataset()
    rng = np.random.default_rng(1)
    wrong = rng.random(len(clean.train)) < 0.2
    labels = np.where(wrong, (clean.train.labels + 1) % 3, clean.train.labels).astype(np.uint8)
    return replace(clean, train=Split(clean.train.images, labels))


@pytest.fixture(scope="module")
def run(data: ArrayDataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("held out") / "run"
    train(replace(RECIPE, val_images=LEAST_IMAGES), data, folder)
    return folder


def held(data: ArrayDataset) -> Split:
    return data.train.part(np.arange(len(data.train) - LEAST_IMAGES, len(data.train)))


def test_a_run_keeps_the_temperature_of_its_val_images(run: Path, data: ArrayDataset) -> None:
    loaded = load_model(run)
    engine = classifier_of(loaded).engine
    said, expected = loaded.about["temperature"], fitted(*logits_of(engine, held(data)))
    assert expected and said["images"] == LEAST_IMAGES
    assert [said[key] for key in expected] == pytest.approx(list(expected.values()), rel=1e-3)
    assert engine.temperature == loaded.temperature == said["value"] != 1.0
    evaluation = json.loads((run / checkpoint.EVALUATION).read_text())
    assert evaluation["temperature"] == said["value"]


@pytest.mark.parametrize("changes", [
    {"early_stopping": EarlyStopping(patience_evaluations=2)},
    {"precise_bn_images": 20, "average_weights": None},
    {"average_weights": None},
])  # fmt: skip
def test_it_is_that_of_the_weights_that_are_kept(changes: dict[str, Any], data: ArrayDataset, tmp_path: Path) -> None:
    train(replace(RECIPE, val_images=LEAST_IMAGES, **changes), data, tmp_path / "run")
    loaded = load_model(tmp_path / "run")
    expected = fitted(*logits_of(classifier_of(loaded).engine, held(data)))
    assert expected and loaded.temperature == pytest.approx(expected["value"], rel=1e-3)


def test_without_enough_val_images_there_is_none(data: ArrayDataset, tmp_path: Path) -> None:
    for images in (0, LEAST_IMAGES - 1):
        train(replace(RECIPE, val_images=images), data, tmp_path / f"{images}")
        loaded = load_model(tmp_path / f"{images}")
        assert loaded.about["temperature"] is None
        assert loaded.temperature == 1.0


def test_evaluation_answers_at_the_temperature(run: Path, data: ArrayDataset) -> None:
    engine = classifier_of(load_model(run)).engine
    assert isinstance(engine, TorchEngine)
    plain, found = (evaluate(replace(engine, temperature=each), data.test) for each in (1.0, engine.temperature))
    np.testing.assert_array_equal(plain.predictions, found.predictions)
    np.testing.assert_array_equal(plain.confidences, found.raw_confidences)
    assert (plain.loss, plain.top1, plain.ece) == (found.loss, found.top1, found.raw_ece)
    logits, labels = logits_of(engine, data.test)
    expected = softmax(logits, engine.temperature).max(1)
    np.testing.assert_allclose(found.confidences, expected, atol=1e-5)
    assert found.ece == pytest.approx(calibration_error(expected, logits.argmax(1) == labels), abs=1e-4)


def picture(data: ArrayDataset, folder: Path) -> Path:
    Image.fromarray(data.test.images[0]).save(folder / "x.png")
    return folder / "x.png"


def test_every_command_answers_at_the_temperature(
    run: Path, data: ArrayDataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, engine = picture(data, tmp_path), classifier_of(load_model(run)).engine
    logits = engine.logits(data.test.images[:1])
    expected, without = (softmax(logits, each)[0].max() for each in (engine.temperature, 1.0))
    assert abs(expected - without) > 1e-3
    assert main(["predict", str(run), str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["predictions"][0]["prob"] == pytest.approx(expected, abs=1e-5)
    assert main(["explain", str(run), str(file), "--out", str(tmp_path / "maps"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["prob"] == pytest.approx(expected, abs=1e-5)
    assert main(["show", str(run / checkpoint.WEIGHTS)]) == 0
    assert f"value {engine.temperature}" in capsys.readouterr().out


def test_exported_models_answer_at_the_temperature(run: Path, data: ArrayDataset, tmp_path: Path,
                                                   capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    pytest.importorskip("onnxruntime")
    file, loaded = picture(data, tmp_path), load_model(run)
    for form, ending in (("onnx", "onnx"), ("openvino", "xml"), ("torch-export", "pt2")):
        target = tmp_path / f"x.{ending}"
        assert main(["export", str(run), "--format", form, "--no-gate", "--last-map", "--out", str(target)]) == 0
        engine = open_artefact(target).engine
        assert engine.temperature == loaded.temperature
        capsys.readouterr()
        assert main(["predict", str(target), str(file), "--json"]) == 0
        expected = softmax(engine.logits(data.test.images[:1]), loaded.temperature)[0].max()
        assert json.loads(capsys.readouterr().out)["predictions"][0]["prob"] == pytest.approx(expected, abs=1e-5)
        assert main(["explain", str(target), str(file), "--out", str(tmp_path / form), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["prob"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("said", [[], {}, {"value": -1.0}, {"value": 0}, 3.5e9])
def test_facts_of_an_export_with_no_temperature_that_can_be_are_refused(said: Any, run: Path, tmp_path: Path) -> None:
    facts = facts_of(load_model(run), "onnx", False)
    data = json.loads(json.dumps(facts.to_json()))
    assert facts_from_json(json.dumps(data), tmp_path).temperature == facts.temperature
    data["about"]["temperature"] = said
    with pytest.raises(DamagedFile):
        facts_from_json(json.dumps(data), tmp_path)


def test_a_temperature_goes_with_its_weights(run: Path, tmp_path: Path) -> None:
    loaded = load_model(run)
    loaded.about["metrics"] = {}
    save(loaded, tmp_path / "bare.safetensors")
    again = load_model(tmp_path / "bare.safetensors")
    assert again.about["temperature"] == loaded.about["temperature"]
    save(again, tmp_path / "again.safetensors")
    assert load_model(tmp_path / "again.safetensors").temperature == loaded.temperature
    with torch.no_grad():
        loaded.model.fc.bias[0] += 1
    save(loaded, tmp_path / "other.safetensors")
    assert load_model(tmp_path / "other.safetensors").about["temperature"] is None


def test_another_temperature_is_another_model_to_the_store(run: Path) -> None:
    loaded = load_model(run)
    before = key_of(loaded)
    loaded.about["temperature"] = {"value": 7.0}
    assert key_of(loaded) != before
