"""Fine-tuning from a folder to a classifier: what is divided how, chosen why, and that the whole command works."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from resnetkit import checkpoint
from resnetkit.cli import main
from resnetkit.data.trees import read_photos
from resnetkit.finetune import balance_for
from resnetkit.home import read_json
from resnetkit.recipe_json import read_recipe
from tiny import RECIPE, tiny_dataset


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from resnetkit.train import train

    run = tmp_path_factory.mktemp("runs") / "start"
    train(RECIPE, tiny_dataset(), run)
    return run


COLOURS = {"ant hill": (200, 60, 60), "bée": (60, 200, 60), "7": (60, 60, 200)}


def make(root: Path, counts: dict[str, int]) -> Path:
    """Write noisy photos around a colour for each class: names with blanks and letters, mixed endings."""
    rng = np.random.default_rng(0)
    for place, count in counts.items():
        (root / place).mkdir(parents=True)
        for number in range(count):
            shapes = np.clip(rng.normal(0, 45, (7, 7, 3)) + COLOURS[Path(place).name], 0, 255).astype(np.uint8)
            image = Image.fromarray(shapes).resize(tuple(rng.integers(30, 60, 2).tolist()), Image.Resampling.BICUBIC)
            image.save(root / place / f"a b {number}.{('jpg', 'PNG', 'JPEG')[number % 3]}")
    return root


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(importlib.import_module("resnetkit.commands.finetune"), "FORECAST_SECONDS", 0.5)
    monkeypatch.chdir(tmp_path)
    return tmp_path


QUICK = ["--set", "total_epochs=2", "batch_size=8", "microbatch_size=8"]
SIXTY = dict.fromkeys(COLOURS, 20)


def run_of(home: Path, start: Path, *words: str) -> Path:
    out = home / "out"
    assert main(["finetune", "photos", "--model", str(start), "--out", str(out), *words]) == 0
    return out


def test_one_command_leaves_a_classifier(home: Path, start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(home / "photos", SIXTY)
    (root / "7" / ".hidden.png").write_bytes(b"x")
    (root / "7" / "readme.txt").write_text("x")
    (root / "7" / "broken.png").write_bytes(b"x")
    (root / "7" / "a b 0.jpg").rename(root / "7" / os.fsdecode(b"caf\xe9.jpg"))  # no UTF-8
    run = run_of(home, start, *QUICK)
    printed = capsys.readouterr().out
    outcome = read_json(run / checkpoint.EVALUATION)
    assert outcome["top1"] > 0.8 and [row["class"] for row in outcome["classes"]] == sorted(COLOURS)
    for said in ("readme.txt", "1 of 61 photos are left out", "train 48, val 6, test 6", "forecast:", "default: ",
                 f"next: resnetkit predict {run} PHOTO..."):  # fmt: skip
        assert said in printed
    look = {file.name for file in (run / checkpoint.LOOK).iterdir()}
    assert look == {"photos.csv", "classes.txt", "augmented.html", "findings.json", "quarantine.csv", "report.html"}
    events = checkpoint.read_events(run)
    assert events[0]["init_sha256"] and events[1]["event"] == "eval" and events[1]["step"] == 0
    assert (run / checkpoint.REPORT).exists()
    assert main(["predict", str(run), str(root / "bée" / "a b 1.PNG"), "--top", "1"]) == 0
    assert "bée" in capsys.readouterr().out
    assert main(["verify", str(run)]) == 0
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", str(run / checkpoint.LOOK / "photos.csv"), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["images"], again["correct"]) == (6, outcome["correct"])


def test_a_stopped_run_goes_on(home: Path, start: Path) -> None:
    make(home / "photos", SIXTY)
    run = run_of(home, start, *QUICK)
    recipe = read_json(run / checkpoint.RECIPE)
    shutil.copytree(run, home / "whole")
    for name in ("weights.safetensors", "evaluation.json"):
        (run / name).unlink()
    assert main(["train", "--resume", "--out", str(run)]) == 0
    assert (run / "weights.safetensors").read_bytes() == (home / "whole" / "weights.safetensors").read_bytes()
    assert read_recipe(recipe).init_from == str(start)


def test_the_division_is_kept_and_used_again(home: Path, start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = make(home / "photos", SIXTY)
    words = ["finetune", "photos", "--model", str(start), "--look-only"]
    assert main([*words, "--out", "one"]) == 0
    first = (home / "one/first-look/photos.csv").read_text()
    extra = np.random.default_rng(9).integers(0, 256, (30, 30, 3), np.uint8)
    Image.fromarray(extra).save(root / "7" / "new.png")
    assert main([*words, "--out", "two", "--seed", "5"]) == 0
    second = (home / "two/first-look/photos.csv").read_text()
    assert set(first.splitlines()) < set(second.splitlines()) and "new.png" in second
    assert "division of the photos as in" in capsys.readouterr().out
    assert main([*words, "--out", "three", "--seed", "5", "--new-split"]) == 0
    assert not set(first.splitlines()) < set((home / "three/first-look/photos.csv").read_text().splitlines())
    assert main([*words, "--out", "four", "--split", "one/first-look/photos.csv"]) == 0
    assert set(first.splitlines()) < set((home / "four/first-look/photos.csv").read_text().splitlines())


def test_splits_on_disk_stay_as_they_are(home: Path, start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = {f"{split}/{name}": count for split, count in (("train", 12), ("val", 4), ("test", 5)) for name in COLOURS}
    make(home / "photos", counts)
    words = ["finetune", "photos", "--model", str(start), "--look-only", "--out"]
    assert main([*words, "all"]) == 0 and "divided as on disk: train 36, val 12, test 15" in capsys.readouterr().out
    data = read_photos(home / "all/first-look/photos.csv")
    assert data.val is not None
    assert data.val.folder.name == "val" and (len(data.val), len(data.test)) == (12, 15)
    shutil.rmtree(home / "photos/val")
    assert main([*words, "two"]) == 0
    assert "train 33, val 3, test 15; val is drawn from those of train" in capsys.readouterr().out


def test_copies_of_a_picture_are_on_one_side(home: Path, start: Path) -> None:
    root = make(home / "photos", SIXTY)
    for number in range(20):
        name = f"a b {number}.{('jpg', 'PNG', 'JPEG')[number % 3]}"
        with Image.open(root / "7" / name) as image:
            image.save(root / "7" / f"copy {number}.jpg", quality=70)
    assert main(["finetune", "photos", "--model", str(start), "--look-only", "--out", "run"]) == 0
    places = dict(line.rsplit(",", 2)[::2] for line in (home / "run/first-look/photos.csv").read_text().splitlines())
    by_name = {Path(path).name: place for path, place in places.items() if Path(path).parent.name == "7"}
    same = [by_name[f"copy {n}.jpg"] == by_name[f"a b {n}.{('jpg', 'PNG', 'JPEG')[n % 3]}"] for n in range(20)]
    assert all(same)


def test_folds_hold_every_photo_out_once(home: Path, start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(home / "photos", SIXTY)
    run = run_of(home, start, "--folds", "3", "--set", "total_epochs=1", "batch_size=8", "microbatch_size=8")
    summary = read_json(run / "folds.json")
    assert summary["images"] == 54 and [row["images"] for row in summary["folds"]] == [18, 18, 18]
    held = [path for number in (1, 2, 3) for line in
            (run / f"fold-{number}/first-look/photos.csv").read_text().splitlines()
            if line.endswith(",test") for path in [line.split(",")[0]]]  # fmt: skip
    assert len(held) == len(set(held)) == 54
    assert "each predicted by the net that has not seen it" in capsys.readouterr().out


def test_a_rate_is_found_on_request(home: Path, start: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make(home / "photos", SIXTY)
    assert main(["finetune", "photos", "--model", str(start), "--out", "run", "--find-lr", "--look-only", *QUICK]) == 0
    found = read_json(home / "run/first-look/lr-range.json")
    assert len(found["lrs"]) == len(found["losses"]) > 10 and found["lrs"] == sorted(found["lrs"])
    assert 1e-6 <= found["suggested"] <= 1.0
    assert f"learning-rate range test: {found['suggested']:g} instead of" in capsys.readouterr().out


def test_large_imbalance_is_balanced_and_said() -> None:
    labels = np.repeat([0, 1], [60, 10])
    assert balance_for(labels, "auto")[0] == "class_weights"
    assert balance_for(np.repeat([0, 1], [40, 10]), "auto")[0] == "none"
    assert balance_for(labels, "sampling") == ("sampling", ["balance of classes: sampling, as asked"])
    assert "6 times" in balance_for(labels, "auto")[1][0]


def test_what_does_not_go_together_is_refused_at_once(
    home: Path, start: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", "cifar10", "--folds", "2", "--split", "x.csv", "--new-split", "--out", "a/b"]) == 2
    error = capsys.readouterr().err
    for said in (
        "no folder of photos",
        "expected one of them",
        "no such file: x.csv",
        "expected 3 or more",
    ):
        assert said in error
    assert main(["finetune", "nowhere", "--model", "nothing"]) == 2
    assert "no such folder or list: nowhere" in capsys.readouterr().err
    make(home / "photos", dict.fromkeys(COLOURS, 1))
    assert main(["finetune", "photos", "--model", str(start), "--out", "run"]) == 2
    assert "no photos for val" in capsys.readouterr().err
    make(home / "few", SIXTY)
    (home / "used").mkdir()
    (home / "used" / "x").touch()
    assert main(["finetune", "few", "--model", str(start), "--out", "used"]) == 2
