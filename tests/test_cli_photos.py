"""The commands on a folder of photos: train, resume from elsewhere, evaluate, report, and what is refused."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit import checkpoint
from resnetkit.cli import main
from resnetkit.home import read_json
from resnetkit.published import PUBLISHED

FEW = (
    "total_steps=2",
    "batch_size=4",
    "microbatch_size=4",
    "image_size=16",
    "view.crop_size=16",
    "view.resize_size=20",
)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("data") / "2012", np.random.default_rng(0)  # a name that is a number too
    for place, count in (("train/ant", 5), ("train/bee", 3), ("val/ant", 2), ("val/bee", 2)):
        (root / place).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(rng.integers(0, 256, (24, 31, 3), np.uint8)).save(root / place / f"{number} x.png")
    return root


@pytest.fixture(scope="module")
def run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run, started by a relative name of the folder and resumed from another one."""
    run, before = tmp_path_factory.mktemp("runs") / "run", Path.cwd()
    sets = ["--set", "model=resnet8", "total_epochs=null", *FEW]
    try:
        os.chdir(photos.parent)
        assert (
            main(["train", "resnet18_8xb32_in1k", "--data", "2012", "--out", str(run), "--max-steps", "1", *sets]) == 0
        )
        os.chdir(run.parent)
        assert main(["train", "--resume", "--out", str(run)]) == 0
    finally:
        os.chdir(before)
    return run


def test_a_run_on_photos_is_whole(run: Path, photos: Path) -> None:
    assert read_json(run / checkpoint.RECIPE)["data"] == str(photos.resolve())
    evaluation = read_json(run / checkpoint.EVALUATION)
    assert evaluation["images"] == 4 and [row["class"] for row in evaluation["classes"]] == ["ant", "bee"]
    assert "image/png" in (run / checkpoint.REPORT).read_text() or evaluation["correct"] == 4


def test_evaluate_takes_the_weights_preprocessing_and_classes(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trained = read_json(run / checkpoint.EVALUATION)
    predictions = tmp_path / "predictions.csv"
    assert main(["evaluate", str(run), "--data", str(photos), "--json", "--predictions", str(predictions)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {"images", "correct", "top1", "top5", "loss"} <= set(found)
    assert (found["images"], found["correct"]) == (4, trained["correct"])
    assert found["loss"] == pytest.approx(trained["loss"], rel=1e-5)
    assert len(predictions.read_text().splitlines()) == 5
    assert main(["evaluate", str(run), "--data", str(photos / "val"), "--json"]) == 0  # class folders themselves
    assert json.loads(capsys.readouterr().out)["correct"] == trained["correct"]


def test_labels_follow_the_names_of_folders(
    run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bee").symlink_to(photos / "val" / "bee")  # one class of two
    assert main(["evaluate", str(run), "--data", str(tmp_path), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["classes"]
    assert [(row["class"], row["images"]) for row in rows] == [("ant", 0), ("bee", 2)]


def test_other_classes_do_not_fit(run: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("ant", "bee", "cow"):
        (tmp_path / name).symlink_to(photos / "val" / "bee")
    assert main(["evaluate", str(run), "--data", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "folders that are no class of it: cow; its classes: ant, bee" in error
    assert "--class-names FILE" in error


def test_a_report_without_its_photos_says_so(run: Path, photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    away = photos.with_name("away")
    photos.rename(away)
    try:
        assert main(["report", str(run)]) == 0
        assert "a report without pictures: no data" in capsys.readouterr().err
        assert main(["train", "--resume", "--out", str(run), "--data", str(away)]) == 0  # nothing is left to do
    finally:
        away.rename(photos)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["train", "resnet18_8xb32_in1k"], "error: imagenet1k cannot be fetched\n  next: --data DIR"),
        (
            ["train", "resnet18_8xb32_in1k", "--data", "nowhere"],
            "data: expected a folder of photos, a list of them, or one of cifar10",
        ),
        (["train", "resnet50-mill_in21k"], "unknown recipe 'resnet50-mill_in21k'"),
        (["evaluate", "x", "--data", "nowhere"], "no data 'nowhere'"),
        (["show", "resnet50_8xb32_in1kk"], "did you mean 'resnet50_8xb32_in1k'?"),
        (["show", "resnet50-mill_in21k", "--set", "seed=1"], "resnet50-mill_in21k has no recipe"),
        (["show", "quickstart", "--devices", "0"], "expected a whole number above 0, got '0'"),
        (["train", "quickstart", "--max-microbatch", "x"], "expected a whole number above 0, got 'x'"),
    ],
)
def test_refusals(words: list[str], error: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path.cwd()
    try:
        os.chdir(tmp_path)
        assert main(words) == 2
    finally:
        os.chdir(before)
    assert error in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_tree_is_refused_with_the_tree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "resnet18_8xb32_in1k", "--data", str(tmp_path), "--out", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "no class folders, no lists and no images in it" in error
    assert "ROOT/train/CLASS/*.jpg" in error
    assert not (tmp_path / "run").exists()


def test_weights_to_start_from_that_cannot_be_had_name_the_ways_out(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    mill = "openmmlab/resnet50-mill_in21k"
    nowhere = replace(PUBLISHED[mill], url="http://127.0.0.1:9/mill.pth")  # the discard port: refused at once
    monkeypatch.setitem(PUBLISHED, mill, nowhere)
    assert main(["train", "resnet50_8xb8_cub", "--data", str(photos), "--out", str(tmp_path / "run")]) == 1
    error = capsys.readouterr().err
    assert "no source gave the weights of openmmlab/resnet50-mill_in21k" in error
    assert "put the file there yourself" in error and "init_from=null" in error
    assert not (tmp_path / "run").exists()


def test_what_a_smaller_microbatch_changes_is_said_and_kept(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "resnet18_8xb32_in1k", "--data", str(photos), "--out", str(tmp_path / "run"), "--max-steps", "1"]
    assert main([*words, "--max-microbatch", "2", "--set", "model=resnet8", *FEW[1:]]) == 0
    told = capsys.readouterr()
    assert "2 forward passes a step of 2 images each: 4 images a step" in told.out
    assert "warning: BatchNorm's statistics are those of 2 images instead of 4" in told.err
    assert main(["train", "--resume", "--out", str(tmp_path / "run"), "--max-microbatch", "4"]) == 2
    assert "in the micro-batches that it was started with" in capsys.readouterr().err
    stored = read_json(tmp_path / "run" / checkpoint.RECIPE)
    assert (stored["batch_size"], stored["microbatch_size"]) == (4, 2)


@pytest.mark.parametrize("name", ["resnet50_8xb256-rsb-a1-600e_in1k", "resnet50_8xb8_cub", "resnet34_a", "quickstart"])
def test_show_says_the_cost_and_how_devices_share_it(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name, "--devices", "8"]) == 0
    text = capsys.readouterr().out
    for part in ("steps of", "images seen", "PFLOP of training", "8 devices, ", "the learning rate stays", "optim.lr"):
        assert part in text, part


def test_show_as_json_has_recipe_cost_plan_and_what_is_published(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "resnet50_8xb256-rsb-a3-100e_in1k", "--devices", "3", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["optim"]["kind"] == "Lamb" and found["batch_size"] == 2048
    assert found["cost"]["steps"] == 62_600 and found["cost"]["train_flops"] > 1e18
    assert found["published"]["top1"] == 0.783
    assert (found["plan"]["devices"], found["plan"]["recipe"]["batch_size"]) == (3, 2052)
    assert main(["show", "resnet50-mill_in21k", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["published"]["params"] == 46_499_861


def test_a_list_is_trained_resumed_and_evaluated_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    rows = ["path,label,split"]
    for number in range(8):
        Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8)).save(tmp_path / f"{number}.png")
        rows.append(f"{number}.png,{('left', 'right')[number % 2]},{'val' if number > 5 else 'train'}")
    (tmp_path / "photos.csv").write_text("\n".join(rows))
    words = ["--data", str(tmp_path / "photos.csv"), "--out", str(tmp_path / "run")]
    changes = ["batch_size=4", "microbatch_size=4", "total_epochs=null", "total_steps=2", "val_images=0"]
    assert main(["train", "resnet20", *words, "--max-steps", "1", "--set", *changes]) == 0
    assert main(["train", "--resume", "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(tmp_path / "run"), "--data", str(tmp_path / "photos.csv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["images"], [row["class"] for row in found["classes"]]) == (2, ["left", "right"])
    assert [row["images"] for row in found["classes"]] == [1, 1]
