"""What is found in a checkpoint: the tensors whatever holds them, the copy that is meant, and what is beside them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from resnetkit.errors import WeightsError
from resnetkit.layouts.contents import find_tensors, from_foreign
from resnetkit.layouts.recognise import load_checked
from resnetkit.models import MODELS, ResNet

Tensors = dict[str, Tensor]
TINY = MODELS["resnet4_tiny"]


def filled(value: float) -> Tensors:
    """Return the tiny net's tensors, all of one value."""
    return {name: torch.full_like(each, value) for name, each in ResNet(TINY).state_dict().items()}


def values(tensors: Tensors) -> set[float]:
    return {float(value) for each in tensors.values() for value in each.flatten()}


def openmmlab(tensors: Tensors) -> Tensors:
    return {("head." if name.startswith("fc.") else "backbone.") + name: value for name, value in tensors.items()}


def prefixed(prefix: str, tensors: Tensors) -> Tensors:
    return {prefix + name: value for name, value in tensors.items()}


WRAPPED: list[Callable[[Tensors], Any]] = [
    lambda tensors: tensors,
    lambda tensors: {"state_dict": tensors},
    lambda tensors: {"model": tensors, "epoch": 3},
    lambda tensors: {"net": tensors, "acc": 95.1, "epoch": 3},
    lambda tensors: {"model_state_dict": tensors, "optimizer": {"state": {0: torch.zeros(3)}}},
    lambda tensors: {"meta": {"CLASSES": ["a"]}, "state_dict": tensors, "optimizer": {}},
    lambda tensors: {"model": {"state_dict": tensors}},
    lambda tensors: {"model": None, "state_dict": tensors},
    lambda tensors: {"state_dict": {**tensors, "note": "not a tensor"}},
]


@pytest.mark.parametrize("number", range(len(WRAPPED)))
def test_tensors_are_found_under_the_usual_keys(number: int) -> None:
    tensors = {"a.weight": torch.ones(2), "b": torch.zeros(())}
    found = find_tensors(WRAPPED[number](tensors))
    assert found.keys() == tensors.keys()
    assert all(found[name] is tensors[name] for name in tensors)


def own_content() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["model"] = content
    return content


@pytest.mark.parametrize(
    "content",
    [{}, [torch.zeros(2)], torch.zeros(2), None, 3, "text", {"state_dict": {}}, {"epoch": 3}, {"model": {"a": 1}}],
)
def test_a_file_without_tensors_by_name_is_refused(content: Any) -> None:
    with pytest.raises(WeightsError, match="no tensors by name") as caught:
        from_foreign(content)
    assert caught.value.details[0].startswith("got ")


def test_a_file_that_is_its_own_content_is_refused() -> None:
    with pytest.raises(WeightsError, match="no tensors by name"):
        from_foreign(own_content())


COLLISIONS = [
    ("module.fc.weight", "fc.weight"),
    ("module.layer1.0.conv1.weight", "_orig_mod.layer1.0.conv1.weight"),
    ("linear.weight", "fc.weight"),
    ("backbone.conv1.weight", "conv1.weight"),
    ("backbone.fc.weight", "head.fc.weight"),
    ("backbone.stem.2.bn.bias", "backbone.bn1.bias"),
    ("resnet.embedder.embedder.convolution.weight", "conv1.weight"),
]


@pytest.mark.parametrize("names", COLLISIONS)
def test_two_tensors_that_would_get_one_name_are_refused(names: tuple[str, str]) -> None:
    with pytest.raises(WeightsError, match="two tensors of the file would both be"):
        from_foreign({name: torch.zeros(1) for name in (*names, "backbone.x" if "back" in names[0] else "x")})


@pytest.mark.parametrize(
    "prefix", ["", "module.", "_orig_mod.", "module._orig_mod.", "model.", "net.", "module.model."]
)
def test_wrappers_names_are_taken_off(prefix: str) -> None:
    assert list(from_foreign(prefixed(prefix, filled(1))).tensors) == list(filled(1))


def test_a_holders_name_that_only_some_have_stays() -> None:
    tensors = filled(1)
    odd = {f"model.{name}" if name.startswith("fc") else name: value for name, value in tensors.items()}
    assert list(from_foreign(odd).tensors) == list(odd)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_dtype_of_the_file_stays_and_a_net_of_it_is_float32(dtype: torch.dtype) -> None:
    cast = {name: value.to(dtype) if value.is_floating_point() else value for name, value in filled(0.1).items()}
    foreign = from_foreign(cast)
    assert all(foreign.tensors[name] is value for name, value in cast.items())
    model = ResNet(TINY)
    load_checked(model, foreign.tensors)
    for name, value in model.state_dict().items():
        assert value.dtype == (torch.int64 if name.endswith("num_batches_tracked") else torch.float32)
        assert torch.equal(value, cast[name].to(value.dtype))


def test_akamasters_projection_shortcuts_are_renamed() -> None:
    tensors = {
        "linear.weight": torch.ones(1),
        "layer2.0.shortcut.0.weight": torch.zeros(1),
        "layer2.0.shortcut.1.bias": torch.ones(1),
    }
    assert set(from_foreign(tensors).tensors) == {
        "fc.weight",
        "layer2.0.downsample.0.weight",
        "layer2.0.downsample.1.bias",
    }


# two copies in one file: AVERAGED is 2, RAW is 1

AVERAGED, RAW = 2.0, 1.0


def timm() -> Any:
    return {"state_dict": filled(RAW), "state_dict_ema": filled(AVERAGED), "epoch": 3}


def torchvision() -> Any:
    averaged = {"n_averaged": torch.tensor(7), **prefixed("module.", filled(AVERAGED))}
    return {"model": filled(RAW), "model_ema": averaged, "epoch": 3}


def mmengine() -> Any:
    raw = {"steps": torch.tensor(7), **prefixed("module.", openmmlab(filled(RAW)))}
    return {"meta": {}, "state_dict": openmmlab(filled(AVERAGED)), "ema_state_dict": raw, "message_hub": {"a": [1]}}


def mmcv() -> Any:
    plain = openmmlab(filled(AVERAGED))
    parameters = [name for name, _ in ResNet(TINY).named_parameters()]
    raw = {f"ema_{name.replace('.', '_')}": value for name, value in openmmlab(filled(RAW)).items()}
    own = {f"ema_{name.replace('.', '_')}" for name in openmmlab({name: torch.ones(1) for name in parameters})}
    return {"meta": {}, "state_dict": plain | {name: value for name, value in raw.items() if name in own}}


@pytest.mark.parametrize("file", [timm, torchvision, mmengine, mmcv])
def test_the_averaged_copy_is_taken_and_the_raw_one_when_asked(file: Callable[[], Any]) -> None:
    averaged, raw = from_foreign(file()), from_foreign(file(), raw=True)
    assert set(averaged.tensors) == set(raw.tensors) == set(filled(0))
    assert values(averaged.tensors) == {AVERAGED}
    # mmcv copies parameters only: the statistics of norms are there once
    parameters = {name: raw.tensors[name] for name, _ in ResNet(TINY).named_parameters()}
    assert values(parameters) == {RAW}
    assert any("average" in note for note in averaged.notes)
    assert any("--raw" in note for note in averaged.notes)
    assert "raw" in raw.notes[0]


@pytest.mark.parametrize("content", [filled(1), {"state_dict": filled(1), "epoch": 3}])
def test_raw_weights_of_a_file_with_one_copy_are_refused(content: Any) -> None:
    with pytest.raises(WeightsError, match="one copy of the weights only"):
        from_foreign(content, raw=True)


def test_an_averaged_model_saved_alone_has_its_counter_taken_off() -> None:
    foreign = from_foreign({"n_averaged": torch.tensor(3), **prefixed("module.", filled(1))})
    assert set(foreign.tensors) == set(filled(1))


def test_a_copy_of_nothing_is_no_copy() -> None:
    tensors = openmmlab(filled(1)) | {"ema_backbone_conv9_weight": torch.ones(1)}
    assert "ema_backbone_conv9_weight" in from_foreign(tensors).tensors  # and is then refused as unexpected


# beside the tensors


def test_what_is_recorded_and_what_is_left_aside() -> None:
    content = {
        "state_dict": filled(1),
        "epoch": 179,
        "best_top1": 92.54,
        "arch": "resnet20_cifar",
        "text": "x" * 200,
        "cursor": "\x1b[2J",
        "optimizer": {"state": {}},
        "meta": {
            "seed": 3,
            "env_info": "y" * 200,
            "config": "z" * 500,
            "CLASSES": ("ant", "bee"),
            "mmcv_version": "1.4",
        },
    }
    foreign = from_foreign(content)
    assert foreign.recorded == {
        "epoch": 179, "best_top1": 92.54, "arch": "resnet20_cifar", "seed": 3, "mmcv_version": "1.4",
    }  # fmt: skip
    assert foreign.notes == ("left aside: text, cursor, optimizer",)
    assert foreign.class_names == ("ant", "bee")


@pytest.mark.parametrize("meta", [
    {"CLASSES": ["a", "b"]}, {"classes": ("a", "b")}, {"dataset_meta": {"classes": ["a", "b"]}},
    {"dataset_meta": {"CLASSES": ("a", "b")}},
])  # fmt: skip
def test_class_names_of_every_version_of_openmmlab(meta: Any) -> None:
    assert from_foreign({"meta": meta, "state_dict": openmmlab(filled(1))}).class_names == ("a", "b")


@pytest.mark.parametrize("names", [[], None, "ab", [1, 2], ["a", 2], {"a": 1}])
def test_what_is_no_list_of_names_is_none(names: Any) -> None:
    assert from_foreign({"meta": {"CLASSES": names}, "state_dict": openmmlab(filled(1))}).class_names is None


def test_nothing_beside_the_tensors_is_left_out_in_silence() -> None:
    stray = torch.ones(2)
    content = {"state_dict": filled(1), "fc2.weight": stray, "ema": {"a": stray}, "model": {"depth": 4}, "best": 0.5}
    found = from_foreign(content)
    assert found.notes == ("left aside: fc2.weight, ema, model",)
    assert found.recorded == {"best": 0.5}
    assert from_foreign(filled(1) | {"steps": torch.tensor(3)}).notes == ("left aside: steps",)
    assert from_foreign({"model_ema": filled(1), "epoch": 3}).notes == (
        "the averaged weights, model_ema (--raw takes the others)",
    )
    many: dict[str, Any] = {f"part{number}": {} for number in range(10)}
    assert from_foreign(many | {"state_dict": filled(1)}).notes[0].endswith("part5, ... (10 in all)")


def test_a_copy_that_is_empty_is_none() -> None:
    found = from_foreign({"state_dict": filled(1), "state_dict_ema": {}})
    assert values(found.tensors) == {1}
    assert found.notes == ("left aside: state_dict_ema",)


def test_two_nets_and_none_are_refused_with_their_keys() -> None:
    with pytest.raises(WeightsError, match="more than one net") as caught:
        from_foreign({"state_dict": filled(1), "net": {"model": filled(2)}})
    assert caught.value.details[0] == "got tensors under state_dict, net"
    with pytest.raises(WeightsError, match="no tensors by name") as caught:
        from_foreign({"model_state": filled(1), "epoch\x1b[2J": 3})
    assert caught.value.details[0] == r"got dict with model_state, epoch\x1b[2J"


@pytest.mark.parametrize("prefix", ["model._orig_mod.", "model.module.", "net._orig_mod.", "module.model._orig_mod."])
def test_wrappers_are_taken_off_inside_a_holder_too(prefix: str) -> None:
    assert from_foreign(prefixed(prefix, filled(1))).tensors.keys() == filled(1).keys()


def test_recorded_keys_and_numbers_are_such_as_can_be_printed() -> None:
    odd = {"\x1b[2J": 1, "\ud800": 2, "x" * 100: 3, "best": float("nan"), 7: 4}
    found = from_foreign({"state_dict": filled(1), **odd})
    assert found.recorded == {r"\x1b[2J": 1, r"\ud800": 2, "x" * 60 + "...": 3, "7": 4}
    assert found.notes == ("left aside: best",)
