"""The published nets: the rows of the OpenMMLab ResNet page and the nets of the paper.

Published figures are those of the page (mmclassification v0.23.0) and of arXiv 1512.03385, tables 2, 3 and 6.
Costs are counted from the built net at each call.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from resnetkit.models import MODELS, ResNet
from resnetkit.models.counting import Cost, count
from resnetkit.models.vgg import CONVS_PER_STAGE, Vgg
from resnetkit.recipes import RECIPES
from resnetkit.shipped_weights import SHIPPED

PARITY = "results/parity.json"  # net, losses, schedules and steps equal to mmpretrain's


@dataclass(frozen=True)
class Printed:
    """What the page prints of a row's costs."""

    params: float  # millions
    flops: float  # 10^9, which are multiply-adds as mmcv counts them


@dataclass(frozen=True)
class ZooEntry:
    """One net of the page or of the paper, at the input size of its row."""

    name: str
    model: str  # a name of MODELS, or vgg16, vgg19
    num_classes: int
    image_size: int  # pixels a side
    source: str  # of the published figures: where, and how many crops where it is not one
    top1: float | None = None  # published fractions
    top5: float | None = None
    weights: str | None = None  # the published file, below download.openmmlab.com/mmclassification/v0/
    printed: Printed | None = None
    notes: tuple[str, ...] = ()  # what is wrong or odd in what is published
    reproduced: str | None = None  # the results file of a training of ours that reaches the published figure

    @property
    def on_page(self) -> bool:
        """Say whether it is a row of the page."""
        return self.printed is not None

    def build(self) -> nn.Module:
        """Build the net, with random weights."""
        if self.model in CONVS_PER_STAGE:
            return Vgg(CONVS_PER_STAGE[self.model], self.num_classes)
        return ResNet(replace(MODELS[self.model], num_classes=self.num_classes))

    def cost(self) -> Cost:
        """Count parameters and multiply-adds from the built net."""
        return count(self.build, self.image_size)


def fraction(percent: float | None) -> float | None:
    """Turn percent into a fraction of as many digits."""
    return None if percent is None else round(percent / 100, 6)


def page_row(
    name: str,
    model: str,
    *,
    weights: str,
    params: float,
    flops: float,
    top1: float | None,
    top5: float | None,
    classes: int = 1000,
    size: int = 224,
) -> ZooEntry:
    """Make a row of the page from what it prints."""
    return ZooEntry(
        name,
        model,
        classes,
        size,
        source="page",
        top1=fraction(top1),
        top5=fraction(top5),
        weights=weights,
        printed=Printed(params, flops),
        notes=PAGE_NOTES.get(name, ()),
    )


CONVERTED = "the weights are torchvision's, converted: the page's recipe did not train them"
RSB_1X = "mmpretrain 1.x trains another recipe under this name: it is {}-mmpretrain1x here"
PAGE_NOTES: dict[str, tuple[str, ...]] = {
    "wide-resnet50_8xb32_in1k": (
        "the page links to a config below configs/resnet that is not there: it is below configs/wrn",
        CONVERTED,
    ),
    "wide-resnet101_8xb32_in1k": (
        "the page links to the config of the plain resnet101_8xb32_in1k: its own is below configs/wrn",
        CONVERTED,
    ),
    "resnet50_8xb256-rsb-a1-600e_in1k": (
        RSB_1X.format("resnet50_8xb256-rsb-a1-600e_in1k"),
        "its config changed from binary to softmax cross entropy three days after the weights' date: which of them "
        "trained the weights is not known",
    ),
    "resnet50_8xb256-rsb-a2-300e_in1k": (RSB_1X.format("resnet50_8xb256-rsb-a2-300e_in1k"),),
    "resnet50_8xb256-rsb-a3-100e_in1k": (
        RSB_1X.format("resnet50_8xb256-rsb-a3-100e_in1k"),
        "trained at 160 pixels, evaluated at 224: the costs are of 224",
    ),
    "resnet50_8xb8_cub": (
        RSB_1X.format("resnet50_8xb8_cub"),
        "starts from the weights of resnet50-mill_in21k; the page gives no top-5",
    ),
    "resnet50-mill_in21k": (
        "86.74 M and 15.14 G are those of Swin-B, copied: ResNet-50 with 11,221 classes has 46.50 M and 4.12 G",
        "weights only, for fine-tuning; the page's 'multi-label' is a semantic softmax over ImageNet-21K-P",
    ),
}

MISPRINTED = {"resnet50-mill_in21k"}  # the page prints another net's costs

CIFAR = {"classes": 10, "size": 32}
PAGE = [
    page_row("resnet18_8xb16_cifar10", "resnet18_cifar", params=11.17, flops=0.56, top1=94.82, top5=99.87, **CIFAR,
             weights="resnet/resnet18_b16x8_cifar10_20210528-bd6371c8.pth"),
    page_row("resnet34_8xb16_cifar10", "resnet34_cifar", params=21.28, flops=1.16, top1=95.34, top5=99.87, **CIFAR,
             weights="resnet/resnet34_b16x8_cifar10_20210528-a8aa36a6.pth"),
    page_row("resnet50_8xb16_cifar10", "resnet50_cifar", params=23.52, flops=1.31, top1=95.55, top5=99.91, **CIFAR,
             weights="resnet/resnet50_b16x8_cifar10_20210528-f54bfad9.pth"),
    page_row("resnet101_8xb16_cifar10", "resnet101_cifar", params=42.51, flops=2.52, top1=95.58, top5=99.87, **CIFAR,
             weights="resnet/resnet101_b16x8_cifar10_20210528-2d29e936.pth"),
    page_row("resnet152_8xb16_cifar10", "resnet152_cifar", params=58.16, flops=3.74, top1=95.76, top5=99.89, **CIFAR,
             weights="resnet/resnet152_b16x8_cifar10_20210528-3e8e9178.pth"),
    page_row("resnet50_8xb16_cifar100", "resnet50_cifar", params=23.71, flops=1.31, top1=79.90, top5=95.19,
             classes=100, size=32, weights="resnet/resnet50_b16x8_cifar100_20210528-67b58a1b.pth"),
    page_row("resnet18_8xb32_in1k", "resnet18", params=11.69, flops=1.82, top1=69.90, top5=89.43,
             weights="resnet/resnet18_8xb32_in1k_20210831-fbbb1da6.pth"),
    page_row("resnet34_8xb32_in1k", "resnet34", params=21.8, flops=3.68, top1=73.62, top5=91.59,
             weights="resnet/resnet34_8xb32_in1k_20210831-f257d4e6.pth"),
    page_row("resnet50_8xb32_in1k", "resnet50", params=25.56, flops=4.12, top1=76.55, top5=93.06,
             weights="resnet/resnet50_8xb32_in1k_20210831-ea4938fc.pth"),
    page_row("resnet101_8xb32_in1k", "resnet101", params=44.55, flops=7.85, top1=77.97, top5=94.06,
             weights="resnet/resnet101_8xb32_in1k_20210831-539c63f8.pth"),
    page_row("resnet152_8xb32_in1k", "resnet152", params=60.19, flops=11.58, top1=78.48, top5=94.13,
             weights="resnet/resnet152_8xb32_in1k_20210901-4d7582fa.pth"),
    page_row("resnetv1c50_8xb32_in1k", "resnetv1c50", params=25.58, flops=4.36, top1=77.01, top5=93.58,
             weights="resnet/resnetv1c50_8xb32_in1k_20220214-3343eccd.pth"),
    page_row("resnetv1c101_8xb32_in1k", "resnetv1c101", params=44.57, flops=8.09, top1=78.30, top5=94.27,
             weights="resnet/resnetv1c101_8xb32_in1k_20220214-434fe45f.pth"),
    page_row("resnetv1c152_8xb32_in1k", "resnetv1c152", params=60.21, flops=11.82, top1=78.76, top5=94.41,
             weights="resnet/resnetv1c152_8xb32_in1k_20220214-c013291f.pth"),
    page_row("resnetv1d50_8xb32_in1k", "resnetv1d50", params=25.58, flops=4.36, top1=77.54, top5=93.57,
             weights="resnet/resnetv1d50_b32x8_imagenet_20210531-db14775a.pth"),
    page_row("resnetv1d101_8xb32_in1k", "resnetv1d101", params=44.57, flops=8.09, top1=78.93, top5=94.48,
             weights="resnet/resnetv1d101_b32x8_imagenet_20210531-6e13bcd3.pth"),
    page_row("resnetv1d152_8xb32_in1k", "resnetv1d152", params=60.21, flops=11.82, top1=79.41, top5=94.70,
             weights="resnet/resnetv1d152_b32x8_imagenet_20210531-278cf22a.pth"),
    page_row("resnet50_8xb32-fp16_in1k", "resnet50", params=25.56, flops=4.12, top1=76.30, top5=93.07,
             weights="fp16/resnet50_batch256_fp16_imagenet_20210320-b3964210.pth"),
    page_row("wide-resnet50_8xb32_in1k", "wide_resnet50_2", params=68.88, flops=11.44, top1=78.48, top5=94.08,
             weights="resnet/wide-resnet50_3rdparty_8xb32_in1k_20220304-66678344.pth"),
    page_row("wide-resnet101_8xb32_in1k", "wide_resnet101_2", params=126.89, flops=22.81, top1=78.84, top5=94.28,
             weights="resnet/wide-resnet101_3rdparty_8xb32_in1k_20220304-8d5f9d61.pth"),
    page_row("resnet50_8xb256-rsb-a1-600e_in1k", "resnet50", params=25.56, flops=4.12, top1=80.12, top5=94.78,
             weights="resnet/resnet50_8xb256-rsb-a1-600e_in1k_20211228-20e21305.pth"),
    page_row("resnet50_8xb256-rsb-a2-300e_in1k", "resnet50", params=25.56, flops=4.12, top1=79.55, top5=94.37,
             weights="resnet/resnet50_8xb256-rsb-a2-300e_in1k_20211228-0fd8be6e.pth"),
    page_row("resnet50_8xb256-rsb-a3-100e_in1k", "resnet50", params=25.56, flops=4.12, top1=78.30, top5=93.80,
             weights="resnet/resnet50_8xb256-rsb-a3-100e_in1k_20211228-3493673c.pth"),
    page_row("resnet50_8xb8_cub", "resnet50", params=23.92, flops=16.48, top1=88.45, top5=None, classes=200, size=448,
             weights="resnet/resnet50_8xb8_cub_20220307-57840e60.pth"),
    page_row("resnet50-mill_in21k", "resnet50", params=86.74, flops=15.14, top1=None, top5=None, classes=11221,
             weights="resnet/resnet50_3rdparty-mill_in21k_20220331-faac000b.pth"),
]  # fmt: skip

PAPER_CIFAR_ERRORS = {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17, "resnet56": 6.97, "resnet110": 6.43,
                      "resnet1202": 7.93}  # fmt: skip
PAPER_CIFAR_PARAMS = {"resnet20": "0.27", "resnet32": "0.46", "resnet44": "0.66", "resnet56": "0.85",
                      "resnet110": "1.7", "resnet1202": "19.4"}  # 10^6, table 6  # fmt: skip
REPRODUCED = {"resnet20": "results/fast-resnet20.json"}  # by a shorter recipe than the paper's
PAPER_CIFAR = [f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)]
# top-1 and top-5 error on ImageNet's validation images, averaged over ten crops
PAPER_IMAGENET_ERRORS: dict[str, tuple[float, float | None]] = {
    "plain18": (27.94, None),
    "plain34": (28.54, 10.02),
    "resnet18_a": (27.88, None),
    "resnet34_a": (25.03, 7.76),
    "resnet34": (24.52, 7.46),
    "resnet34_c": (24.19, 7.40),
    "resnet50_caffe": (22.85, 6.71),
    "resnet101_caffe": (21.75, 6.05),
    "resnet152_caffe": (21.43, 5.71),
    "vgg16": (28.07, 9.33),
}
PAPER_IMAGENET = [
    *("plain18", "plain34", "resnet18_a", "resnet18", "resnet18_c", "resnet34_a", "resnet34", "resnet34_c"),
    *("resnet50_caffe", "resnet101_caffe", "resnet152_caffe", "vgg16", "vgg19"),
]


def paper_net(name: str) -> ZooEntry:
    """Make the entry of one of the paper's ImageNet nets."""
    top1_error, top5_error = PAPER_IMAGENET_ERRORS.get(name, (None, None))
    source = "paper" if top1_error is None else "paper, 10 crops"
    top1, top5 = (None if error is None else fraction(100 - error) for error in (top1_error, top5_error))
    return ZooEntry(name, name, 1000, 224, source, top1, top5)


def paper_cifar_net(name: str) -> ZooEntry:
    """Make the entry of one of the paper's CIFAR-10 nets; the 110-layer net's figure is the best of five runs."""
    error = PAPER_CIFAR_ERRORS.get(name)
    source = "paper, best of 5" if name == "resnet110" else "paper"
    top1 = None if error is None else fraction(100 - error)
    return ZooEntry(name, name, 10, 32, source, top1, reproduced=REPRODUCED.get(name))


ZOO: dict[str, ZooEntry] = {
    entry.name: entry for entry in (*PAGE, *map(paper_cifar_net, PAPER_CIFAR), *map(paper_net, PAPER_IMAGENET))
}


def zoo_rows() -> list[dict[str, Any]]:
    """Return every net with its cost, counted now, as JSON data."""
    return [zoo_row(entry) for entry in ZOO.values()]


def zoo_row(entry: ZooEntry) -> dict[str, Any]:
    """Return one net with its cost, counted now, as JSON data."""
    return {
        "name": entry.name,
        "model": entry.model,
        "num_classes": entry.num_classes,
        "image_size": entry.image_size,
        **asdict(entry.cost()),
        "top1": entry.top1,
        "top5": entry.top5,
        "source": entry.source,
        "trainable": entry.name in RECIPES,
        "printed_params_millions": entry.printed and entry.printed.params,
        "printed_flops_billions": entry.printed and entry.printed.flops,
        "notes": list(entry.notes),
        "weights": entry.weights,
        "comes_with_weights": entry.name in SHIPPED,
        "net_proven_by": PARITY if entry.on_page else None,
        "accuracy_reproduced_by": entry.reproduced,
    }
