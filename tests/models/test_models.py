"""Names of nets: every one leads to its architecture, and back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from resnetkit.errors import BadRequest
from resnetkit.models import MODELS, Architecture, cifar_architecture, find_architecture, name_of
from resnetkit.models.resnet import Shortcut

SHORTCUTS: tuple[Shortcut, ...] = ("A", "B", "C", "plain")

WANTED = [  # by the issue
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *(f"resnetv1{letter}{depth}" for letter in "cd" for depth in (50, 101, 152)),
    *("wide_resnet50_2", "wide_resnet101_2"),
    *(f"resnet{depth}_caffe" for depth in (50, 101, 152)),
    *(f"resnet{depth}_cifar" for depth in (18, 34, 50, 101, 152)),
    *(f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)),
    *("plain18", "plain34", "resnet34_a", "resnet34_c"),
]


def test_every_net_of_the_issue_has_its_name() -> None:
    assert len(WANTED) == len(set(WANTED)) == 37
    assert set(WANTED) <= set(MODELS)


@pytest.mark.parametrize("name", MODELS)
def test_names_of_the_table_lead_to_their_net_and_back(name: str) -> None:
    arch = find_architecture(name)
    assert arch == MODELS[name]
    assert name_of(arch) == name
    assert name_of(replace(arch, num_classes=123, in_channels=1)) == name


def test_no_two_names_mean_the_same_net() -> None:
    archs = {replace(arch, num_classes=1) for arch in MODELS.values()}
    assert len(archs) == len(MODELS) == 40


@given(
    n=st.integers(1, 300),
    shortcut=st.sampled_from(SHORTCUTS),
    num_classes=st.integers(1, 1000),
    in_channels=st.integers(1, 4),
)
@example(n=8, shortcut="A", num_classes=10, in_channels=3)  # 50 layers, which is an ImageNet net's name too
@example(n=25, shortcut="A", num_classes=10, in_channels=3)  # 152
@example(n=25, shortcut="plain", num_classes=10, in_channels=3)
@example(n=200, shortcut="B", num_classes=10, in_channels=3)
def test_cifar_nets_lead_to_their_name_and_back(n: int, shortcut: Shortcut, num_classes: int, in_channels: int) -> None:
    arch = replace(cifar_architecture(n, shortcut, num_classes), in_channels=in_channels)
    name = name_of(arch)
    assert str(6 * n + 2) in name
    assert find_architecture(name) == cifar_architecture(n, shortcut)


def test_imagenet_names_stay_imagenet_nets() -> None:
    assert find_architecture("resnet50").block == "bottleneck"
    assert find_architecture("resnet152").block == "bottleneck"
    assert find_architecture("resnet50_6n2_b") == cifar_architecture(8, "B")
    assert find_architecture("resnet152_6n2") == cifar_architecture(25)
    for name in ("resnet50_b", "resnet152_c", "resnet18_6n2"):
        with pytest.raises(BadRequest, match=f"unknown model '{name}'"):
            find_architecture(name)
    assert find_architecture("plain50") == cifar_architecture(8, "plain")


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnet51", "resnet5"),
        ("renset18", "resnet18"),
        ("wide_resnet50", "wide_resnet50_2"),
        ("resnetv1e50", "resnetv1"),
        ("resnet21", "resnet"),
        ("ResNet20", "resnet20"),
        ("resnet2", "resnet"),
        ("plain20_a", "plain20"),
        ("resnet20_d", "resnet20"),
        ("resnet20 ", "resnet20"),
    ],
)
def test_an_unknown_name_is_refused_with_a_near_one(name: str, near: str) -> None:
    with pytest.raises(BadRequest) as caught:
        find_architecture(name)
    assert caught.value.what.startswith(f"unknown model {name!r}; did you mean '{near}")
    assert "resnet<6n+2>" in caught.value.details[0]
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("name", ["", "alexnet", "resnet", "6n+2"])
def test_what_is_near_nothing_is_refused_with_the_known_names(name: str) -> None:
    with pytest.raises(BadRequest, match="unknown model") as caught:
        find_architecture(name)
    assert all(known in str(caught.value) for known in ("resnet50_caffe", "plain110", "resnetv1d152"))


def test_a_net_of_no_known_family_is_described() -> None:
    assert name_of(Architecture("bottleneck", (1, 2, 3, 4))) == "bottleneck 1-2-3-4"
    assert name_of(Architecture("basic", (2, 2), widths=(8, 16))) == "basic 2-2"
