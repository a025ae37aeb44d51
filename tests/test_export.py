"""Exports: what is written answers like its model, says what it is, and is not written where it does not."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import resnetkit
from resnetkit import checkpoint
from resnetkit.artefact import ENDINGS, FORMATS, open_artefact
from resnetkit.cli import main
from resnetkit.data.transforms import Preprocess
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest, DamagedFile
from resnetkit.export import Deployed, draft_of, facts_of, files_of, write_facts
from resnetkit.load import LoadedModel, load_model
from resnetkit.models import Architecture, ResNet, find_architecture
from resnetkit.ways import Format
from resnetkit.weights_file import ABOUT, metadata_of

SIDE = 24
NAMES = ("ant hill", "bée", "7")
PREPROCESS = Preprocess(SIDE, np.array([0.4, 0.5, 0.6], np.float32), np.array([0.2, 0.3, 0.25], np.float32), 28)
TINY = replace(find_architecture("resnet4_tiny"), num_classes=len(NAMES))
OTHERS = (
    replace(TINY, shortcut="A"),
    replace(TINY, shortcut="plain"),
    replace(TINY, block="bottleneck", stem="deep", avg_down=True),
    replace(TINY, stem="7x7", shortcut="C"),
)


def net_of(arch: Architecture, seed: int = 0) -> ResNet:
    """Build a net whose norms have statistics, scales and shifts, as after training."""
    torch.manual_seed(seed)
    net = ResNet(arch)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for values in (module.running_mean, module.weight.data, module.bias.data):
                assert values is not None
                values.normal_(0.5, 0.3)
            assert module.running_var is not None
            module.running_var.uniform_(0.5, 2)
    torch.nn.init.normal_(net.fc.weight)
    return net.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("weights") / "net.safetensors"
    checkpoint.save_weights(path, net_of(TINY).state_dict(), metadata_of(TINY, PREPROCESS, NAMES, ABOUT))
    return path


@pytest.fixture(scope="module")
def loaded(weights: Path) -> LoadedModel:
    return load_model(weights)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos") / "pets"
    rng = np.random.default_rng(0)
    for name in NAMES:
        (root / name).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 256, (8, 8, 3), np.uint8)
            Image.fromarray(pixels).resize((40, 30)).save(root / name / f"{number}.png")
    return root


def images(count: int) -> np.ndarray:
    return np.random.default_rng(count).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)


@pytest.mark.parametrize("arch", [TINY, *OTHERS], ids=lambda arch: f"{arch.block}-{arch.stem}-{arch.shortcut}")
def test_norms_are_folded_and_nothing_changes(arch: Architecture) -> None:
    net = net_of(arch)
    deployed = Deployed(net, PREPROCESS, has_map=True).eval()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in deployed.modules())
    assert any(isinstance(module, torch.nn.BatchNorm2d) for module in net.modules())
    some = torch.from_numpy(images(5))
    with torch.inference_mode():
        logits, last, maps = deployed(some)
        inputs = PREPROCESS.normalize(some)
        torch.testing.assert_close(logits, net(inputs), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(last, net.features(inputs)[-1], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(maps.mean((2, 3)) + net.fc.bias, logits, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("form", FORMATS)
def test_each_format_says_what_it_is_and_answers_alike(form: Format, loaded: LoadedModel, tmp_path: Path) -> None:
    path = tmp_path / f"net{ENDINGS[form]}"
    facts = facts_of(loaded, form, has_map=True)
    artefact = draft_of(loaded, facts, path)
    assert json.dumps(artefact.facts.to_json()) == json.dumps(facts.to_json())
    assert artefact.facts.class_names == NAMES and artefact.facts.weights_sha256 == loaded.sha256
    np.testing.assert_array_equal(artefact.engine.preprocess.mean, PREPROCESS.mean)
    model = TorchEngine(loaded.model, loaded.preprocess)
    for size in (1, 2, 7, 32):
        np.testing.assert_allclose(
            artefact.engine.logits(images(size)), model.logits(images(size)), rtol=1e-4, atol=1e-4
        )
    for file in files_of(path, form):
        content = file.read_bytes()
        assert str(Path(resnetkit.__file__).parent).encode() not in content and b"site-packages" not in content
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files_of(path, form)}


@pytest.mark.parametrize("form", FORMATS)
def test_the_last_map_goes_through_the_gate_too(
    form: Format, weights: Path, photos: Path, loaded: LoadedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    target = tmp_path / f"net{ENDINGS[form]}"
    words = ["export", str(weights), "--format", form, "--data", str(photos), "--last-map", "--out", str(target)]
    assert main(words) == 0
    artefact = open_artefact(target)
    model = TorchEngine(loaded.model, loaded.preprocess)
    np.testing.assert_allclose(
        artefact.engine.output("map", images(3)), model.output("map", images(3)), rtol=1e-4, atol=1e-4
    )
    gate = artefact.facts.gate
    assert gate is not None and gate["largest_map_difference"] < 1e-3 and gate["map_cosine"] > 0.999
    whole = Deployed.forward

    def mirrored(self: Deployed, given: torch.Tensor) -> object:
        logits, last, maps = whole(self, given)
        return logits, last.permute(0, 1, 3, 2), maps

    monkeypatch.setattr(Deployed, "forward", mirrored)
    for file in files_of(target, form):
        file.unlink()
    capsys.readouterr()
    assert main(words) == 1
    assert "last maps differ by up to" in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_photos_without_classes_are_compared_on_too(weights: Path, photos: Path, tmp_path: Path,
                                                    capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    target = str(tmp_path / "net.onnx")
    assert main(["export", str(weights), "--format", "onnx", "--data", str(photos / "bée"), "--out", target]) == 0
    printed = capsys.readouterr().out
    assert "12 images: top-1 agrees on 100.00 %" in printed and "the model's" not in printed
    gate = open_artefact(Path(target)).facts.gate
    assert gate is not None and gate["correct"] is None and gate["data"] == "bée"


def test_bounds_are_percent_and_points(weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for option, value in (("--min-agreement", "0.95"), ("--min-agreement", "101"), ("--max-drop", "50")):
        assert main(["export", str(weights), "--format", "onnx", option, value]) == 2
        assert f"{option}: expected" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": ("ant\x1b[2J", "bée", "7")}, "cannot be printed"),
        ({"class_names": ("ant", "bée")}, "2 class names for 3 logits"),
        ({"preprocess": replace(PREPROCESS, image_size=99_999, resize_size=None)}, "image sizes"),
        ({"about": {"data": "photos"}}, "not what they must be"),
    ],
)
@pytest.mark.parametrize("form", FORMATS)
def test_facts_that_no_export_has_are_refused(
    form: Format, change: dict[str, Any], said: str, loaded: LoadedModel, tmp_path: Path
) -> None:
    path = tmp_path / f"net{ENDINGS[form]}"
    artefact = draft_of(loaded, facts_of(loaded, form, has_map=False), path)
    write_facts(path, replace(artefact.facts, **change))
    with pytest.raises(DamagedFile) as raised:
        open_artefact(path)
    assert said in str(raised.value)


def test_a_mean_image_is_subtracted_inside(loaded: LoadedModel, tmp_path: Path) -> None:
    mean = np.random.default_rng(0).random((SIDE, SIDE, 3), np.float32)
    other = replace(loaded, preprocess=replace(PREPROCESS, mean=mean))
    artefact = draft_of(other, facts_of(other, "onnx", has_map=False), tmp_path / "net.onnx")
    model = TorchEngine(other.model, other.preprocess)
    np.testing.assert_allclose(artefact.engine.logits(images(3)), model.logits(images(3)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form", FORMATS)
def test_what_was_exported_is_a_model_like_any_other(
    form: Format, weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(weights), "--format", form, "--data", str(photos)]) == 0
    own = f"net{ENDINGS[form]}"
    printed = capsys.readouterr().out
    assert f"exported {own}" in printed and "36 images: top-1 agrees on 100.00 %" in printed
    gate = open_artefact(Path(own)).facts.gate
    assert gate is not None and gate["passed"] and (gate["images"], gate["agree"]) == (36, 36)
    assert {file.name for file in tmp_path.iterdir()} == {file.name for file in files_of(Path(own), form)}
    outcomes = []
    for name in (str(weights), own):
        assert main(["evaluate", name, "--data", str(photos), "--json"]) == 0
        outcomes.append(json.loads(capsys.readouterr().out))
    assert outcomes[0]["confusion"] == outcomes[1]["confusion"]
    assert outcomes[1]["loss"] == pytest.approx(outcomes[0]["loss"], rel=1e-4)
    assert outcomes[0]["engine"] == "torch" and outcomes[1]["engine"] == open_artefact(Path(own)).engine.name
    assert main(["predict", own, str(photos / "bée"), "--json"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 12
    assert main(["verify", own, "--data", str(photos)]) == 0
    assert "0 failed, 0 not checked" in capsys.readouterr().out
    artefact = open_artefact(Path(own))
    write_facts(Path(own), replace(artefact.facts, gate=gate | {"correct": gate["correct"] + 3}))
    assert main(["verify", own, "--data", str(photos)]) == 1
    assert "correct: claimed" in capsys.readouterr().out


def normalised(self: Deployed, images: torch.Tensor) -> torch.Tensor:
    assert isinstance(self.mean, torch.Tensor)
    assert isinstance(self.std, torch.Tensor)
    return (images.to(torch.float32) / 255 - self.mean) / self.std


def answered(self: Deployed, inputs: torch.Tensor) -> torch.Tensor:
    logits: torch.Tensor = self.model.fc(self.model.features(inputs.permute(0, 3, 1, 2))[-1].mean((2, 3)))
    return logits


BREAKS = {
    "the norm is forgotten": lambda self, images: answered(self, images.to(torch.float32)),
    "the batch is mixed up": lambda self, images: answered(self, normalised(self, images)) - 0.1 * images.shape[0],
}


@pytest.mark.parametrize(
    ("form", "broken"),
    [(form, broken) for form in FORMATS for broken in BREAKS if form != "torch-export" or "norm" in broken],
)
def test_a_broken_export_is_not_written(
    form: Format, broken: str, weights: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(Deployed, "forward", BREAKS[broken])
    target = tmp_path / f"net{ENDINGS[form]}"
    assert main(["export", str(weights), "--format", form, "--data", str(photos), "--out", str(target)]) == 1
    assert "does not answer like the model; nothing was written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_a_gate_it_says_so(weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "net.onnx"
    assert main(["export", str(weights), "--format", "onnx", "--no-gate", "--out", str(target)]) == 0
    assert "no gate, as asked" in capsys.readouterr().out
    assert open_artefact(target).facts.gate is None


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_exported_model_needs_no_torch_and_reports_nothing(
    form: Format, weights: Path, photos: Path, tmp_path: Path
) -> None:
    target = tmp_path / f"net{ENDINGS[form]}"
    assert main(["export", str(weights), "--format", form, "--data", str(photos), "--out", str(target)]) == 0
    script = f"""
import sys
sys.modules["torch"] = None  # not to be had
from pathlib import Path
from resnetkit.artefact import open_artefact
from resnetkit.predict import predict
artefact = open_artefact(Path({str(target)!r}))
(outcome,) = predict(artefact.engine, [{str(photos / "7" / "3.png")!r}], top_k=1)
assert not sys.modules.get("openvino_telemetry")
print(artefact.facts.class_names[outcome.classes[0]], outcome.probs[0])
"""
    (tmp_path / "home").mkdir()
    own = os.environ | {"HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=own)
    said = done.stdout.split()
    assert list((tmp_path / "home").iterdir()) == []
    engine = TorchEngine(load_model(weights).model, PREPROCESS)
    (outcome,) = importlib.import_module("resnetkit.predict").predict(engine, [str(photos / "7" / "3.png")], top_k=1)
    assert " ".join(said[:-1]) == NAMES[outcome.classes[0]]
    assert float(said[-1]) == pytest.approx(outcome.probs[0], abs=1e-4)


def test_what_does_not_fit_is_refused_at_once(
    weights: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(*words: str) -> str:
        assert main(["export", str(weights), *words]) == 2
        return capsys.readouterr().err

    assert "no images to compare" in refused("--format", "onnx", "--out", str(tmp_path / "net.onnx"))
    (tmp_path / "net.bin").write_bytes(b"")
    said = refused("--format", "openvino", "--out", str(tmp_path / "net.xml"))
    assert "exists already" in said
    said = refused("--format", "openvino", "--out", str(tmp_path / "none" / "net.onnx"), "--data", str(photos))
    assert "ends in .xml" in said and "no such folder" in said


def test_what_is_no_export_of_ours_is_told(
    loaded: LoadedModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnx

    path = tmp_path / "net.onnx"
    draft_of(loaded, facts_of(loaded, "onnx", has_map=False), path)
    assert main(["predict", str(path), str(path), "--mean", "0", "0", "0", "--plain"]) == 2
    said = capsys.readouterr().err
    assert "is an exported model" in said and "--mean" in said and "--plain" in said
    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(BadRequest, match="not exported by resnetkit"):
        open_artefact(tmp_path / "foreign.onnx")
    for ending in ENDINGS.values():
        damaged = tmp_path / f"damaged{ending}"
        damaged.write_bytes(path.read_bytes()[:1000])
        with pytest.raises(DamagedFile, match="damaged"):
            open_artefact(damaged)


def test_a_signal_after_openvino_has_compiled_is_survived(weights: Path, photos: Path, tmp_path: Path) -> None:
    """OpenVINO leaves a signal stack that is gone with the model: Ctrl-C would be a segmentation fault."""
    words = ["export", str(weights), "--format", "openvino", "--data", str(photos), "--last-map",
             "--out", str(tmp_path / "net.xml")]  # fmt: skip
    code = f"""
import os, signal, time
from resnetkit.cli import main
assert main({words!r}) == 0
seen = []
signal.signal(signal.SIGINT, lambda number, frame: seen.append(number))
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.05)
assert seen == [signal.SIGINT]
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
