"""Every layout both ways: what it can hold comes back bit for bit, what it cannot is refused with the reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from resnetkit.errors import BadRequest
from resnetkit.layouts.contents import from_foreign
from resnetkit.layouts.recognise import check_fit, recognise
from resnetkit.layouts.tables import HUGGINGFACE, TARGETS, openmmlab_rows, to_ours, to_theirs
from resnetkit.layouts.targets import LAYOUTS, to_layout
from resnetkit.models import MODELS, Architecture, ResNet

ALL: set[str] = set(TARGETS)
# What each net of MODELS can be written as.  torchvision has no deep or 3x3 stem, timm no 3x3 stem and no stride on
# the first 1x1, transformers no wide nets, and nobody but us has options A and C, plain nets and the 6n+2 nets.
EXPECTED: dict[str, set[str]] = {
    "resnet4_tiny": {"resnetkit"},
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"), ALL),
    **{f"resnetv1{letter}{depth}": {"resnetkit", "openmmlab", "timm"} for letter in "cd" for depth in (50, 101, 152)},
    **dict.fromkeys(("wide_resnet50_2", "wide_resnet101_2"), ALL - {"huggingface"}),
    **{f"resnet{depth}_caffe": {"resnetkit", "openmmlab", "huggingface"} for depth in (50, 101, 152)},
    **{f"resnet{depth}_cifar": {"resnetkit", "openmmlab"} for depth in (18, 34, 50, 101, 152)},
}


def shapes(arch: Architecture) -> dict[str, Tensor]:
    """Return a net's state dict without memory behind it."""
    with torch.device("meta"):
        return dict(ResNet(arch).state_dict())


@pytest.mark.parametrize("name", [name for name in MODELS if not name.endswith("1202")])
def test_every_net_in_every_layout_that_has_it(name: str) -> None:
    arch, tensors = MODELS[name], shapes(MODELS[name])
    written = set()
    for target in TARGETS:
        if LAYOUTS[target].limits(arch):
            continue
        theirs = to_layout(tensors, arch, target)
        foreign = from_foreign(theirs)
        assert list(foreign.tensors) == list(tensors)
        assert all(foreign.tensors[key] is value for key, value in tensors.items())
        said = recognise(foreign.tensors, plain=arch.shortcut == "plain", stride_style=arch.stride_style)
        assert check_fit(said, foreign.tensors) == len(tensors)
        assert said == arch or name == "resnet4_tiny"  # without a projection B is not told from A
        written.add(target)
    assert written == EXPECTED.get(name, {"resnetkit"})


REASONS: list[tuple[str, dict[str, Any], str, str]] = [
    ("resnet18", {"shortcut": "A"}, "torchvision", "option A, there they are option B"),
    ("resnet18", {"shortcut": "C"}, "huggingface", "option C, there they are option B"),
    ("resnet18", {"shortcut": "plain"}, "timm", "it is a plain net"),
    ("resnet18", {"in_channels": 1}, "torchvision", "it takes 1 channels, there it is 3"),
    ("resnet18", {"stem": "3x3"}, "timm", "its stem is 3x3, there it is 7x7 or deep"),
    ("resnet18", {"stem": "deep"}, "huggingface", "its stem is deep, there it is 7x7"),
    ("resnet18", {"depths": (1, 1, 1, 1)}, "openmmlab", "its blocks are basic 1-1-1-1, there are only depths"),
    ("resnet18", {"widths": (64, 128, 256, 500)}, "timm", "its stages have 64-128-256-500 channels"),
    ("resnet18", {"stem_width": 32}, "torchvision", "its stem has 32 channels, there it has 64"),
    ("resnet50", {"stride_style": "caffe"}, "torchvision", "its stride is on the first 1x1 (caffe)"),
    ("resnet50", {"stride_style": "caffe"}, "timm", "its stride is on the first 1x1 (caffe)"),
    ("resnet50", {"avg_down": True}, "huggingface", "average pool (V1D)"),
    ("resnet50", {"avg_down": True}, "torchvision", "average pool (V1D)"),
    ("resnet50", {"width_factor": 2}, "huggingface", "2 times as wide (a wide net)"),
    ("resnet50", {"width_factor": 3}, "openmmlab", "its 3x3 are 3 times as wide, there 1, 2 or 4 times"),
]


@pytest.mark.parametrize(("name", "change", "target", "reason"), REASONS)
def test_what_a_layout_cannot_express_is_refused_with_the_reason(
    name: str, change: dict[str, Any], target: Any, reason: str
) -> None:
    arch = replace(MODELS[name], **change)
    with pytest.raises(BadRequest, match=f"{target} cannot express this net") as caught:
        to_layout(shapes(arch), arch, target)
    assert any(reason in line for line in caught.value.details)
    assert "resnetkit" in caught.value.details[-1]
    to_layout(shapes(MODELS[name]), MODELS[name], target)  # it was the change


@st.composite
def free_nets(draw: st.DrawFn) -> Architecture:
    """Draw nets that transformers can express; its tables know every stage."""
    stages = draw(st.integers(2, 5))
    return Architecture(
        block=draw(st.sampled_from(["basic", "bottleneck"])),
        depths=tuple(draw(st.lists(st.integers(1, 4), min_size=stages, max_size=stages))),
        widths=tuple(draw(st.lists(st.integers(1, 6), min_size=stages, max_size=stages))),
        stem_width=draw(st.integers(1, 6)),
        num_classes=draw(st.integers(1, 5)),
        in_channels=draw(st.integers(1, 4)),
    )


@given(free_nets())
def test_any_net_there_and_back(arch: Architecture) -> None:
    tensors = shapes(arch)
    for target in ("huggingface", "resnetkit"):
        there = to_layout(tensors, arch, target)
        assert len(there) == len(tensors)
        back = from_foreign(there).tensors
        assert list(back) == list(tensors)
        assert all(back[name] is value for name, value in tensors.items())


@given(deep=st.booleans(), pooled=st.booleans(), blocks=st.integers(1, 12))
def test_openmmlabs_table_is_its_own_inverse(deep: bool, pooled: bool, blocks: int) -> None:
    arch = Architecture("bottleneck", (blocks, 2), (4, 8), stem="deep" if deep else "7x7", avg_down=pooled)
    rows = openmmlab_rows(deep_stem=deep, pooled=pooled)
    tensors = shapes(arch)
    assert list(to_ours(to_theirs(tensors, rows), rows)) == list(tensors)


def test_names_of_transformers_as_its_files_have_them() -> None:
    names = list(to_theirs(shapes(MODELS["resnet50"]), HUGGINGFACE))
    assert names[:2] == ["resnet.embedder.embedder.convolution.weight", "resnet.embedder.embedder.normalization.weight"]
    assert {
        "resnet.encoder.stages.0.layers.0.shortcut.convolution.weight",
        "resnet.encoder.stages.3.layers.2.layer.2.normalization.running_var",
        "classifier.1.bias",
    } <= set(names)
    assert all(name.startswith(("resnet.", "classifier.1.")) for name in names)


def test_names_of_timms_deep_stem() -> None:
    names = set(to_layout(shapes(MODELS["resnetv1d50"]), MODELS["resnetv1d50"], "timm"))
    assert {
        "conv1.0.weight",
        "conv1.1.bias",
        "conv1.3.weight",
        "conv1.4.weight",
        "conv1.6.weight",
        "bn1.weight",
    } <= names
    assert {"layer1.0.downsample.1.weight", "layer1.0.downsample.2.weight", "layer2.0.downsample.1.weight"} <= names
