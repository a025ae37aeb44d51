"""Int8: layers that hurt are found; a quantised export passes its gate, with some in float, or is not written."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from resnetkit.artefact import open_artefact
from resnetkit.cli import main
from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess
from resnetkit.engines.of_openvino import read_model
from resnetkit.export import Deployed, draft_of, facts_of
from resnetkit.load import LoadedModel
from resnetkit.models import Architecture
from resnetkit.quantize import (
    Calibration,
    Int8,
    calibration_of,
    layers_in_order,
    layers_that_hurt,
    number_in,
    rounded_weights,
)
from test_export import NAMES, PREPROCESS, TINY, images, net_of, photos, weights  # fixtures

__all__ = ["photos", "weights"]

# Two stages of different widths, with a convolution beside the second: the weights of no two layers have one shape.
TINY_BRANCHED = replace(TINY, depths=(1, 1), widths=(8, 16), stem_width=12, shortcut="B")


@given(st.integers(1, 6), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_weights_are_rounded_to_a_step_of_their_channel(channels: int, inputs: int, scale: float) -> None:
    weight = torch.randn(channels, inputs, 3, 3, generator=torch.Generator().manual_seed(inputs)) * scale
    rounded = rounded_weights(weight)
    steps = weight.abs().flatten(1).amax(1) / 127
    assert bool(((rounded - weight).abs().flatten(1).amax(1) <= steps * 0.5001).all())
    places = rounded.flatten(1) / steps[:, None]
    torch.testing.assert_close(places, places.round(), rtol=0, atol=1e-3)


def test_the_layer_that_hurts_is_found() -> None:
    module = Deployed(net_of(TINY), PREPROCESS, has_map=False).eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    names = [name for name, _ in layers_in_order(module, torch.from_numpy(images(1)))]
    assert names[0] == "model.conv1" and names[-1] == "model.fc"
    bad = module.get_submodule(names[1])
    assert isinstance(bad, nn.Conv2d)
    with torch.no_grad():  # one weight so large that the others of its channel are nothing to its steps
        bad.weight[:, 0, 0, 0] += 30 * bad.weight.abs().max()
    found = layers_that_hurt(module, images(20))
    assert found[0][:2] == (1, names[1]) and {name for _, name, _ in found} == set(names)
    changes = [change for *_, change in found]
    assert changes == sorted(changes, reverse=True) and changes[0] > 3 * changes[1]
    for name, value in module.state_dict().items():
        assert name == f"{names[1]}.weight" or torch.equal(value, before[name])


def test_calibration_images_are_spread_over_the_data() -> None:
    pixels = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    preprocess = Preprocess(4, np.zeros(3, np.float32), np.ones(3, np.float32))
    found = calibration_of(Split(pixels, np.zeros(40, np.uint8)), preprocess, "forty", 8)
    shown = found.images[:, 0, 0, 0].tolist()
    assert len(shown) == 8 and shown[-1] >= 35 and len(set(shown)) == 8
    assert [image.shape for image in found.one_by_one()] == [(1, 4, 4, 3)] * 8


@pytest.mark.parametrize(("form", "ending"), [("onnx", "onnx"), ("openvino", "xml")])
def test_quantising_reports_nothing(form: str, ending: str, weights: Path, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    own = {name: value for name, value in os.environ.items() if "PYTEST" not in name} | {"HOME": str(tmp_path / "home")}
    words = [sys.executable, "-m", "resnetkit", "export", str(weights), "--format", form, "--int8", "--no-gate",
             "--calibration", str(photos), "--calibration-images", "4",
             "--out", str(tmp_path / f"net.{ending}")]  # fmt: skip
    subprocess.run(words, check=True, env=own, capture_output=True)
    assert not [file for file in (tmp_path / "home").rglob("*") if file.name in ("intel", "Microsoft")]


def test_numbers_of_nodes() -> None:
    assert [number_in(name) for name in ("node_conv2d", "node_conv2d_12/WithoutBiases", "node_linear")] == [0, 12, 0]


@pytest.mark.parametrize(("form", "ending"), [("onnx", "onnx"), ("openvino", "xml")])
def test_an_int8_export_says_how(
    form: str, ending: str, weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / f"net.{ending}"
    words = ["export", str(weights), "--format", form, "--data", str(photos), "--out", str(target), "--int8"]
    assert main([*words, "--calibration", str(photos), "--calibration-images", "20", "--min-agreement", "80"]) == 0
    printed = capsys.readouterr().out
    assert "calibrated on 20 images" in printed and "agreement decides" in printed
    facts = open_artefact(target).facts
    assert facts.quantized is not None and facts.gate is not None
    assert facts.quantized["calibration"] == {"data": photos.name, "images": 20}
    assert facts.gate["agreement"] >= 0.8 and facts.gate["largest_difference"] > 0
    assert "Quantize" in quantised_operators(target)


def quantised_operators(path: Path) -> str:
    if path.suffix == ".xml":
        return "Quantize" * ("FakeQuantize" in path.read_text(encoding="utf-8"))
    import onnx

    return " ".join(node.op_type for node in onnx.load(path).graph.node)


def test_layers_that_hurt_stay_in_float_and_are_named(
    weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    judge: Any = importlib.import_module("resnetkit.gated").Judge
    whole: Any = judge.compare
    asked = iter([["top-1 falls"], ["top-1 falls"], []])

    def scripted(*arguments: Any) -> Any:
        return whole(*arguments)[0], next(asked)

    monkeypatch.setattr(judge, "compare", scripted)
    words = ["export", str(weights), "--format", "onnx", "--data", str(photos), "--int8", "--calibration", str(photos)]
    assert main([*words, "--out", str(tmp_path / "net.onnx")]) == 0
    assert "2 of them stay in float" in capsys.readouterr().out
    facts = open_artefact(tmp_path / "net.onnx").facts
    assert facts.quantized is not None and len(facts.quantized["in_float"]) == 2
    assert facts.quantized["weight_bits"] in (7, 8)
    asked = iter([["top-1 falls"]] * 20)
    assert main([*words, "--out", str(tmp_path / "other.onnx")]) == 1
    said = capsys.readouterr().err
    assert "nothing was written" in said and "layers that hurt" in said
    assert {file.name for file in tmp_path.iterdir()} == {"net.onnx"}


@pytest.mark.parametrize(("form", "ending"), [("onnx", "onnx"), ("openvino", "xml")])
@pytest.mark.parametrize("place", [0, 2, 3, 5, 7])
def test_the_layer_that_is_named_is_the_one_in_float(form: Any, ending: str, place: int, tmp_path: Path) -> None:
    loaded = load_of(TINY_BRANCHED)
    module = Deployed(loaded.model, PREPROCESS, has_map=False).eval()
    layers = layers_in_order(module, torch.from_numpy(images(1)))
    assert len(layers) == 8
    how = Int8(Calibration(images(8), "here"), ((place, layers[place][0]),))
    path = tmp_path / f"net.{ending}"
    draft_of(loaded, facts_of(loaded, form, has_map=False), path, how)
    shape = list(layers[place][1].weight.shape)
    in_float = [each for each, quantised in layers_of_file(path) if not quantised]
    assert in_float == [shape]


def load_of(arch: Architecture) -> LoadedModel:
    return LoadedModel(net_of(arch), PREPROCESS, NAMES, "here", (), "0" * 64)


def layers_of_file(path: Path) -> list[tuple[list[int], bool]]:
    """Shape of the weights of each layer, and whether they are quantised."""
    if path.suffix == ".xml":
        found = []
        for op in read_model(path).get_ops():
            if op.get_type_name() in ("Convolution", "MatMul"):
                source = op.input_value(1).get_node().get_type_name()
                found.append((list(op.input_value(1).get_shape()), source != "Constant"))
        return found
    import onnx

    graph = onnx.load(path).graph
    makers = {output: node for node in graph.node for output in node.output}
    sizes = {each.name: list(each.dims) for each in graph.initializer}
    found = []
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            maker = makers.get(node.input[1])
            found.append((sizes[maker.input[0] if maker else node.input[1]], maker is not None))
    return found


def test_bytes_of_eight_bits_need_vnni(weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                       capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    monkeypatch.setattr("resnetkit.quantize.has_vnni", lambda: True)
    target = str(tmp_path / "net.onnx")
    words = ["export", str(weights), "--format", "onnx", "--int8", "--no-gate", "--calibration", str(photos)]
    monkeypatch.setattr("resnetkit.artefact.has_vnni", lambda: True)
    assert main([*words, "--out", target]) == 0
    monkeypatch.setattr("resnetkit.artefact.has_vnni", lambda: False)
    capsys.readouterr()
    assert main(["predict", target, str(photos)]) == 2
    assert "quantised for CPUs with VNNI" in capsys.readouterr().err


def test_what_int8_needs_is_told_at_once(weights: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", str(weights), "--format", "torch-export", "--int8", "--data", str(photos)]) == 2
    said = capsys.readouterr().err
    assert "torch-export is float only" in said and "expected --calibration" in said
    assert main(["export", str(weights), "--format", "onnx", "--calibration", "x", "--data", str(photos)]) == 2
    assert "expected --int8 beside it" in capsys.readouterr().err
