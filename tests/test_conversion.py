"""Conversion: every layout and back bit for bit, checked on images, whole or not at all."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from resnetkit import checkpoint, conversion
from resnetkit.conversion import convert
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadImage, BadRequest, WeightsError
from resnetkit.layouts.tables import TARGETS
from resnetkit.models import MODELS, Architecture, ResNet
from resnetkit.torch_format import read_torch_file
from resnetkit.weights_file import WeightsFile, metadata_of, read_weights_file

NAMES = ("ant", "bee", "cow")
SMALL = Preprocess(40, np.array([0.1, 0.2, 0.3], np.float32), np.array([0.4, 0.5, 0.6], np.float32), 44)
ABOUT: dict[str, Any] = {
    "recipe": "some_recipe", "data": {"name": "d", "sha256": "0" * 64}, "license": "mit", "origin": None,
    "temperature": None,
    "metrics": {"d test": {"images": 100, "top1": 0.5, "top5": 0.9, "loss": 1.0}},
}  # fmt: skip
FULL = replace(MODELS["resnet18"], num_classes=3)  # what all layouts can hold
ENDINGS = {
    "torchvision": ".pth",
    "timm": ".safetensors",
    "openmmlab": ".pth",
    "huggingface": "",
    "resnetkit": ".safetensors",
}


def own(path: Path, arch: Architecture, dtype: torch.dtype = torch.float32, preprocess: Preprocess = SMALL) -> Path:
    """Write a file of ours with drawn weights, its norms and counters too."""
    torch.manual_seed(1)
    tensors = ResNet(arch).state_dict()
    for value in tensors.values():
        if not value.is_floating_point():
            value.fill_(1234)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.5)
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in tensors.items()}
    checkpoint.save_weights(path, cast, metadata_of(arch, preprocess, NAMES[: arch.num_classes], ABOUT))
    return path


def same(a: WeightsFile, b: WeightsFile) -> bool:
    assert set(a.tensors) == set(b.tensors)
    return all(torch.equal(value, b.tensors[name]) and value.dtype == b.tensors[name].dtype
               for name, value in a.tensors.items())  # fmt: skip


def test_through_every_layout_and_back(tmp_path: Path) -> None:
    first = last = own(tmp_path / "first.safetensors", FULL, torch.float16)
    visited = [*TARGETS, *TARGETS[::-1]]
    for number, target in enumerate(visited):
        out = tmp_path / f"{number}{ENDINGS[target]}"
        done = convert(last, out, target)
        assert (done.target, done.tensors, done.largest_difference, done.images) == (target, 122, 0.0, 8)
        assert same(read_weights_file(first), read_weights_file(out))
        last = out
    assert len(visited) == 10
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("resnetv1c50", "openmmlab"), ("resnetv1d50", "openmmlab"), ("resnetv1c50", "timm"), ("resnetv1d50", "timm"),
        ("resnet50_caffe", "openmmlab"), ("resnet50_caffe", "huggingface"), ("resnet18_cifar", "openmmlab"),
    ],
)  # fmt: skip
def test_stems_shortcut_indices_and_styles_there_and_back(name: str, target: str, tmp_path: Path) -> None:
    arch = replace(MODELS[name], num_classes=3)
    if target != "openmmlab":  # which knows whole depths only
        arch = replace(arch, depths=(1, 1, 1, 1))
    first = own(tmp_path / "first.safetensors", arch)
    there, back = tmp_path / f"there{'' if target == 'huggingface' else '.pth'}", tmp_path / "back.safetensors"
    convert(first, there, target)
    convert(there, back, "resnetkit", stride_style=None if target == "huggingface" else arch.stride_style)
    assert read_weights_file(back).arch == arch
    assert same(read_weights_file(first), read_weights_file(back))


def test_our_own_description_goes_along(tmp_path: Path) -> None:
    first = own(tmp_path / "first.safetensors", FULL)
    convert(first, tmp_path / "copy.safetensors", "resnetkit", license="apache-2.0")
    copy = read_weights_file(tmp_path / "copy.safetensors")
    assert copy.about == ABOUT | {"license": "apache-2.0"}
    assert (copy.class_names, copy.preprocess.to_json()) == (NAMES, SMALL.to_json())


def test_transformers_keep_names_and_preprocessing(tmp_path: Path) -> None:
    done = convert(own(tmp_path / "first.safetensors", FULL), tmp_path / "hf", "huggingface")
    assert [path.name for path in done.files] == ["model.safetensors", "config.json", "preprocessor_config.json"]
    assert all(path.is_file() for path in done.files)
    assert done.notes == ()
    found = read_weights_file(tmp_path / "hf")
    assert (found.class_names, found.preprocess.to_json(), found.assumptions) == (NAMES, SMALL.to_json(), ())


@pytest.mark.parametrize("change", [{"family": "cv2-bilinear"}, {"mean": np.zeros((40, 40, 3), np.float32)}])
def test_a_preprocessing_that_transformers_have_not_is_said(change: dict[str, Any], tmp_path: Path) -> None:
    first = own(tmp_path / "first.safetensors", FULL, preprocess=replace(SMALL, **change))
    done = convert(first, tmp_path / "hf", "huggingface")
    assert [path.name for path in done.files] == ["model.safetensors", "config.json"]
    assert "preprocessing is not kept: no image processor of transformers" in done.notes[0]


def test_openmmlabs_file_is_as_theirs(tmp_path: Path) -> None:
    convert(own(tmp_path / "first.safetensors", FULL), tmp_path / "om.pth", "openmmlab")
    content = read_torch_file(tmp_path / "om.pth").content
    assert content["meta"] == {"CLASSES": list(NAMES), "dataset_meta": {"classes": list(NAMES)}}
    names = list(content["state_dict"])
    assert (names[:2], names[-1]) == (["backbone.conv1.weight", "backbone.bn1.weight"], "head.fc.bias")  # in order
    assert content["meta"].keys() | content.keys() == {"meta", "state_dict", "CLASSES", "dataset_meta"}


def test_what_a_layout_loses_is_said(tmp_path: Path) -> None:
    first = own(tmp_path / "first.safetensors", FULL)
    assert convert(first, tmp_path / "tv.pth", "torchvision").notes == (
        "class names are not kept", "preprocessing is not kept",
    )  # fmt: skip
    caffe = own(tmp_path / "caffe.safetensors", replace(MODELS["resnet50_caffe"], num_classes=3))
    notes = convert(caffe, tmp_path / "caffe.pth", "openmmlab").notes
    assert "the stride style is not kept: build the net with style='caffe'" in notes


def test_a_foreign_file_with_what_it_records_and_what_was_assumed(tmp_path: Path) -> None:
    tensors = {name: value for name, value in ResNet(FULL).state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": tensors, "best_top1": 92.54, "optimizer": {}}, tmp_path / "old.pth")
    done = convert(tmp_path / "old.pth", tmp_path / "own.safetensors", "resnetkit", std=(0.1, 0.2, 0.3))
    assert done.notes == ("left aside: optimizer",)
    assert done.assumptions == ("mean 0.485 0.456 0.406, the file names none (--mean)",)
    origin = read_weights_file(tmp_path / "own.safetensors").about["origin"]
    assert origin["recorded"] == {"best_top1": 92.54}
    assert (origin["file"], origin["layout"], origin["container"]) == ("old.pth", "torchvision", "torch zip")
    done = convert(tmp_path / "old.pth", tmp_path / "hf", "huggingface", class_names=NAMES)
    assert done.notes[-1] == "20 counters of batches are added as 0: the source has none"
    written = read_weights_file(tmp_path / "hf")
    assert written.class_names == NAMES
    assert [value.item() for name, value in written.tensors.items() if "num_batches" in name] == [0] * 20


def test_logits_are_compared_on_the_images_named(tmp_path: Path) -> None:
    first = own(tmp_path / "first.safetensors", FULL)
    for number in range(3):
        Image.new("RGB", (50, 60), (number, 100, 200)).save(tmp_path / f"{number}.png")
    done = convert(first, tmp_path / "tv.pth", "torchvision", images=[tmp_path / f"{n}.png" for n in range(3)])
    assert (done.images, done.images_from) == (3, "named")
    (tmp_path / "bad.png").write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"bad\.png"):
        convert(first, tmp_path / "other.pth", "torchvision", images=[tmp_path / "bad.png"])
    assert not (tmp_path / "other.pth").exists()


@pytest.mark.parametrize("what", ["weights", "net", "a counter, which no logit shows"])
def test_a_conversion_that_changes_anything_writes_nothing(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = own(tmp_path / "first.safetensors", FULL)
    honest = conversion.read_back

    def changed(*given: Any) -> WeightsFile:
        file = honest(*given)
        if what == "net":
            return replace(file, arch=replace(file.arch, shortcut="plain"), tensors=without_shortcuts(file))
        name = "layer3.0.bn1.bias" if what == "weights" else "layer3.0.bn1.num_batches_tracked"
        file.tensors[name].add_(1e-6 if what == "weights" else 1)
        return file

    monkeypatch.setattr(conversion, "read_back", changed)
    for target in ("torchvision", "huggingface"):
        out = tmp_path / f"{target}{ENDINGS[target]}"
        with pytest.raises(WeightsError, match="the conversion changed the net; nothing was written"):
            convert(first, out, target)
        assert sorted(path.name for path in tmp_path.iterdir()) == ["first.safetensors"]


def without_shortcuts(file: WeightsFile) -> dict[str, torch.Tensor]:
    return {name: value for name, value in file.tensors.items() if ".downsample." not in name}


def test_nan_compares_with_nothing(tmp_path: Path) -> None:
    tensors = ResNet(FULL).state_dict()
    tensors["fc.bias"][0] = torch.nan
    torch.save(tensors, tmp_path / "nan.pth")
    with pytest.raises(WeightsError, match="nan or infinite weights") as caught:
        convert(tmp_path / "nan.pth", tmp_path / "out.safetensors", "resnetkit")
    assert caught.value.details == ("got them in fc.bias",)


def test_large_images_are_compared_small(tmp_path: Path) -> None:
    large = own(
        tmp_path / "large.safetensors",
        replace(MODELS["resnet4_tiny"], num_classes=3),
        preprocess=replace(SMALL, image_size=4096, resize_size=None),
    )
    drawn = conversion.read_images(None, read_weights_file(large))
    assert drawn.shape == (8, 512, 512, 3)
    link = tmp_path / "link.pth"
    link.symlink_to(tmp_path / "nothing")
    with pytest.raises(BadRequest, match="exists already"):
        convert(large, link, "openmmlab")


def test_a_bad_request_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    first = own(tmp_path / "first.safetensors", replace(MODELS["resnet4_tiny"], num_classes=3))
    there = tmp_path / "there.pth"
    there.write_bytes(b"mine")
    wrong: list[tuple[Path, str, str]] = [
        (tmp_path / "a.pth", "torchvison", "did you mean 'torchvision'?"),
        (tmp_path / "a.safetensors", "openmmlab", "expected a name that ends in .pth for openmmlab"),
        (tmp_path / "a.pth", "resnetkit", "expected a name that ends in .safetensors"),
        (tmp_path / "a.pth", "huggingface", "expected the name of a folder"),
        (there, "torchvision", "exists already"),
        (tmp_path / "nowhere" / "a.pth", "torchvision", "no such folder"),
        (tmp_path / "a.pth", "torchvision", "torchvision cannot express this net"),
    ]
    for out, to, said in wrong:
        with pytest.raises(BadRequest) as caught:
            convert(first, out, to)
        assert said in str(caught.value)
    assert there.read_bytes() == b"mine"
    assert len(list(tmp_path.iterdir())) == 2


def test_a_disk_that_is_full_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = own(tmp_path / "first.safetensors", FULL)

    def full(*given: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("resnetkit.home.os.fsync", full)
    for target in TARGETS:
        with pytest.raises(OSError, match="No space left") as caught:
            convert(first, tmp_path / f"{target}{ENDINGS[target]}", target)
        assert caught.value.filename == str(tmp_path / f"{target}{ENDINGS[target]}")
    assert [path.name for path in tmp_path.iterdir()] == ["first.safetensors"]


def test_equal_weights_give_equal_files(tmp_path: Path) -> None:
    first = own(tmp_path / "first.safetensors", FULL)
    for target in ("openmmlab", "resnetkit"):
        outs = [tmp_path / f"{number}-{target}{ENDINGS[target]}" for number in range(2)]
        assert len({convert(first, out, target).files[0].read_bytes() for out in outs}) == 1
    assert asdict(read_weights_file(tmp_path / "0-resnetkit.safetensors").arch) == asdict(FULL)
