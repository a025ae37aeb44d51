"""Costs against the exact figures of the literature, and against torch's own counter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from resnetkit.models import MODELS, ResNet, cifar_architecture, find_architecture
from resnetkit.models.counting import Cost, count
from resnetkit.models.resnet import Shortcut
from resnetkit.models.vgg import CONVS_PER_STAGE, Vgg

# model, classes, pixels a side: parameters, 10^9 multiply-adds as the page counts, 10^9 multiply-adds
PAGE = [
    ("resnet18_cifar", 10, 32, 11_173_962, "0.55721", "0.55542"),
    ("resnet34_cifar", 10, 32, 21_282_122, "1.16242", "1.15940"),
    ("resnet50_cifar", 10, 32, 23_520_842, "1.30765", "1.29783"),
    ("resnet101_cifar", 10, 32, 42_512_970, "2.52482", "2.50998"),
    ("resnet152_cifar", 10, 32, 58_156_618, "3.74316", "3.72214"),
    ("resnet50_cifar", 100, 32, 23_705_252, "1.30765", "1.29801"),
    ("resnet18", 1000, 224, 11_689_512, "1.82166", "1.81407"),
    ("resnet34", 1000, 224, 21_797_672, "3.67512", "3.66376"),
    ("resnet50", 1000, 224, 25_557_032, "4.11988", "4.08918"),
    ("resnet101", 1000, 224, 44_549_160, "7.84745", "7.80141"),
    ("resnet152", 1000, 224, 60_192_808, "11.57864", "11.51363"),
    ("resnetv1c50", 1000, 224, 25_576_264, "4.36193", "4.32882"),
    ("resnetv1c101", 1000, 224, 44_568_392, "8.08950", "8.04105"),
    ("resnetv1c152", 1000, 224, 60_212_040, "11.82069", "11.75327"),
    ("resnetv1d50", 1000, 224, 25_576_264, "4.36333", "4.32882"),
    ("resnetv1d101", 1000, 224, 44_568_392, "8.09091", "8.04105"),
    ("resnetv1d152", 1000, 224, 60_212_040, "11.82209", "11.75327"),
    ("wide_resnet50_2", 1000, 224, 68_883_240, "11.43857", "11.39802"),
    ("wide_resnet101_2", 1000, 224, 126_886_696, "22.81407", "22.75305"),
    ("resnet50", 200, 448, 23_917_832, "16.47950", "16.34895"),
    ("resnet50", 11221, 224, 46_499_861, "4.11988", "4.1101"),
    # what the literature prints with fewer digits
    ("resnet50", 1000, 160, 25_557_032, "2.10", "2.087"),
    ("resnet50_caffe", 1000, 224, 25_557_032, None, "3.858"),
    ("resnet101_caffe", 1000, 224, 44_549_160, None, "7.570"),
    ("resnet152_caffe", 1000, 224, 60_192_808, None, "11.282"),
]

# Table 1 of arXiv 1512.03385, 10^9 multiply-adds; its 34-layer net has option A, its bottlenecks the stride first
PAPER_TABLE_1 = {"resnet18": "1.8", "resnet34_a": "3.6", "resnet50_caffe": "3.8", "resnet101_caffe": "7.6",
                 "resnet152_caffe": "11.3"}  # fmt: skip

# name: 10^6 parameters, 10^9 multiply-adds of the shortcut options
OPTIONS = {
    "resnet18_a": ("11.52", None),
    "resnet18": ("11.69", None),
    "resnet18_c": ("12.04", None),
    "resnet34_a": ("21.62", "3.644"),
    "resnet34": ("21.80", "3.664"),
    "resnet34_c": ("22.72", "3.831"),
}

# depth: the paper's 10^6 parameters, exact parameters, without norms, 10^6 multiply-adds
PAPER_CIFAR = {
    20: ("0.27", 269_722, 268_346, "40.55"),
    32: ("0.46", 464_154, 461_882, "68.86"),
    44: ("0.66", 658_586, 655_418, "97.17"),
    56: ("0.85", 853_018, 848_954, "125.49"),
    110: ("1.7", 1_727_962, 1_719_866, "252.89"),
    1202: ("19.4", 19_421_274, 19_331_642, "2829.2"),
}


OPTIONS_OF_CIFAR: tuple[Shortcut, ...] = ("A", "B", "plain")


def cost_of(name: str, num_classes: int | None = None, image_size: int = 224) -> Cost:
    arch = find_architecture(name)
    return count(partial(ResNet, replace(arch, num_classes=num_classes or arch.num_classes)), image_size)


def agrees(exact: int, unit: float, printed: str) -> bool:
    """Is `exact`, in units, the printed number, to every digit that is printed?"""
    return f"{exact / unit:.{len(printed.partition('.')[2])}f}" == printed


def params_of(kinds: type[nn.Module] | tuple[type[nn.Module], ...], model: nn.Module) -> int:
    modules = [module for module in model.modules() if isinstance(module, kinds)]
    return sum(parameter.numel() for module in modules for parameter in module.parameters())


def test_every_figure_of_the_page_to_the_last_digit() -> None:
    checked = 0
    for name, num_classes, image_size, params, page, macs in PAGE:
        cost = cost_of(name, num_classes, image_size)
        assert cost.params == params, name
        assert agrees(cost.macs, 1e9, macs), (name, cost.macs)
        assert page is None or agrees(cost.macs_page, 1e9, page), (name, cost.macs_page)
        checked += 1
    assert checked == 25


def test_a_backbone_is_the_net_without_its_head() -> None:
    assert cost_of("resnet50").params - (2048 + 1) * 1000 == 23_508_032
    assert cost_of("resnet50_cifar", image_size=32).params - (2048 + 1) * 10 == 23_500_352
    # ImageNet-21k in its two other sizes
    assert cost_of("resnet50", 21841).params == 68_260_241
    assert cost_of("resnet50", 21843).params == 68_264_339


def test_the_papers_table_1() -> None:
    rounded = [name for name, printed in PAPER_TABLE_1.items() if agrees(cost_of(name).macs, 1e9, printed)]
    assert rounded == ["resnet18", "resnet34_a", "resnet101_caffe", "resnet152_caffe"]
    # the paper cuts off its 50-layer net's 3.858
    assert str(cost_of("resnet50_caffe").macs / 1e9).startswith(PAPER_TABLE_1["resnet50_caffe"])


def test_shortcut_options() -> None:
    for name, (params, macs) in OPTIONS.items():
        cost = cost_of(name)
        assert agrees(cost.params, 1e6, params), name
        assert macs is None or agrees(cost.macs, 1e9, macs), name
    assert len(OPTIONS) == 6
    for depth in (18, 34):
        assert cost_of(f"plain{depth}") == cost_of(f"resnet{depth}_a")


def test_the_papers_cifar_nets() -> None:
    checked = 0
    for depth, (published, params, without_norms, macs) in PAPER_CIFAR.items():
        cost = cost_of(f"resnet{depth}", image_size=32)
        assert cost.params == params, depth
        assert agrees(cost.params, 1e6, published), depth
        assert agrees(cost.macs, 1e6, macs), depth
        with torch.device("meta"):
            model, plain = ResNet(MODELS[f"resnet{depth}"]), ResNet(MODELS[f"plain{depth}"])
        assert params_of((nn.Conv2d, nn.Linear), model) == without_norms, depth
        assert params_of(nn.Module, plain) == params_of(nn.Module, model)
        checked += 1
    assert checked == 6


@pytest.mark.parametrize("n", [1, 3, 9, 18])
def test_option_b_adds_the_same_parameters_at_any_depth(n: int) -> None:
    costs = {option: count(partial(ResNet, cifar_architecture(n, option)), 32) for option in OPTIONS_OF_CIFAR}
    assert costs["B"].params - costs["A"].params == 2752
    assert costs["plain"] == costs["A"]


def test_vgg_and_the_papers_claim_of_lower_complexity() -> None:
    golden = {"vgg16": ("15.470", "15.347", "15.3"), "vgg19": ("19.632", "19.508", "19.6")}
    for name, (whole, convolutions, published) in golden.items():
        build = partial(Vgg, CONVS_PER_STAGE[name])
        cost = count(build, 224)
        assert agrees(cost.macs, 1e9, whole)
        with torch.device("meta"):
            features = build().features
        assert agrees(count(build_layers(features), 224).macs, 1e9, convolutions)
        assert published in (f"{cost.macs / 1e9:.1f}", convolutions[:4])
    vgg19 = count(partial(Vgg, CONVS_PER_STAGE["vgg19"]), 224).macs
    assert cost_of("resnet152_caffe").macs < vgg19
    assert int(100 * cost_of("plain34").macs / vgg19) == 18  # "only 18 %" in section 3.3


REAL = ["resnet18", "resnet50", "resnet50_caffe", "resnetv1c50", "resnetv1d50", "wide_resnet50_2", "resnet50_cifar",
        "resnet34_c", "plain34", "resnet20", "resnet4_tiny"]  # fmt: skip


@pytest.mark.parametrize("name", REAL)
def test_multiply_adds_are_half_of_torchs_own_count(name: str) -> None:
    image_size = 32 if MODELS[name].stem == "3x3" else 224
    with torch.device("meta"):
        model, images = ResNet(MODELS[name]).eval(), torch.empty(1, 3, image_size, image_size)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(images)
    assert counter.get_total_flops() == 2 * cost_of(name, image_size=image_size).macs


def test_multiply_adds_on_real_images_whatever_they_show() -> None:
    model = ResNet(MODELS["resnet20"]).eval()
    torch.manual_seed(0)
    noise = torch.rand(1, 3, 32, 32)
    expected = 2 * cost_of("resnet20", image_size=32).macs
    checked = 0
    for images in (noise, torch.zeros_like(noise), torch.full_like(noise, torch.inf)):
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            model(images)
        assert counter.get_total_flops() == expected
        checked += 1
    assert checked == 3


def build_layers(*layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(*layers)


@pytest.mark.parametrize(
    ("layer", "params", "macs", "macs_page"),
    [  # worked by hand for one image of 4 channels and 6 x 6 pixels
        (nn.Conv2d(4, 8, 3, padding=1, bias=False), 288, 36 * 288, 36 * 288),
        (nn.Conv2d(4, 8, 3, padding=1), 296, 36 * 288, 36 * 288 + 36 * 8),
        (nn.Conv2d(4, 8, 3, stride=2, bias=False), 288, 4 * 288, 4 * 288),
        (nn.Conv2d(4, 8, (1, 3), groups=2, bias=False), 48, 24 * 48, 24 * 48),
        (nn.BatchNorm2d(4), 8, 0, 2 * 144),
        (nn.ReLU(), 0, 0, 144),
        (nn.MaxPool2d(3, 2), 0, 0, 144),
        (nn.AvgPool2d(2), 0, 0, 144),
        (nn.AdaptiveAvgPool2d(1), 0, 0, 144),
        (nn.Linear(6, 5), 35, 24 * 6 * 5, 0),
        (nn.Dropout(), 0, 0, 0),
    ],
)
def test_one_layer(layer: nn.Module, params: int, macs: int, macs_page: int) -> None:
    # a trained net is counted as well as a fresh one: build may return what exists already
    cost = count(build_layers(layer.to("meta")), 6, in_channels=4)
    assert cost == Cost(params, macs, macs_page)


def test_frozen_parameters_are_not_trainable() -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8)).requires_grad_(False)

    assert count(build, 8).params == 0


def test_counting_draws_no_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    cost_of("resnet18")
    assert torch.equal(torch.get_rng_state(), before)


def test_two_counts_are_equal() -> None:
    small = sorted(MODELS, key=lambda name: sum(MODELS[name].depths))[:16]
    assert [cost_of(name, image_size=64) for name in small] == [cost_of(name, image_size=64) for name in small]
