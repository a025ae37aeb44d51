"""An examination of a folder with everything wrong in it, and what train and evaluate make of it."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnetkit.cli import main
from resnetkit.data.quarantine import read_quarantine
from resnetkit.doctor import examine, findings, quarantine_of, roster_of
from resnetkit.home import read_json


def natural(seed: int) -> Image.Image:
    rng = np.random.default_rng(seed)
    layers = [np.asarray(Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).resize((64, 64)), float)
              for size in (3, 6, 12)]  # fmt: skip
    mixed = sum(weight * layer for weight, layer in zip((0.5, 0.3, 0.2), layers, strict=True))
    return Image.fromarray(np.asarray(mixed).astype(np.uint8))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    root, number = tmp_path / "my photos", 0
    for place, count in (("train/ant", 8), ("train/bee", 8), ("val/ant", 3), ("val/bee", 3)):
        (root / place).mkdir(parents=True)
        for each in range(count):
            number += 1
            natural(number).save(root / place / f"é {each}.png")
    shutil.copy(root / "train/ant/é 0.png", root / "val/ant/copy.png")  # identical, across splits
    natural(2).resize((40, 40)).save(root / "val/ant/small.jpg")  # of train/ant/é 1
    shutil.copy(root / "train/ant/é 2.png", root / "train/bee/wrong.png")  # identical, in another class
    shutil.copy(root / "train/bee/é 3.png", root / "train/bee/again.png")  # a repeat
    (root / "train/bee/broken.jpg").write_bytes(b"no image")
    file = io.BytesIO()
    natural(77).save(file, "JPEG")
    (root / "val/bee/half.jpg").write_bytes(file.getvalue()[:900])
    (root / "train/bee/empty.png").touch()
    natural(78).convert("CMYK").save(root / "train/bee/print.jpg", "JPEG")
    natural(79).save(root / "train/bee/lies.png", "JPEG")
    (root / "train/bee/._x.jpg").write_bytes(b"mac")
    (root / "notes.docx").write_bytes(b"x")
    return root


WRONG = {
    "train/bee/broken.jpg": "unreadable",
    "val/bee/half.jpg": "truncated",
    "train/bee/empty.png": "empty",
    "train/ant/é 0.png": "identical across splits",
    "train/ant/é 1.png": "copy across splits",
    "train/ant/é 2.png": "identical in another class",
    "train/bee/wrong.png": "identical in another class",
}


def test_everything_wrong_is_found(photos: Path) -> None:
    roster = roster_of(photos)
    diagnosis = examine(roster)
    quarantine = quarantine_of(diagnosis)
    found = findings(diagnosis, quarantine)
    assert {row.path: row.reason for row in quarantine} == WRONG
    assert {row.path: row.because_of for row in quarantine}["train/ant/é 1.png"] == "val/ant/small.jpg"
    assert {problem: len(files) for problem, files in found["problems"].items()} == {
        "empty": 1, "truncated": 1, "unreadable": 1}  # fmt: skip
    assert found["oddities"]["CMYK"] == ["train/bee/print.jpg"]
    assert found["oddities"]["wrong ending"] == ["train/bee/lies.png"]
    assert found["foreign"] == ["notes.docx", "train/bee/._x.jpg"]
    assert len(found["copies"]) == 4 and found["suspects"] is None
    assert found["splits"] == {"train": 22, "val": 9} and found["imbalance"] == pytest.approx(14 / 8)
    groups = diagnosis.copy_groups()
    names = [roster.name(index) for index in range(len(roster.files))]
    assert groups[names.index("val/ant/copy.png")] == groups[names.index("train/ant/é 0.png")]


def test_the_command_writes_page_findings_and_list(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", str(photos)]) == 0
    printed = capsys.readouterr().out
    out = photos.parent / "my photos-doctor"
    assert sorted(file.name for file in out.iterdir()) == ["findings.json", "quarantine.csv", "report.html"]
    assert read_quarantine(out / "quarantine.csv") == WRONG
    page = (out / "report.html").read_text()
    for shown in ("identical", "train/bee/broken.jpg", "notes.docx", "data:image/jpeg;base64,"):
        assert shown in page
    assert "http" not in page.replace("http-equiv", "")
    assert "cannot be used: empty" in printed and f"quarantine list {out.name}/quarantine.csv: 7 photos" in printed
    assert main(["doctor", str(photos), "--json", "--out", "other"]) == 0
    assert json.loads(capsys.readouterr().out) == read_json(Path("other/findings.json"))


def test_the_list_is_obeyed_by_train_and_evaluate(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    few: list[str] = ["--set", "model=resnet4_tiny", "total_epochs=null", "total_steps=2", "batch_size=4",
                      "microbatch_size=4", "image_size=16", "view.crop_size=16", "view.resize_size=20"]  # fmt: skip
    asked = ["train", "resnet18_8xb32_in1k", "--data", str(photos), "--out", "run"]
    assert main([*asked, *few]) == 1 and "the image is damaged" in capsys.readouterr().err
    assert main(["doctor", str(photos), "--out", "found"]) == 0
    shutil.rmtree("run")
    assert main([*asked, "--quarantine", "found/quarantine.csv", "--max-steps", "1", *few]) == 0
    assert "7 of 31 photos are left out" in capsys.readouterr().err
    assert main(["train", "--resume", "--out", "run"]) == 0
    assert read_json(Path("run/recipe.json"))["quarantine"] == str(Path("found/quarantine.csv").resolve())
    capsys.readouterr()
    assert main(["evaluate", "run", "--data", str(photos), "--quarantine", "found/quarantine.csv", "--json"]) == 0
    out, error = capsys.readouterr()
    assert json.loads(out)["images"] == 8 and "photos are left out" in error
    assert main(["verify", "run"]) == 0, capsys.readouterr().out


def test_suspects_are_looked_for_with_a_model(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from resnetkit.recipes import load_recipe
    from resnetkit.train import train
    from tiny import RECIPE, tiny_dataset

    assert load_recipe("quickstart")
    train(RECIPE, tiny_dataset(), Path("net"), max_steps=None)
    assert main(["doctor", str(photos), "--model", "net", "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert isinstance(found["suspects"], list)
    for row in found["suspects"]:
        assert row["likely_prob"] > row["class_prob"] and row["class"] != row["likely"]
    assert main(["doctor", str(photos), "--model", "net", "--quarantine-suspects", "--out", "with"]) == 0
    listed = read_quarantine(Path("with/quarantine.csv"))
    assert {row["file"] for row in found["suspects"]} <= set(listed)


def test_what_cannot_be_examined_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "cifar10"]) == 2
    assert main(["doctor", str(tmp_path / "none")]) == 2
    assert main(["doctor", str(tmp_path), "--quarantine-suspects"]) == 2
    assert "expected --model" in capsys.readouterr().err


def test_copies_of_a_copy_are_left_out_too(photos: Path) -> None:
    for number in (1, 2):  # the training photo of which a copy is held out, twice more
        shutil.copy(photos / "train/ant/é 0.png", photos / f"train/ant/twin {number}.png")
    natural(3).resize((50, 50)).save(photos / "train/ant/third.png")  # of one that another class has, too
    reasons = {row.path: row.reason for row in quarantine_of(examine(roster_of(photos)))}
    twins = {f"train/ant/twin {number}.png": "identical across splits" for number in (1, 2)}
    assert reasons == WRONG | twins | {"train/ant/third.png": "copy in another class"}
