"""Explanations: exact at the last stage, different for another class, gone when the weights are drawn anew."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit.classifier import classifier_of
from resnetkit.cli import main
from resnetkit.contact_sheet import COLUMNS, ROWS, sheets
from resnetkit.engines import CLASS_MAPS
from resnetkit.errors import BadRequest
from resnetkit.explain import grad_cam
from resnetkit.heat import overlay, scaled
from resnetkit.load import LoadedModel
from test_export import NAMES, OTHERS, PREPROCESS, TINY, images, loaded, net_of, photos, weights  # fixtures

__all__ = ["loaded", "photos", "weights"]

TWO_STAGES = replace(TINY, depths=(1, 1), widths=(8, 16))


@pytest.mark.parametrize(
    "arch", [TINY, TWO_STAGES, *OTHERS], ids=lambda arch: f"{arch.block}-{arch.stem}-{arch.shortcut}"
)
def test_the_last_stage_is_the_exact_map_of_the_class(arch) -> None:  # type: ignore[no-untyped-def]
    net = net_of(arch)
    some = images(4)
    found = grad_cam(net, PREPROCESS, some, [0, 1, 2, None])
    maps = classifier_of(LoadedModel(net, PREPROCESS, NAMES, "", (), "")).engine.output(CLASS_MAPS, some)
    with torch.inference_mode():
        logits = net(PREPROCESS.normalize(torch.from_numpy(some))).numpy()
    for number, each in enumerate(found):
        assert each.index == (number if number < 3 else logits[3].argmax())
        exact = maps[number, each.index]
        assert exact.mean() + net.fc.bias[each.index].item() == pytest.approx(
            logits[number, each.index], rel=1e-3, abs=1e-3
        )
        np.testing.assert_allclose(scaled(each.heat), scaled(exact), atol=1e-3)
        np.testing.assert_allclose(each.probs, torch.from_numpy(logits[number]).softmax(0).numpy(), atol=1e-4)


def test_earlier_stages_are_finer_and_what_is_not_there_is_refused() -> None:
    net = net_of(TWO_STAGES)
    first, last = (grad_cam(net, PREPROCESS, images(2), [None, None], stage)[0].heat for stage in (1, 2))
    assert first.shape[0] == 2 * last.shape[0]
    for stage in (0, 3):
        with pytest.raises(BadRequest, match="expected 1 to 2"):
            grad_cam(net, PREPROCESS, images(1), [None], stage)
    with pytest.raises(BadRequest, match="no class 3"):
        grad_cam(net, PREPROCESS, images(1), [3])


@pytest.mark.parametrize("stage", [1, 2])
def test_the_map_is_another_when_the_weights_are_drawn_anew(stage: int) -> None:
    """A map that does not depend on what was learnt explains nothing (arXiv 1810.03292)."""
    some = images(8)
    own, again, other = (
        np.stack(
            [scaled(each.heat).ravel() for each in grad_cam(net_of(TWO_STAGES, seed), PREPROCESS, some, [0] * 8, stage)]
        )
        for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(own, again)
    alike = [np.corrcoef(one, two)[0, 1] for one, two in zip(own, other, strict=True)]
    assert np.nanmean(alike) < 0.5


def test_heat_is_drawn_where_it_is() -> None:
    heat = np.full((4, 4), -1.0, np.float32)
    heat[0, 3] = 2
    gray = np.full((32, 32, 3), 128, np.uint8)
    drawn = np.asarray(overlay(gray, heat)).astype(int)
    assert drawn.shape == (448, 448, 3)
    changed = np.abs(drawn - 128).sum(2)
    assert changed[:80, -80:].mean() > 100 and changed[200:, :200].mean() < 3
    assert scaled(np.zeros((2, 2), np.float32)).max() == 0 and scaled(heat).max() == 1


def test_sheets_hold_all_pictures_in_order() -> None:
    count = COLUMNS * ROWS + 3
    pictures = [Image.new("RGB", (10, 10), (number, 0, 0)) for number in range(count)]
    found = list(
        sheets(
            pictures, [f"picture {number} of a very long name that goes on and on\nclass" for number in range(count)]
        )
    )
    assert len(found) == 2 and found[0].height > 5 * found[1].height
    assert found[0].getpixel((20, 20)) == (0, 0, 0) and found[1].getpixel((20, 20)) == (COLUMNS * ROWS, 0, 0)
    assert found[0].getpixel((280, 20)) == (1, 0, 0)


@pytest.mark.parametrize("form", ["weights", "onnx", "openvino"])
def test_explain_writes_an_overlay_of_each_and_sheets(
    form: str, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = weights
    if form != "weights":
        model = tmp_path / f"net.{'xml' if form == 'openvino' else 'onnx'}"
        words = ["export", str(weights), "--format", form, "--data", str(photos), "--out", str(model), "--last-map"]
        assert main(words) == 0
    capsys.readouterr()
    out, bad = tmp_path / "out", tmp_path / "bad.png"
    bad.write_text("no image")
    words = ["explain", str(model), str(photos / "bée"), str(bad), "--out", str(out), "--class", "ant hill", "--json"]
    assert main(words) == 1
    said = capsys.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert len(rows) == 12 and {row["class"] for row in rows} == {"ant hill"} and "1 of 13" in said.err
    assert {file.name for file in out.iterdir()} == {Path(row["overlay"]).name for row in rows} | {"sheet-01.png"}
    with Image.open(rows[0]["overlay"]) as picture:
        assert picture.size == (448, 448)
    assert main(words) == 2 and "exists already" in capsys.readouterr().err
    assert main(["explain", str(model), str(photos), "--out", str(tmp_path / "x"), "--class", "ant hil"]) == 2
    assert "did you mean 'ant hill'" in capsys.readouterr().err
    assert main(["explain", str(model), str(bad), "--out", str(tmp_path / "x")]) == 1
    assert not (tmp_path / "x").exists() and not [file for file in tmp_path.iterdir() if file.name.endswith(".part")]
    wrong = main(["explain", str(model), str(photos), "--out", str(tmp_path / "x"), "--stage", "2"])
    assert wrong == 2 and "--stage" in capsys.readouterr().err


def test_overlays_of_an_exported_model_are_those_of_its_weights(weights: Path, photos: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    assert (
        main(["export", str(weights), "--format", "onnx", "--data", str(photos), "--out", str(model), "--last-map"])
        == 0
    )
    for name in (model, weights):
        assert main(["explain", str(name), str(photos / "7"), "--out", str(tmp_path / name.suffix[1:])]) == 0
    for file in sorted((tmp_path / "onnx").iterdir()):
        own, other = (
            np.asarray(Image.open(tmp_path / kind / file.name)).astype(int) for kind in ("onnx", "safetensors")
        )
        assert np.abs(own - other).max() <= 2
