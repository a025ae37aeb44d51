"""The commands that take weights of any layout: show, convert, evaluate, predict, train --init-from."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit import checkpoint, conversion
from resnetkit.arguments import build_parser
from resnetkit.classifier import classifier_of
from resnetkit.cli import main
from resnetkit.data import imagenet
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.transforms import Preprocess
from resnetkit.fitting import fitting
from resnetkit.layouts.tables import TARGETS
from resnetkit.load import load_model
from resnetkit.models import MODELS, Architecture, ResNet, find_architecture
from resnetkit.weights_file import ABOUT, metadata_of, read_weights_file

TINY = replace(MODELS["resnet4_tiny"], num_classes=3)
FULL = replace(MODELS["resnet18"], num_classes=3)
PREPROCESS = Preprocess(16, np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), 16)
Say = Callable[..., str]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str]) -> Say:
    """Run a command that must end with `code`, and return what it printed."""

    def run(*words: object, code: int = 0) -> str:
        assert main([str(word) for word in words]) == code
        out = capsys.readouterr()
        return out.err if code else out.out

    return run


def foreign(path: Path, arch: Architecture, **more: Any) -> Path:
    torch.manual_seed(0)
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in ResNet(arch).state_dict().items()}, **more}, path
    )
    return path


def own(path: Path, arch: Architecture, names: tuple[str, ...]) -> Path:
    torch.manual_seed(0)
    about = ABOUT | {"recipe": "some_recipe", "metrics": {"d test": {"images": 10, "top1": 0.5}}}
    checkpoint.save_weights(path, ResNet(arch).state_dict(), metadata_of(arch, PREPROCESS, names, about))
    return path


def test_show_says_all_of_a_foreign_file(tmp_path: Path, say: Say) -> None:
    path = foreign(tmp_path / "w.pth", FULL, epoch=7, best_top1=92.5, optimizer={})
    text = say("show", path)
    for part in ("torch zip, sha256", "torchvision", "resnet18: basic 2-2-2-2, stem 7x7, shortcuts B",
                 "all 122 tensors", "float32, 11,178,051 parameters", "3: class 0, class 1, class 2",
                 "epoch 7, best_top1 92.5",
                 "note: left aside: optimizer", "assumed: mean 0.485 0.456 0.406"):  # fmt: skip
        assert part in text
    facts = json.loads(say("show", path, "--json"))
    assert (facts["layout"], facts["tensors_used"], facts["parameters"]) == ("torchvision", 122, 11_178_051)
    assert facts["recorded"] == {"epoch": 7, "best_top1": 92.5}
    assert facts["not_finite"] == []
    assert facts["architecture"]["depths"] == [2, 2, 2, 2]


def test_show_says_all_of_our_file_and_of_a_run(tmp_path: Path, say: Say) -> None:
    text = say("show", own(tmp_path / "w.safetensors", TINY, ("a", "b", "c")))
    for part in ("safetensors, sha256", "resnetkit", "3: a, b, c", "recipe       some_recipe", "images 10, top1 0.5",
                 "short side to 16 (pillow-bilinear), centre crop of 16, minus 0.5 0.5 0.5, by 0.25 0.25 0.25",
                 ):  # fmt: skip
        assert part in text
    assert "assumed" not in text


def test_show_names_numbers_that_are_none(tmp_path: Path, say: Say) -> None:
    tensors = ResNet(TINY).state_dict()
    tensors["layer1.0.bn2.bias"][0] = torch.inf
    torch.save(tensors, tmp_path / "w.pth")
    assert "warning: layer1.0.bn2.bias has values that are nan or infinite" in say("show", tmp_path / "w.pth")


def test_the_values_have_one_hash_in_every_layout(tmp_path: Path, say: Say) -> None:
    path = foreign(tmp_path / "w.pth", FULL)
    say("convert", path, tmp_path / "om.pth", "--to", "openmmlab")
    say("convert", path, tmp_path / "hf", "--to", "huggingface")
    shown = [json.loads(say("show", each, "--json")) for each in (path, tmp_path / "om.pth", tmp_path / "hf")]
    assert len({facts["tensors_sha256"] for facts in shown}) == 1
    assert len({facts["sha256"] for facts in shown}) == 3


def test_convert_prints_what_it_checked(tmp_path: Path, say: Say) -> None:
    path = foreign(tmp_path / "w.pth", FULL)
    text = say("convert", path, tmp_path / "om.pth", "--to", "openmmlab")
    assert f"{path}: resnet18, torchvision layout, all 122 tensors used" in text
    assert "logits before and after on 8 generated images: largest difference 0.0; every tensor is equal" in text
    assert f"wrote {tmp_path / 'om.pth'}" in text
    Image.new("RGB", (30, 40), (9, 99, 199)).save(tmp_path / "a.png")
    words = ["convert", path, tmp_path / "own.safetensors", "--to", "resnetkit", "--images", tmp_path / "a.png"]
    told = json.loads(say(*words, "--license", "mit", "--json"))
    assert (told["images"], told["images_from"], told["largest_difference"]) == (1, "named", 0.0)
    assert read_weights_file(tmp_path / "own.safetensors").about["license"] == "mit"


def test_names_and_constants_given_are_kept(tmp_path: Path, say: Say) -> None:
    path = foreign(tmp_path / "w.pth", TINY)
    (tmp_path / "names.txt").write_text("ant\nbee\ncow\n")
    say("convert", path, tmp_path / "own.safetensors", "--to", "resnetkit", "--class-names", tmp_path / "names.txt",
        "--mean", 0.1, 0.2, 0.3)  # fmt: skip
    file = read_weights_file(tmp_path / "own.safetensors")
    assert file.class_names == ("ant", "bee", "cow")
    assert file.preprocess.mean.tolist() == pytest.approx([0.1, 0.2, 0.3])
    refusal = say("convert", path, tmp_path / "x.safetensors", "--to", "resnetkit", "--class-names", "cifar10", code=2)
    assert "--class-names: expected 3 names, got 10" in refusal


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["show", "w.pth", "--forecast"], "expected a recipe, got w.pth"),
        (["show", "quickstart", "--raw"], "expected a foreign weights file, got quickstart"),
        (["show", "nowhere.pth"], "no recipe, net or weights file is named 'nowhere.pth'"),
        (["show", "w.pth", "--raw"], "one copy of the weights only"),
        (["show", "empty"], "neither a run directory nor a model's folder"),
        (["convert", "w.pth", "x.pth", "--to", "timm"], "timm cannot express this net"),
        (["convert", "w.pth", "w.pth", "--to", "openmmlab"], "w.pth exists already"),
        (["convert", "w.pth", "x.pth", "--to", "caffe"], "expected one of torchvision, openmmlab, timm"),
        (["convert", "w.pth", "x", "--to", "resnetkit", "--images", "nothing.png"], "no such file or folder"),
        (["convert", "nowhere.pth", "x.pth", "--to", "timm"], "no model 'nowhere.pth'"),
        (["evaluate", "w.pth", "--class-names", "none.txt"], "'none.txt' is no file"),
    ],
)
def test_refusals(words: list[str], said: str, tmp_path: Path, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    foreign(tmp_path / "w.pth", TINY)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    refusal = say(*words, code=1 if "--raw" in words and "w.pth" in words else 2)
    assert said in refusal
    assert sorted(each.name for each in tmp_path.iterdir()) == ["empty", "w.pth"]


# folders of photos are matched by name

COLOURS = {"red": (220, 30, 30), "green": (30, 220, 30), "blue": (30, 30, 220)}


def photos(folder: Path, classes: dict[str, str], count: int = 2) -> Path:
    """Write `count` photos a class; `classes` says which colour each folder has."""
    for name, colour in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", (16, 16), COLOURS[colour]).save(folder / name / f"{number}.png")
    return folder


def seer(path: Path, names: tuple[str, ...], places: dict[str, int]) -> Path:
    """Write a net that knows colours: `places` is the class of each, of as many as there are names."""
    arch = replace(TINY, num_classes=len(names))
    model = ResNet(arch)
    for value in model.state_dict().values():
        value.zero_()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.fill_(1)
            module.running_var.fill_(1)  # type: ignore[union-attr]
    for channel, colour in enumerate(COLOURS):
        model.state_dict()["conv1.weight"][channel, channel, 1, 1] = 1
        model.fc.weight.data[places[colour], channel] = 1
    checkpoint.save_weights(path, model.state_dict(), metadata_of(arch, PREPROCESS, names, ABOUT))
    return path


def test_some_of_the_classes_in_another_order_are_matched_by_name(tmp_path: Path, say: Say) -> None:
    path = seer(tmp_path / "w.safetensors", ("sky", "leaf", "none", "rose"), {"red": 3, "green": 1, "blue": 0})
    data = photos(tmp_path / "data", {"leaf": "green", "rose": "red", "sky": "blue"})
    told = json.loads(say("evaluate", path, "--data", data, "--json"))
    assert (told["images"], told["correct"]) == (6, 6)
    assert [(row["class"], row["images"]) for row in told["classes"]] == [
        ("sky", 2),
        ("leaf", 2),
        ("none", 0),
        ("rose", 2),
    ]
    only = photos(tmp_path / "only", {"sky": "blue"})
    assert json.loads(say("evaluate", path, "--data", only, "--json"))["correct"] == 2


def test_as_many_folders_of_other_names_are_never_matched_by_place(tmp_path: Path, say: Say) -> None:
    path = seer(tmp_path / "w.safetensors", ("sky", "leaf", "rose"), {"red": 2, "green": 1, "blue": 0})
    data = photos(tmp_path / "data", {"a": "blue", "b": "green", "c": "red"})
    refusal = say("evaluate", path, "--data", data, code=2)
    assert "folders that are no class of it: a, b, c; its classes: sky, leaf, rose" in refusal
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    told = json.loads(say("evaluate", path, "--data", data, "--class-names", tmp_path / "names.txt", "--json"))
    assert told["correct"] == 6


def test_where_the_weights_name_no_classes_the_order_is_taken_and_said(tmp_path: Path, say: Say) -> None:
    names = tuple(f"class {number}" for number in range(3))
    path = seer(tmp_path / "w.safetensors", names, {"red": 2, "green": 1, "blue": 0})
    data = photos(tmp_path / "data", {"a": "blue", "b": "green", "c": "red"})
    told = json.loads(say("evaluate", path, "--data", data, "--json"))
    assert told["correct"] == 6
    assert told["assumed"] == ["class folders in the order of their names, the weights name no classes (--class-names)"]
    assert "it has 3 classes, the data 2" in say(
        "evaluate", path, "--data", photos(tmp_path / "few", {"a": "red", "b": "red"}), code=2
    )


def test_folders_of_synsets_are_matched_with_imagenets_classes(tmp_path: Path, say: Say) -> None:
    places = {"red": 517, "green": 639, "blue": 134}  # both cranes, a maillot
    path = seer(tmp_path / "w.safetensors", imagenet.names(), places)
    synsets = {imagenet.synsets()[place]: colour for colour, place in places.items()}
    told = json.loads(say("evaluate", path, "--data", photos(tmp_path / "data", synsets), "--json"))
    assert (told["images"], told["correct"]) == (6, 6)
    refusal = say("evaluate", path, "--data", photos(tmp_path / "names", {"crane": "red", "goldfish": "blue"}), code=2)
    assert "folders whose name several of its classes have: crane" in refusal


def test_training_starts_from_any_layout_but_the_head(tmp_path: Path, say: Say) -> None:
    data = photos(tmp_path / "data" / "train", {"a": "red", "b": "blue"}, 8).parent
    photos(data / "val", {"a": "red", "b": "blue"})
    start = foreign(tmp_path / "start.pth", replace(MODELS["resnet18"], depths=(1, 1, 1, 1), num_classes=7))
    words = [
        "train",
        "resnet18_8xb32_in1k",
        "--data",
        data,
        "--out",
        tmp_path / "run",
        "--max-steps",
        1,
        "--init-from",
        start,
    ]
    small = ["--set", "model=resnet8_b", "image_size=16", "batch_size=8", "microbatch_size=8"]
    refusal = say(*words, *small, code=1)
    assert str(start) in refusal and "the weights do not fit the architecture" in refusal and "unexpected: " in refusal
    assert not (tmp_path / "run").exists()
    torch.save(
        {"backbone." + key: value for key, value in ResNet(small_net()).state_dict().items() if "fc" not in key}, start
    )
    out = say(*words, *small)
    assert f"starts from {start}: every tensor but the head, fc, which is new" in out
    events = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len(events[0]["init_sha256"]) == 64
    started = checkpoint.load_state(tmp_path / "run")
    assert started is not None
    for state in (tmp_path / "run" / "state").glob("step-*"):  # killed before it saved: it starts again, from the same
        shutil.rmtree(state)
    say("train", "--resume", "--out", tmp_path / "run", "--max-steps", 1)
    again = checkpoint.load_state(tmp_path / "run")
    assert again is not None
    assert all(torch.equal(value, again.tensors[name]) for name, value in started.tensors.items())
    start.unlink()  # a run that goes on does not need what it started from
    say("train", "--resume", "--out", tmp_path / "run", "--max-steps", 2)


def small_net() -> Architecture:
    return replace(find_architecture("resnet8_b"), num_classes=5)


def test_the_command_line_knows_every_layout() -> None:
    for target in TARGETS:
        assert build_parser().parse_args(["convert", "a", "b", "--to", target]).to == target


def test_all_of_imagenet_is_in_its_order_though_two_classes_share_a_name(tmp_path: Path) -> None:
    """`crane` and `maillot` are two classes each: an order found by names would give both pictures one label."""
    long_names = tuple(f"{name.replace('_', ' ')}, another" for name in imagenet.names())
    for names in (imagenet.names(), long_names):
        loaded = load_model(saved_net(tmp_path / f"{names[0]}.safetensors", names))
        split = PhotoSplit(tmp_path, np.array([b"a", b"b"]), np.array([134, 517]))
        found, matched = fitting(classifier_of(loaded), split, imagenet.names(), "imagenet")
        assert found.labels.tolist() == [134, 517]
        assert matched is None


def saved_net(path: Path, names: tuple[str, ...]) -> Path:
    arch = replace(TINY, num_classes=len(names))
    checkpoint.save_weights(path, ResNet(arch).state_dict(), metadata_of(arch, PREPROCESS, names, ABOUT))
    return path


def test_sigterm_in_a_conversion_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(ResNet(MODELS["resnet18_cifar"]).state_dict(), tmp_path / "w.pth")

    def compare(*_: object) -> float:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0.0

    monkeypatch.setattr(conversion, "compare", compare)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["convert", str(tmp_path / "w.pth"), str(tmp_path / "out.pth"), "--to", "openmmlab"]) == 143
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [path.name for path in tmp_path.iterdir()] == ["w.pth"]
    assert "nothing was left half-written" in capsys.readouterr().err
