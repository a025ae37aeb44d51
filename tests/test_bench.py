"""bench: every way is timed in a process of its own and judged; the fastest that passes is what predict uses."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from resnetkit import bench, engine_store
from resnetkit import export as export_module
from resnetkit.bench import Candidate, time_candidates
from resnetkit.bench_worker import Opened, images_of, take_turn
from resnetkit.cli import main
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import DamagedFile
from resnetkit.gate import Bounds
from resnetkit.gated import Judge
from resnetkit.load import LoadedModel, load_model
from resnetkit.ways import WAYS
from test_export import SIDE, loaded, photos, weights  # fixtures
from test_gate import SMALL, Scripted
from test_gate import images as labelled_images

__all__ = ["loaded", "photos", "weights"]

EXPORTED = ("onnxruntime", "openvino", "onnxruntime-int8", "openvino-int8")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty home, short turns, and no compiler, which takes half a minute."""
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(bench.time_candidates, "__defaults__", ((1, 16), 1, 0.01))
    without = {name: way for name, way in WAYS.items() if name != "torch-compile"}
    monkeypatch.setattr(bench, "WAYS", without)
    return tmp_path / "home"


def told(words: list[str], capsys: pytest.CaptureFixture[str]) -> Any:
    assert main([*words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_the_fastest_that_passes_is_remembered_and_used(
    weights: Path, photos: Path, quick: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["bench", str(weights), "--data", str(photos), "--calibration", str(photos), "--min-agreement", "60"]
    found = told(words, capsys)
    rows = {row["engine"]: row for row in found["rows"]}
    assert {"torch", "torch-channels-first", *EXPORTED} <= set(rows) | set(found["left_out"])
    assert set(EXPORTED) <= set(rows)
    for row in rows.values():
        assert row["passed"] and row["load_seconds"] > 0 and row["peak_bytes"] > 20e6 and row["file_bytes"] > 1e3
        assert [batch["batch_size"] for batch in row["batches"]] == [1, 16]
        for batch in row["batches"]:
            times = batch["seconds"]
            assert 0 < times["p50"] <= times["p90"] <= times["p99"] and batch["calls"] >= 3
            assert batch["images_per_second"] == pytest.approx(batch["batch_size"] / times["p50"])
            assert batch["share_of_peak"] > 0
    rates = [np.prod([batch["images_per_second"] for batch in row["batches"]]) for row in found["rows"]]
    assert rates == sorted(rates, reverse=True)
    fastest = found["rows"][0]["engine"]
    assert found["notes"][-1].startswith(f"the fastest that passes: {fastest};")

    for words, engine in ((["predict", str(weights), str(photos)], fastest),
                          (["predict", str(weights), str(photos), "--engine", "torch"], "torch")):  # fmt: skip
        assert main(words) == 0
        assert f"engine {engine}\n" in capsys.readouterr().err
    own = told(["evaluate", str(weights), "--data", str(photos)], capsys)
    assert own["engine"] == "torch"
    for engine in EXPORTED:
        other = told(["evaluate", str(weights), "--data", str(photos), "--engine", engine], capsys)
        assert other["engine"] == engine and other["images"] == own["images"]
        assert abs(other["correct"] - own["correct"]) <= (0.4 * own["images"] if engine.endswith("int8") else 0)
    target = str(photos.parent / "verified.onnx")
    if not Path(target).exists():
        assert main(["export", str(weights), "--format", "onnx", "--data", str(photos), "--out", target]) == 0
    capsys.readouterr()
    for engine in ("onnxruntime", "openvino"):
        assert main(["verify", target, "--data", str(photos), "--engine", engine]) == 0
        assert f", engine {engine}\n" in capsys.readouterr().out
    assert main(["verify", target, "--engine", "torch"]) == 2
    assert "does not run" in capsys.readouterr().err

    key = engine_store.key_of(load_model(weights))
    engine_store.remember(key, "onnxruntime", {})  # torch is neither needed nor imported for it
    code = f"import sys; from resnetkit.cli import main; main({['predict', str(weights), str(photos)]!r})"
    code += "; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

    # other preprocessing is another model; another machine knows nothing
    assert main(["predict", str(weights), str(photos), "--mean", "0", "0", "0"]) == 0
    assert "engine torch\n" in capsys.readouterr().err
    monkeypatch.setattr(engine_store, "processor", lambda: "another")
    assert main(["predict", str(weights), str(photos)]) == 0
    assert "engine torch\n" in capsys.readouterr().err


def test_speed_alone_needs_no_weights_and_remembers_nothing(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "resnet20", "--no-gate"]) == 0
    printed = capsys.readouterr().out
    assert "weights drawn at random" in printed and "no gate, as asked" in printed
    assert "nothing is remembered" in printed and "openvino-int8" in printed and "of peak" in printed
    assert not quick.exists() or not list(quick.rglob("*.json"))


@pytest.mark.parametrize(("form", "ways"), [("onnx", ("onnxruntime", "openvino")), ("openvino", ("openvino",))])
def test_exported_models_are_timed_on_what_runs_them(
    form: str, ways: tuple[str, ...], weights: Path, photos: Path, quick: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    target = str(tmp_path / f"net.{'xml' if form == 'openvino' else 'onnx'}")
    assert main(["export", str(weights), "--format", form, "--data", str(photos), "--out", target]) == 0
    capsys.readouterr()
    found = told(["bench", target, "--data", str(photos)], capsys)
    timed = {row["engine"] for row in found["rows"]}
    assert set(ways) <= timed and timed | set(found["left_out"]) == {*ways, "openvino-bf16"}
    assert main(["predict", target, str(photos)]) == 0
    fastest = next(row["engine"] for row in found["rows"] if row["passed"])
    assert f"engine {fastest}\n" in capsys.readouterr().err
    own = told(["evaluate", target, "--data", str(photos)], capsys)
    assert own["engine"] == ways[0]
    other = told(["evaluate", target, "--data", str(photos), "--engine", ways[-1]], capsys)
    assert other["engine"] == ways[-1] and other["confusion"] == own["confusion"]
    assert main(["evaluate", target, "--data", str(photos), "--engine", "torch"]) == 2
    assert f"expected {ways[0]}" in capsys.readouterr().err
    assert main(["bench", target, "--data", str(photos), "--calibration", str(photos)]) == 2
    assert "--calibration: it is quantised or float for good" in capsys.readouterr().err


def test_other_tensors_of_one_file_are_another_model(loaded: LoadedModel) -> None:
    net = copy.deepcopy(loaded.model)
    net.fc.weight.data += 1
    assert engine_store.key_of(replace(loaded, model=net)) != engine_store.key_of(loaded)
    assert engine_store.key_of(replace(loaded, class_names=("a", "b", "c"))) != engine_store.key_of(loaded)


def test_without_the_libraries_torch_alone_is_timed(
    weights: Path, photos: Path, quick: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(export_module, "installed", lambda name: None if name in ("onnx", "openvino") else "1")
    found = told(["bench", str(weights), "--data", str(photos)], capsys)
    assert {row["engine"] for row in found["rows"]} == {"torch", "torch-channels-first"}
    assert "pip install 'resnetkit[export]'" in found["left_out"]["openvino"]
    assert main(["export", str(weights), "--format", "onnx", "--data", str(photos)]) == 2
    assert "onnx needs onnx\n  next: pip install" in capsys.readouterr().err


def test_a_form_that_is_gone_means_torch(weights: Path, photos: Path, quick: Path,
                                         capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    loaded = load_model(weights)
    engine_store.remember(engine_store.key_of(loaded), "openvino-int8", {})
    for _ in range(2):  # once with the file unknown, once known
        assert main(["predict", str(weights), str(photos)]) == 0
        assert "engine torch\n" in capsys.readouterr().err
        engine_store.know_file(str(weights), {}, loaded)


def test_an_engine_that_was_not_made_says_how(weights: Path, photos: Path, quick: Path,
                                              capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    assert main(["predict", str(weights), str(photos), "--engine", "openvino-int8"]) == 2
    assert f"next: resnetkit bench {weights}" in capsys.readouterr().err
    assert main(["verify", str(weights), "--engine", "torch-export"]) in (0, 2)
    capsys.readouterr()
    assert main(["evaluate", str(weights), "--data", str(photos), "--engine", "torch-export"]) == 2
    assert f"next: resnetkit export {weights} --format torch-export" in capsys.readouterr().err
    assert main(["bench", str(weights), "--no-gate", "--data", str(photos)]) == 2
    assert "--no-gate: no images are looked at" in capsys.readouterr().err


def test_what_is_remembered_may_be_damaged(weights: Path, photos: Path, quick: Path,
                                           capsys: pytest.CaptureFixture[str]) -> None:  # fmt: skip
    loaded = load_model(weights)
    file = engine_store.remember(engine_store.key_of(loaded), "torch-channels-first", {})
    assert main(["predict", str(weights), str(photos)]) == 0
    assert "engine torch-channels-first" in capsys.readouterr().err
    for content in ("", "[]", '{"engine": "warp"}'):
        file.write_text(content)
        assert main(["predict", str(weights), str(photos)]) == DamagedFile.exit_code
        assert str(file) in capsys.readouterr().err
    file.unlink()
    engine_store.know_file(str(weights), {"raw": False}, loaded)
    note = engine_store.note_file(loaded.sha256, {})
    assert main(["predict", str(weights), str(photos)]) == 0
    note.write_text("{}")
    assert main(["predict", str(weights), str(photos)]) == DamagedFile.exit_code
    assert f"{note} is not whole" in capsys.readouterr().err


def test_forms_are_replaced_whole_or_not_at_all(quick: Path) -> None:
    with engine_store.renewed("key") as folder:
        (folder / "onnx.onnx").write_text("first")
    kept = engine_store.remember("key", "onnxruntime", {})
    with pytest.raises(KeyboardInterrupt), engine_store.renewed("key") as folder:
        (folder / "onnx.onnx").write_text("second")
        raise KeyboardInterrupt
    own = engine_store.folder_of("key")
    assert (own / "onnx.onnx").read_text() == "first" and kept.is_file()
    with engine_store.renewed("key") as folder:
        (folder / "openvino.xml").write_text("third")
    assert {file.name for file in own.iterdir()} == {"openvino.xml"}  # what was chosen among the others went with them
    assert {file.name for file in own.parent.iterdir()} == {"key", ".lock"}


# --- the rounds ---

PREPROCESS = Preprocess(SIDE, np.zeros(3, np.float32), np.ones(3, np.float32))


def answer_after(seconds: float) -> Opened:
    return lambda images: time.sleep(seconds * len(images)), PREPROCESS


def fail_to_load() -> Opened:
    raise OSError("no such library")


def end_at_batches() -> Opened:
    def logits(images: NDArray[np.uint8]) -> None:
        if len(images) > 1:
            os._exit(3)

    return logits, PREPROCESS


def candidate(name: str, load: Callable[[], Opened] | None) -> Candidate:
    return Candidate(name, load, "", passed=name != "quick")


def test_ways_are_ranked_by_what_they_took() -> None:
    names = {"slow": 0.02, "quick": 0.002, "middle": 0.01}
    candidates = [candidate(name, partial(answer_after, seconds)) for name, seconds in names.items()]
    candidates += [candidate("broken", fail_to_load), candidate("refused", None)]
    found = time_candidates(candidates, 10**6, lambda line: None, (1, 2), 2, 0.02)
    assert [row.candidate.name for row in found.rows] == ["quick", "middle", "slow"]
    assert {each.name for each in found.left_out} == {"broken", "refused"}
    assert found.fastest is not None and found.fastest.candidate.name == "middle"  # the quick one did not pass
    for row in found.rows:
        for timing in row.timings:
            seconds = names[row.candidate.name] * timing.batch_size
            assert seconds <= timing.percentiles[50] < seconds + 0.02
            assert timing.share_of_peak == pytest.approx(2e6 * timing.images_per_second / found.flops_of_peak)
    assert found.flops_of_peak > 1e9


def test_a_process_that_ends_in_its_turn_is_left_out_and_the_rest_goes_on() -> None:
    candidates = [candidate("ends", end_at_batches), candidate("stays", partial(answer_after, 0.001))]
    found = time_candidates(candidates, None, lambda line: None, (1, 2), 2, 0.01)
    assert [row.candidate.name for row in found.rows] == ["stays"]
    assert [each.name for each in found.left_out] == ["ends"] and "ended" in found.left_out[0].note


def test_a_turn_has_as_many_calls_as_it_has_time_for() -> None:
    images = images_of(2, PREPROCESS)
    assert images.shape == (2, SIDE, SIDE, 3)
    assert len(take_turn(lambda given: time.sleep(0.01), images, 0.0).seconds) == 3
    turn = take_turn(lambda given: time.sleep(0.01), images, 0.08)
    assert 4 <= len(turn.seconds) <= 8 and min(turn.seconds) >= 0.01 and turn.peak_bytes > 1e7


def test_rounded_ways_are_judged_by_their_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("openvino.xml", "openvino.bin"):
        (tmp_path / name).write_text("")
    monkeypatch.setattr(bench, "has_bfloat16", lambda: True)
    judge = Judge(Scripted(), labelled_images(50), "fifty")
    for change, passed in ((lambda logits: logits * 1.01, True), (lambda logits: -logits, False)):
        engine = Scripted(change, SMALL, "openvino-bf16")
        facts = SimpleNamespace(gate={"passed": True}, format="openvino")  # of float32: not of this way
        opening = SimpleNamespace(engine=engine, facts=facts)
        monkeypatch.setattr(bench, "open_artefact", lambda *given, opening=opening: opening)
        found = bench.judged(WAYS["openvino-bf16"], tmp_path / "openvino.xml", judge, Bounds())
        assert found.passed is passed and found.load is not None
        assert found.note.startswith("refused: top-1 agrees on 0.00 %") is not passed
