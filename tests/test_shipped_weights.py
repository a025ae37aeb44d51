"""The weights that come with the package: whole, described, and what they are said to be."""

from __future__ import annotations

import json
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from resnetkit import checkpoint, load_model
from resnetkit.checks import Machine
from resnetkit.classifier import open_classifier
from resnetkit.cli import main
from resnetkit.data.sources import kept_folder
from resnetkit.data.spec import DATASETS
from resnetkit.home import file_sha256, read_json
from resnetkit.models import find_architecture
from resnetkit.recipes import RECIPES, load_recipe
from resnetkit.shipped_weights import SHIPPED
from resnetkit.verify import verify
from resnetkit.zoo import ZOO

RESULTS = Path(__file__).parents[1] / "results"


def test_there_are_some_and_they_are_small() -> None:
    assert set(SHIPPED) >= {"resnet20"}
    assert sum(file.stat().st_size for file in SHIPPED.values()) < 6e6


@pytest.mark.parametrize("name", SHIPPED)
def test_each_says_what_it_is(name: str) -> None:
    loaded = load_model(name)
    about: dict[str, Any] = loaded.about
    assert loaded.model.arch == find_architecture(name)
    assert name in ZOO and about["recipe"] in RECIPES
    assert loaded.class_names == DATASETS["cifar10"].class_names
    assert loaded.assumptions == ()
    assert about["license"] == "apache-2.0"
    assert about["origin"]["command"].startswith(f"resnetkit train {about['recipe']}")
    assert 0.5 < about["temperature"]["value"] < 3
    figures = about["metrics"]["cifar10 test"]
    assert figures["images"] == 10_000 and figures["top1"] >= float(ZOO[name].top1 or 1)
    tensors, metadata = checkpoint.read_weights(SHIPPED[name])
    assert metadata and metadata["tensors_sha256"] == checkpoint.tensors_sha256(tensors)


@pytest.mark.parametrize("name", SHIPPED)
def test_its_commands_are_those_of_its_training(name: str) -> None:
    about: dict[str, Any] = load_model(name).about
    words = shlex.split(about["origin"]["command"])
    overrides = [word for before, word in pairwise(words) if before == "--set"]
    assert load_recipe(words[2], overrides).total_epochs == about["origin"]["epochs"]
    assert shlex.split(about["temperature"]["command"]) == [
        *words,
        "--set",
        f"val_images={about['temperature']['images']}",
    ]


@pytest.mark.parametrize("name", SHIPPED)
def test_they_are_what_the_results_are_of(name: str) -> None:
    assert read_json(RESULTS / f"shipped-{name}.json")["weights_sha256"] == file_sha256(SHIPPED[name])
    said, about = read_json(RESULTS / "shipped.json")["shipped"][name], load_model(name).about
    assert said["float"]["top1"] == about["metrics"]["cifar10 test"]["top1"]
    assert said["float"]["ece"] == about["metrics"]["cifar10 test"]["ece"]
    assert said["float"]["temperature"] == about["temperature"]["value"]


@pytest.mark.parametrize("name", SHIPPED)
def test_a_folder_of_the_same_name_is_meant_before_them(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert "recipe" in open_classifier(name).origin
    Path(name).mkdir()
    with pytest.raises(Exception, match="neither a run directory"):
        open_classifier(name)


def test_predict_needs_nothing_but_the_package(capsys: pytest.CaptureFixture[str], tmp_path: Path,
                                               monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    from PIL import Image

    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "empty"))
    Image.new("RGB", (48, 40), "skyblue").save(tmp_path / "sky.png")
    assert main(["predict", "resnet20", str(tmp_path / "sky.png"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["predictions"][0]["class"] in DATASETS["cifar10"].class_names
    assert not (tmp_path / "empty").exists()


def test_they_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["zoo", "--published", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    for name in SHIPPED:
        assert rows[name]["url"] == f"package:{name}.safetensors"
        assert rows[name]["top1"] == load_model(name).about["metrics"]["cifar10 test"]["top1"]


@pytest.mark.parametrize("name", SHIPPED)
def test_verify_finds_all_of_it_again(name: str) -> None:
    if not kept_folder("cifar10").is_dir():
        pytest.skip("CIFAR-10 is not on this machine")
    checks = verify(name, Machine())
    assert [check.what for check in checks if check.passed is False] == []
    assert {"top1", "loss", "ece", "tensors sha256"} <= {check.what for check in checks if check.passed}


@pytest.mark.parametrize("name", SHIPPED)
def test_show_tells_of_them(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", name]) == 0
    text = capsys.readouterr().out
    assert f"resnetkit predict {name} IMAGE" in text and "license      apache-2.0" in text
    assert main(["show", name, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["comes_with"]
    assert said["temperature"] == load_model(name).about["temperature"]
    assert main(["zoo"]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.split()[1:2] == [name])
    assert "with the package" in row
