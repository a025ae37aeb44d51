"""What a weights file says of itself: ours, a foreign file, a folder of transformers or timm."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from resnetkit import checkpoint
from resnetkit.data import imagenet
from resnetkit.data.transforms import Preprocess
from resnetkit.errors import BadRequest, DamagedFile, WeightsError
from resnetkit.layouts.tables import HUGGINGFACE, openmmlab_rows, to_theirs
from resnetkit.models import MODELS, ResNet
from resnetkit.weights_file import are_placeholders, metadata_of, read_tensors, read_weights_file

TINY = replace(MODELS["resnet4_tiny"], num_classes=3)
PLAIN = Preprocess(16, np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32), 20)
NET = replace(MODELS["resnet50"], depths=(1, 1), widths=(4, 8), stem_width=6, num_classes=3)
ABOUT = {
    "recipe": "r",
    "data": {"name": "d", "sha256": "0"},
    "metrics": {},
    "license": "mit",
    "origin": None,
    "temperature": None,
}


def tensors_of(arch: Any) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return dict(ResNet(arch).state_dict())


def saved(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_our_own_file_says_everything(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    sha256 = checkpoint.save_weights(path, tensors_of(TINY), metadata_of(TINY, PLAIN, ("a", "b", "c"), ABOUT))
    file = read_weights_file(path)
    assert (file.container, file.layout, file.sha256) == ("safetensors", "resnetkit", sha256)
    assert (file.arch, file.class_names, file.about) == (TINY, ("a", "b", "c"), ABOUT)
    assert file.preprocess.to_json() == PLAIN.to_json()
    assert file.assumptions == file.notes == ()
    assert file.origin() == f"{path}: resnet4_tiny, recipe r, all 20 tensors used"


WRONG_OWN: dict[str, tuple[dict[str, Any], str]] = {
    "names": ({"class_names": ["a"]}, "got 1 class names for 3 classes"),
    "net": ({"architecture": asdict(replace(TINY, depths=(2,)))}, "missing: layer1.1.conv1.weight"),
    "blocks without end": ({"architecture": asdict(replace(TINY, depths=(10**9,)))}, "got 20 tensors"),
    "channels without end": ({"architecture": asdict(replace(TINY, widths=(2**62,)))}, ""),
    "a picture of a terabyte": (
        {"preprocess": PLAIN.to_json() | {"image_size": 10**6, "resize_size": None}},
        "image sizes",
    ),
    "a mean of other channels": ({"preprocess": PLAIN.to_json() | {"mean": [0.5]}}, "mean (1,) and std (3,)"),
    "a std of zero": ({"preprocess": PLAIN.to_json() | {"std": [1, 0, 1]}}, "std 0"),
    "a mean that is none": ({"preprocess": PLAIN.to_json() | {"mean": [float("nan")] * 3}}, "no number"),
    "names that move the cursor": ({"class_names": ["a", "b", "\x1b[2J"]}, "cannot be printed"),
    "metrics of another kind": ({"metrics": [1]}, "metrics: list"),
    "a metric of another kind": ({"metrics": {"a": 1}}, "metrics: dict"),
    "a temperature of zero": ({"temperature": {"value": 0}}, "temperature {'value': 0}"),
    "a temperature below zero": ({"temperature": {"value": -1.0}}, "temperature {'value': -1.0}"),
    "a temperature that is none": ({"temperature": {"value": float("nan")}}, "temperature {'value': nan}"),
    "a temperature without end": ({"temperature": {"value": float("inf")}}, "temperature {'value': inf}"),
    "a temperature without its value": ({"temperature": {"images": 5}}, "temperature {'images': 5}"),
    "a temperature near to zero": ({"temperature": {"value": 1e-300}}, "temperature"),
    "a temperature in words": ({"temperature": {"value": "warm"}}, "warm"),
    "a temperature of another kind": ({"temperature": 3}, "temperature: int"),
    "a licence of another kind": ({"license": 3}, "license: int"),
    "an unknown stem": ({"architecture": asdict(TINY) | {"stem": "5x5"}}, "stem '5x5'"),
    "an unknown block": ({"architecture": asdict(TINY) | {"block": ["basic"]}}, "block"),
    "no net": ({"architecture": {"block": "basic"}}, "TypeError"),
    "no object": ({"architecture": []}, ""),
}


@pytest.mark.parametrize("what", WRONG_OWN)
def test_our_own_file_that_is_not_sound_is_refused(what: str, tmp_path: Path) -> None:
    change, said = WRONG_OWN[what]
    path = tmp_path / "own.safetensors"
    metadata = metadata_of(TINY, PLAIN, ("a", "b", "c"), ABOUT) | change
    checkpoint.save_weights(path, tensors_of(TINY), metadata)
    with pytest.raises(WeightsError) as caught:
        read_weights_file(path)
    assert str(path) in str(caught.value) and said in str(caught.value)


@pytest.mark.parametrize(("flags", "said"), [
    ({"plain": True}, "--plain"), ({"stride_style": "caffe"}, "--stride-style"), ({"raw": True}, "--raw"),
])  # fmt: skip
def test_flags_for_foreign_files_do_not_change_ours(flags: dict[str, Any], said: str, tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    checkpoint.save_weights(path, tensors_of(TINY), metadata_of(TINY, PLAIN, ("a", "b", "c"), ABOUT))
    with pytest.raises(BadRequest, match=said):
        read_weights_file(path, **flags)


def test_a_foreign_file_with_names_and_one_with_too_many(tmp_path: Path) -> None:
    tensors = {("head." if key[:2] == "fc" else "backbone.") + key: value for key, value in tensors_of(TINY).items()}
    content = {"meta": {"CLASSES": ["a", "b", "c"], "epoch": 3}, "state_dict": tensors, "optimizer": {}}
    file = read_weights_file(saved(content, tmp_path / "om.pth"))
    assert (file.container, file.layout, file.class_names) == ("torch zip", "openmmlab", ("a", "b", "c"))
    assert file.recorded == {"epoch": 3}
    assert file.notes == ("left aside: optimizer",)
    assert file.about["origin"] == {
        "file": "om.pth", "sha256": file.sha256, "layout": "openmmlab", "container": "torch zip", "url": None,
    }  # fmt: skip
    content["meta"]["CLASSES"] = ["a", "b", "c\x1b[2J"]  # type: ignore[index]
    file = read_weights_file(saved(content, tmp_path / "om.pth"))
    assert are_placeholders(file.class_names)
    assert "its class names are not used: they cannot be printed" in file.notes
    content["meta"]["CLASSES"] = ["a", "b"]  # type: ignore[index]
    file = read_weights_file(saved(content, tmp_path / "om.pth"))
    assert are_placeholders(file.class_names)
    assert "its 2 class names are not used: the net has 3 classes" in file.notes


def test_a_thousand_classes_are_said_to_be_taken_for_imagenets(tmp_path: Path) -> None:
    file = read_weights_file(saved(tensors_of(replace(TINY, num_classes=1000)), tmp_path / "w.pth"))
    assert file.class_names == imagenet.names()
    assert file.assumptions[-1] == "the class names of ImageNet, the file has none (--class-names)"
    assert not any(
        "class names" in each for each in read_weights_file(saved(tensors_of(TINY), tmp_path / "v.pth")).assumptions
    )


# folders

CONFIG = {
    "model_type": "resnet", "depths": [1, 1], "hidden_sizes": [16, 32], "embedding_size": 6, "layer_type": "bottleneck",
    "hidden_act": "relu", "id2label": {"0": "a", "2": "c", "1": "b"}, "transformers_version": "4.18.0.dev0",
}  # fmt: skip
CONVNEXT = {
    "feature_extractor_type": "ConvNextFeatureExtractor", "crop_pct": 0.875, "do_resize": True, "size": 224,
    "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6], "resample": 3,
}  # fmt: skip
BIT = {
    "image_processor_type": "BitImageProcessor", "size": {"shortest_edge": 40}, "do_center_crop": True, "resample": 2,
    "crop_size": {"height": 32, "width": 32}, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.4, 0.5, 0.6],
}  # fmt: skip
TIMM = {
    "architecture": "resnet50", "num_classes": 3, "label_names": ["a", "b", "c"],
    "pretrained_cfg": {"input_size": [3, 176, 176], "test_input_size": [3, 224, 224], "interpolation": "bicubic",
                       "crop_pct": 0.9, "test_crop_pct": 0.95, "crop_mode": "center", "mean": [0.1, 0.2, 0.3],
                       "std": [0.4, 0.5, 0.6], "license": "apache-2.0", "tag": "a1_in1k"},
}  # fmt: skip


def folder(path: Path, config: Any, processor: Any = None, theirs: bool = True) -> Path:
    path.mkdir()
    tensors = to_theirs(tensors_of(NET), HUGGINGFACE) if theirs else tensors_of(NET)
    safetensors.torch.save_file(tensors, path / "model.safetensors", {"format": "pt"})
    (path / "config.json").write_text(json.dumps(config))
    if processor:
        (path / "preprocessor_config.json").write_text(json.dumps(processor))
    return path


def test_a_folder_of_transformers(tmp_path: Path) -> None:
    file = read_weights_file(folder(tmp_path / "hf", CONFIG, CONVNEXT))
    assert (file.layout, file.container, file.arch) == ("huggingface", "safetensors", NET)
    assert file.class_names == ("a", "b", "c")
    assert file.recorded == {"transformers_version": "4.18.0.dev0"}
    assert file.assumptions == ()
    assert file.preprocess.to_json() == {
        "image_size": 224, "resize_size": 256, "family": "pillow-bicubic", "keep_ratio": True,
        "mean": pytest.approx([0.1, 0.2, 0.3]), "std": pytest.approx([0.4, 0.5, 0.6]),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("processor", "expected"),
    [
        (CONVNEXT | {"size": 384}, (384, 384, "pillow-bicubic", False)),
        (CONVNEXT | {"size": {"shortest_edge": 224}, "image_processor_type": "ConvNextImageProcessor", "resample": 2},
         (224, 256, "pillow-bilinear", True)),
        (BIT, (32, 40, "pillow-bilinear", True)),
        (BIT | {"size": {"height": 40, "width": 40}}, (32, 40, "pillow-bilinear", False)),
    ],
)  # fmt: skip
def test_how_images_are_prepared(processor: Any, expected: tuple[Any, ...], tmp_path: Path) -> None:
    found = read_weights_file(folder(tmp_path / "hf", CONFIG, processor)).preprocess
    assert (found.image_size, found.resize_size, found.family, found.keep_ratio) == expected


@pytest.mark.parametrize("processor", [None, BIT | {"resample": 0}, BIT | {"do_center_crop": False},
                                       BIT | {"image_processor_type": "ViTImageProcessor"}])  # fmt: skip
def test_what_is_not_understood_is_assumed_aloud(processor: Any, tmp_path: Path) -> None:
    assumed = read_weights_file(folder(tmp_path / "hf", CONFIG, processor)).assumptions
    assert [each.partition(" ")[0] for each in assumed] == ["mean", "std"]


def test_a_folder_says_where_the_stride_is(tmp_path: Path) -> None:
    caffe = folder(tmp_path / "hf", CONFIG | {"downsample_in_bottleneck": True}, BIT)
    assert read_weights_file(caffe).arch == replace(NET, stride_style="caffe")


def test_a_folder_of_timm(tmp_path: Path) -> None:
    file = read_weights_file(folder(tmp_path / "timm", TIMM, theirs=False))
    found = file.preprocess
    assert (found.image_size, found.resize_size, found.family, found.keep_ratio) == (224, 235, "pillow-bicubic", True)
    assert (file.class_names, file.about["license"]) == (("a", "b", "c"), "apache-2.0")
    assert file.recorded["tag"] == "a1_in1k"
    assert file.assumptions == ()
    assert file.arch == NET


def test_placeholders_of_transformers_are_no_names(tmp_path: Path) -> None:
    config = CONFIG | {"id2label": {str(index): f"LABEL_{index}" for index in range(3)}}
    assert are_placeholders(read_weights_file(folder(tmp_path / "hf", config)).class_names)


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        (CONFIG | {"downsample_in_first_stage": True}, WeightsError, "downsample_in_first_stage True"),
        (CONFIG | {"hidden_act": "gelu"}, WeightsError, "hidden_act 'gelu'"),
        ([], DamagedFile, "expected an object, got list"),
        ({"model_type": "vit"}, DamagedFile, "pretrained_cfg"),
        (CONFIG | {"id2label": {"x": "a"}}, DamagedFile, "ValueError"),
        (TIMM | {"pretrained_cfg": TIMM["pretrained_cfg"] | {"std": [0, 1, 1]}}, DamagedFile, "std 0"),  # type: ignore[operator]
    ],
)
def test_a_folder_that_is_not_understood_is_refused(config: Any, error: Any, said: str, tmp_path: Path) -> None:
    path = folder(tmp_path / "hf", config)
    with pytest.raises(error) as caught:
        read_weights_file(path)
    assert str(path) in str(caught.value) and said in str(caught.value)


def test_a_folder_without_weights(tmp_path: Path) -> None:
    path = folder(tmp_path / "hf", CONFIG)
    (path / "model.safetensors").rename(tmp_path / "away")
    with pytest.raises(WeightsError, match=r"has a config\.json and no weights"):
        read_weights_file(path)
    torch.save(torch.load(saved(to_theirs(tensors_of(NET), HUGGINGFACE), tmp_path / "x")), path / "pytorch_model.bin")
    assert read_weights_file(path).container == "torch zip"


def test_tensors_of_a_net_without_a_head(tmp_path: Path) -> None:
    body = {key: value for key, value in tensors_of(NET).items() if not key.startswith("fc.")}
    theirs = {key.removeprefix("resnet."): value for key, value in to_theirs(body, HUGGINGFACE).items()}
    found = read_tensors(saved(theirs, tmp_path / "w.bin"))
    assert list(found.tensors) == list(body)
    assert len(found.sha256) == 64
    assert found.arch is None


CFG = """model = dict(
    backbone=dict(depth=50, num_stages=4, style='caffe', type='ResNet'), type='ImageClassifier')
data_preprocessor = dict(mean=[123.675, 116.28, 103.53], num_classes=3, std=[58.395, 57.12, 57.375], to_rgb=True)
"""


def test_the_configuration_in_an_openmmlab_file_says_stride_and_constants(tmp_path: Path) -> None:
    theirs = to_theirs(tensors_of(NET), openmmlab_rows(deep_stem=False, pooled=False))
    for key in ("cfg", "config"):
        file = read_weights_file(saved({"meta": {key: CFG}, "state_dict": theirs}, tmp_path / "w.pth"))
        assert file.arch.stride_style == "caffe"
        assert file.assumptions == ()
        assert file.preprocess.mean == pytest.approx([0.485, 0.456, 0.406])
        assert file.preprocess.std == pytest.approx([0.229, 0.224, 0.225])
        assert read_tensors(tmp_path / "w.pth").stride_style == "caffe"
    for text in (CFG + CFG.replace("caffe", "pytorch"), CFG.replace("caffe", "tf")):  # two of them, or none known
        file = read_weights_file(saved({"meta": {"cfg": text}, "state_dict": theirs}, tmp_path / "w.pth"))
        assert file.assumptions == ("stride style pytorch (--stride-style pytorch or caffe)",)
    two = CFG + CFG.replace("123.675", "0")
    for text in (
        two,
        CFG.replace("to_rgb=True", "to_rgb=False"),
        CFG.replace("57.375", "0"),
        CFG.replace("57.375", "9" * 400),
    ):
        file = read_weights_file(saved({"meta": {"cfg": text}, "state_dict": theirs}, tmp_path / "w.pth"))
        assert [line.partition(" ")[0] for line in file.assumptions] == ["mean", "std"]
        assert file.arch.stride_style == "caffe"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architecture": "resnetaa50"}, "architecture 'resnetaa50'"),
        ({"architecture": "resnet50_gn"}, "architecture 'resnet50_gn'"),
        ({"model_args": {"act_layer": "silu"}}, "model_args act_layer='silu'"),
        ({"model_args": {"output_stride": 8}}, "model_args output_stride=8"),
        ({"global_pool": "catavgmax"}, "global_pool 'catavgmax'"),
    ],
)
def test_a_net_of_timm_that_only_looks_like_ours_is_refused(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="a net that is not here") as caught:
        read_weights_file(folder(tmp_path / "timm", TIMM | change, theirs=False))
    assert said in caught.value.details[0]
    usual = {"model_args": {"stem_width": 32, "output_stride": 32}, "global_pool": "avg"}
    assert read_weights_file(folder(tmp_path / "usual", TIMM | usual, theirs=False)).arch == NET
