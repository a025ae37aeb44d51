"""Layouts of other libraries: each is made here by a renaming of its own, and read back."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Literal

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnetkit.errors import WeightsError
from resnetkit.layouts.contents import from_foreign
from resnetkit.layouts.recognise import A_TENSOR_OF_OURS, build_with, check_fit, load_checked, recognise
from resnetkit.models import MODELS, Architecture, ResNet, cifar_architecture
from resnetkit.models.resnet import Shortcut, Stem, StrideStyle

Tensors = dict[str, Tensor]
NAMES = [name for name in MODELS if not name.endswith("1202")]


def narrow(name: str) -> Architecture:
    """Describe a net of MODELS with few channels; where shortcuts change the channels stays the same."""
    arch = MODELS[name]
    return replace(arch, widths=(8, 12, 16, 20)[: len(arch.depths)], stem_width=8, num_classes=7)


def build(arch: Architecture) -> ResNet:
    """Build a net in eval mode whose every tensor is drawn, the norms' statistics and counters too."""
    torch.manual_seed(0)
    model = ResNet(arch).eval()
    for value in model.state_dict().values():
        if not value.is_floating_point():
            value.fill_(1234)
        elif value.ndim == 1:
            value.uniform_(0.5, 1.5)
    return model


@lru_cache(maxsize=200)
def built_of_shapes(arch: Architecture) -> ResNet:
    with torch.device("meta"):
        return ResNet(arch)


def tensors_of(arch: Architecture) -> Tensors:
    """Return the state dict of shapes only."""
    return dict(built_of_shapes(arch).state_dict())


def with_prefix(prefix: str) -> Callable[[Tensors, Architecture], Tensors]:
    return lambda tensors, arch: {prefix + name: value for name, value in tensors.items()}


def to_openmmlab(tensors: Tensors, arch: Architecture) -> Tensors:
    """Rename ours to mmclassification's: everything in the backbone, the linear layer in the head."""
    theirs = {}
    for name, value in tensors.items():
        first, _, rest = name.partition(".")
        if first == "fc":
            theirs[f"head.fc.{rest}"] = value
        elif arch.stem == "deep" and first in ("conv1", "bn1"):
            theirs[f"backbone.stem.{deep_stem_part(first, rest)}"] = value
        elif arch.avg_down and name.startswith("layer1.0.downsample."):
            # at stride 1 there is no pool, and its place is not kept
            index, leaf = name.split(".")[3:]
            theirs[f"backbone.layer1.0.downsample.{int(index) - 1}.{leaf}"] = value
        else:
            theirs[f"backbone.{name}"] = value
    return theirs


def deep_stem_part(first: str, rest: str) -> str:
    """Name a tensor of the deep stem: three times conv and bn."""
    if first == "bn1":
        return f"2.bn.{rest}"
    index, _, leaf = rest.partition(".")
    position, kind = {"0": (0, "conv"), "1": (0, "bn"), "3": (1, "conv"), "4": (1, "bn"), "6": (2, "conv")}[index]
    return f"{position}.{kind}.{leaf}"


def to_akamaster(tensors: Tensors, arch: Architecture) -> Tensors:
    """Rename ours to akamaster's, as saved by DataParallel."""
    return {"module." + re.sub("^fc", "linear", name): value for name, value in tensors.items()}


LAYOUTS: dict[str, tuple[str, Callable[[Tensors, Architecture], Tensors]]] = {
    "ours": ("torchvision", with_prefix("")),
    "DataParallel": ("torchvision", with_prefix("module.")),
    "compiled": ("torchvision", with_prefix("_orig_mod.")),
    "DataParallel of compiled": ("torchvision", with_prefix("module._orig_mod.")),
    "compiled DataParallel": ("torchvision", with_prefix("_orig_mod.module.")),
    "OpenMMLab": ("openmmlab", to_openmmlab),
    "OpenMMLab in DataParallel": ("openmmlab", lambda t, arch: with_prefix("module.")(to_openmmlab(t, arch), arch)),
    "akamaster": ("akamaster", to_akamaster),
}


def told_by_tensors(arch: Architecture) -> Architecture:
    """Return what the tensors tell of a net when nothing else is said: residual, stride on the 3x3.

    Without a projection nothing tells option A from no shortcut (or, where no block changes channels, from B).
    """
    projected = any(".downsample." in name for name in tensors_of(arch))
    return replace(arch, shortcut=arch.shortcut if projected else "A", stride_style="pytorch")


@pytest.mark.parametrize("name", NAMES)
@torch.inference_mode()
def test_every_layout_of_every_net_gives_its_logits_to_the_bit(name: str) -> None:
    arch, told = narrow(name), told_by_tensors(narrow(name))
    model = build(arch)
    tensors = model.state_dict()
    images = torch.randn(2, 3, 32, 32)
    expected = model(images)
    twin = build(arch)
    loaded = twin.state_dict()
    checked = 0
    for layout, convert in LAYOUTS.values():
        for value in loaded.values():
            value.zero_()
        foreign = from_foreign(convert(tensors, arch))
        # a deep stem's names are timm's
        assert foreign.layout == ("timm" if layout == "torchvision" and arch.stem == "deep" else layout)
        assert list(foreign.tensors) == list(tensors)
        assert recognise(foreign.tensors) == told
        said = recognise(foreign.tensors, plain=arch.shortcut == "plain", stride_style=arch.stride_style)
        assert said == (arch if name != "resnet4_tiny" else replace(arch, shortcut="A"))
        assert check_fit(said, foreign.tensors) == load_checked(twin, foreign.tensors) == len(tensors)
        assert torch.equal(twin(images), expected)
        assert all(torch.equal(value, loaded[key]) for key, value in tensors.items())
        checked += 1
    assert checked == 8


def test_the_nets_of_the_table_were_read() -> None:
    assert len(NAMES) == len(MODELS) - 2 == 38
    different = [name for name in NAMES if told_by_tensors(MODELS[name]) != MODELS[name]]
    # all that tensors cannot tell
    assert [name for name in different if "plain" not in name and "caffe" not in name] == ["resnet4_tiny"]
    assert len(different) == 1 + 3 + 7


@pytest.mark.parametrize("name", NAMES)
def test_nets_of_full_size_are_recognised(name: str) -> None:
    arch = MODELS[name]
    tensors = tensors_of(arch)
    for convert in (with_prefix("module."), to_openmmlab, to_akamaster):
        assert recognise(from_foreign(convert(tensors, arch)).tensors) == told_by_tensors(arch)


def test_openmmlabs_names_are_as_published() -> None:
    """A few names of mmclassification's own files, written out."""
    v1c, v1d = (set(to_openmmlab(tensors_of(MODELS[n]), MODELS[n])) for n in ("resnetv1c50", "resnetv1d50"))
    stem = {"backbone.stem.0.conv.weight", "backbone.stem.1.bn.running_var", "backbone.stem.2.bn.weight"}
    assert stem <= v1c & v1d
    assert {f"backbone.layer1.0.downsample.{part}" for part in ("0.weight", "1.weight")} <= v1c & v1d
    assert {f"backbone.layer2.0.downsample.{part}" for part in ("0.weight", "1.running_mean")} <= v1c - v1d
    assert {f"backbone.layer2.0.downsample.{part}" for part in ("1.weight", "2.weight", "2.running_mean")} <= v1d
    plain = set(to_openmmlab(tensors_of(MODELS["resnet18"]), MODELS["resnet18"]))
    assert {"backbone.conv1.weight", "backbone.bn1.bias", "head.fc.weight", "head.fc.bias"} <= plain


BLOCKS: tuple[Literal["basic", "bottleneck"], ...] = ("basic", "bottleneck")
SHORTCUTS: tuple[Shortcut, ...] = ("A", "B", "C", "plain")
STEMS: tuple[Stem, ...] = ("7x7", "deep", "3x3")
STYLES: tuple[StrideStyle, ...] = ("pytorch", "caffe")


@st.composite
def architectures(draw: st.DrawFn) -> Architecture:
    stages = draw(st.integers(1, 4))
    block: Literal["basic", "bottleneck"] = draw(st.sampled_from(BLOCKS))
    shortcut: Shortcut = draw(st.sampled_from(SHORTCUTS))
    stem: Stem = draw(st.sampled_from(STEMS))
    widths = tuple(sorted(draw(st.lists(st.integers(1, 6), min_size=stages, max_size=stages))))
    # option A only adds channels, and a pooled shortcut is told by that of layer2
    projects = shortcut in ("B", "C")
    narrowest = 2 if stem == "deep" else 1
    return Architecture(
        block=block,
        depths=tuple(draw(st.lists(st.integers(1, 3), min_size=stages, max_size=stages))),
        widths=widths,
        width_factor=draw(st.integers(1, 3)) if block == "bottleneck" else 1,
        stem=stem,
        stem_width=narrowest * (draw(st.integers(1, 4)) if projects else 1),
        shortcut=shortcut,
        avg_down=draw(st.booleans()) if projects and stages > 1 else False,
        stride_style=draw(st.sampled_from(STYLES)) if block == "bottleneck" else "pytorch",
        num_classes=draw(st.integers(1, 5)),
        in_channels=draw(st.integers(1, 4)),
    )


def equal_twin(arch: Architecture) -> Architecture:
    """Return the architecture that `recognise` names for a net of the same tensors and function."""
    names = tensors_of(arch)
    projected = {name.split(".downsample.")[0] for name in names if ".downsample." in name}
    if not projected:
        return replace(arch, shortcut="plain" if arch.shortcut == "plain" else "A")
    same_as_b = projected == {
        n.split(".downsample.")[0] for n in tensors_of(replace(arch, shortcut="B")) if "down" in n
    }
    return replace(arch, shortcut="B" if same_as_b else arch.shortcut)


@settings(deadline=None, max_examples=60)
@given(arch=architectures())
@example(arch=cifar_architecture(1, "C"))  # each stage has one block: as many projections as blocks
@example(arch=cifar_architecture(1, "B"))
@example(arch=replace(cifar_architecture(1, "B"), block="bottleneck", stem_width=64))  # and no change in layer1
@example(arch=replace(MODELS["resnetv1d50"], shortcut="C"))
def test_any_net_is_recognised_from_its_tensors(arch: Architecture) -> None:
    tensors = tensors_of(arch)
    said = recognise(tensors, plain=arch.shortcut == "plain", stride_style=arch.stride_style)
    assert said == equal_twin(arch)
    assert load_checked(built_of_shapes(said), tensors) == len(tensors)


def test_stated_defaults_and_flags() -> None:
    option_a = tensors_of(cifar_architecture(3))
    assert recognise(option_a).shortcut == "A"
    assert recognise(option_a, plain=True).shortcut == "plain"
    bottleneck = tensors_of(MODELS["resnet50"])
    assert recognise(bottleneck).stride_style == "pytorch"
    assert recognise(bottleneck, stride_style="caffe") == MODELS["resnet50_caffe"]
    with pytest.raises(WeightsError, match="projection shortcuts: it is not plain"):
        recognise(bottleneck, plain=True)


def test_missing_unexpected_and_misshapen_tensors_are_all_named() -> None:
    model = build(cifar_architecture(1))
    tensors = model.state_dict()
    before = {name: value.clone() for name, value in tensors.items()}
    wrong = {**tensors, "extra.weight": torch.zeros(1), "fc.weight": torch.zeros(3, 64)}
    dtypes = {"bn1.weight": torch.int32, "bn1.num_batches_tracked": torch.float32, "fc.bias": torch.complex64,
              "conv1.weight": torch.bool}  # fmt: skip
    wrong |= {name: wrong[name].to(dtype) for name, dtype in dtypes.items()}
    del wrong["layer2.0.bn1.running_mean"]
    with pytest.raises(WeightsError, match="do not fit") as caught:
        load_checked(model, wrong)
    assert caught.value.details == (
        "missing: layer2.0.bn1.running_mean",
        "unexpected: extra.weight",
        "other shape: fc.weight [3, 64] instead of [10, 64]",
        "wrong dtype: conv1.weight bool instead of floats, bn1.weight int32 instead of floats, "
        "bn1.num_batches_tracked float32 instead of whole numbers, fc.bias complex64 instead of floats",
    )
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())  # nothing was loaded


def test_counters_that_old_files_lack_are_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    arch = cifar_architecture(1)
    tensors = {name: value for name, value in build(arch).state_dict().items() if "num_batches" not in name}
    honest = torch.nn.Module.to_empty

    def filled(model: torch.nn.Module, *, device: str) -> torch.nn.Module:
        for value in honest(model, device=device).state_dict().values():
            value.fill_(7)  # as memory may be
        return model

    monkeypatch.setattr(torch.nn.Module, "to_empty", filled)
    model = build_with(arch, tensors)
    assert not model.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, tensors.get(name, torch.tensor(0)))


def test_a_counter_is_a_whole_number() -> None:
    tensors = build(cifar_architecture(1)).state_dict()
    for dtype in (torch.bool, torch.float32, torch.complex64):
        with pytest.raises(WeightsError, match="instead of whole numbers"):
            load_checked(
                build(cifar_architecture(1)), tensors | {"bn1.num_batches_tracked": torch.ones((), dtype=dtype)}
            )
    load_checked(build(cifar_architecture(1)), tensors | {"bn1.num_batches_tracked": torch.ones((), dtype=torch.int32)})


@pytest.mark.parametrize("name", list(tensors_of(cifar_architecture(1, "B"))))
def test_each_missing_tensor_is_noticed(name: str) -> None:
    model = build(cifar_architecture(1, "B"))
    tensors = {key: value for key, value in model.state_dict().items() if key != name}
    if name.endswith("num_batches_tracked"):  # files of torch before 0.4.1 have none
        assert load_checked(model, tensors) == len(tensors)
        return
    with pytest.raises(WeightsError, match=re.escape(name)):
        load_checked(model, tensors)
    with pytest.raises(WeightsError):  # nor does recognise make another net of it
        load_checked(build(recognise(tensors)), tensors)


def test_long_lists_of_names_are_cut() -> None:
    model = build(cifar_architecture(3))
    with pytest.raises(WeightsError, match=r"missing: conv1\.weight.*, \.\.\. \(97 in all\)"):
        load_checked(model, {})


BENT: list[Callable[[Tensor], Tensor]] = [
    lambda value: torch.zeros(()),
    lambda value: torch.zeros(3),
    lambda value: torch.zeros(0, *value.shape[1:]),
    lambda value: torch.zeros(1, *value.shape[1:]),
    lambda value: torch.zeros(*value.shape, 2),
    lambda value: torch.zeros(value.shape[0] + 1, *value.shape[1:]),
    lambda value: torch.zeros(2, 2, 2, 2),
]


@pytest.mark.parametrize("arch", [cifar_architecture(1, "C"), replace(narrow("resnetv1d50"), depths=(1, 1, 1, 1))])
def test_no_shape_of_any_tensor_is_more_than_refused(arch: Architecture) -> None:
    tensors = tensors_of(arch)
    refused = 0
    for name, value in tensors.items():
        if name.endswith("num_batches_tracked"):
            continue
        for bend in BENT:
            bent = bend(value)
            if bent.shape == value.shape:
                continue
            wrong = {**tensors, name: bent.to("meta")}
            with pytest.raises(WeightsError):
                load_checked(built_of_shapes(recognise(wrong)), wrong)
            refused += 1
    assert refused > 5 * len(tensors)


def test_a_renamed_tensor_is_named_beside_the_missing_one() -> None:
    tensors = tensors_of(MODELS["resnetv1d50"])
    assert all(A_TENSOR_OF_OURS.fullmatch(name) for name in tensors)
    tensors["layer1.0.conv1.wieght"] = tensors.pop("layer1.0.conv1.weight")
    with pytest.raises(WeightsError, match="not a residual net of a known layout") as caught:
        recognise(tensors)
    assert caught.value.details[1:] == ("missing: layer1.0.conv1.weight", "unexpected: layer1.0.conv1.wieght")


UNLIKE: dict[str, Callable[[Tensors], object]] = {
    "a backbone without a head": lambda t: t.pop("fc.weight"),
    "not a residual net": lambda t: t.pop("bn1.weight"),
    "not a residual net of a known": lambda t: [t.pop(name) for name in list(t) if name.startswith("layer1")],
    "blocks are missing": lambda t: [t.pop(name) for name in list(t) if name.startswith("layer2.1.")],
    "blocks are missing.*": lambda t: [t.pop(name) for name in list(t) if name.startswith("layer2.")],
    "unknown stem": lambda t: t.update({"conv1.weight": torch.zeros(16, 3, 5, 5)}),
}


@pytest.mark.parametrize("message", UNLIKE)
def test_what_is_no_resnet_is_refused(message: str) -> None:
    tensors = tensors_of(cifar_architecture(3))
    UNLIKE[message](tensors)
    with pytest.raises(WeightsError, match=message):
        recognise(tensors)
