"""The published nets: the rows of the OpenMMLab ResNet page and the nets of the paper.

Published figures are those of the page (mmclassification v0.23.0) and of arXiv 1512.03385, table 6.
Costs are counted from the built net at each call.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from torch import nn

from resnetkit.data.spec import CIFAR10
from resnetkit.models import MODELS, ResNet
from resnetkit.models.counting import Cost, count
from resnetkit.models.vgg import CONVS_PER_STAGE, Vgg
from resnetkit.recipes import cifar

CIFAR100_MEAN = (129.304 / 255, 124.070 / 255, 112.434 / 255)  # mmclassification's cifar100_bs16.py
CIFAR100_STD = (68.170 / 255, 65.392 / 255, 70.418 / 255)


@dataclass(frozen=True)
class Published:
    """Weights on the page that can be evaluated here: their file, and the input they were trained for."""

    file: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    class_names: tuple[str, ...] | None


@dataclass(frozen=True)
class ZooEntry:
    """One net of the page or of the paper, at the input size of its row."""

    name: str
    model: str  # a name of MODELS, or vgg16, vgg19
    num_classes: int
    image_size: int  # pixels a side
    source: str  # "page" or "paper"
    top1: float | None = None  # published fractions
    top5: float | None = None
    published: Published | None = None

    def build(self) -> nn.Module:
        """Build the net, with random weights."""
        if self.model in CONVS_PER_STAGE:
            return Vgg(CONVS_PER_STAGE[self.model], self.num_classes)
        return ResNet(replace(MODELS[self.model], num_classes=self.num_classes))

    def cost(self) -> Cost:
        """Count parameters and multiply-adds from the built net."""
        return count(self.build, self.image_size)


def page_entry(
    name: str, model: str, num_classes: int, image_size: int, top1: float | None, top5: float | None
) -> ZooEntry:
    """Make a row of the page from its percentages."""
    return ZooEntry(
        name,
        model,
        num_classes,
        image_size,
        source="page",
        top1=top1 and round(top1 / 100, 6),
        top5=top5 and round(top5 / 100, 6),
        published=PUBLISHED.get(name),
    )


def cifar10_file(file: str) -> Published:
    """Describe a CIFAR-10 file of the page."""
    return Published(file, cifar.MEAN, cifar.STD, CIFAR10.class_names)


PUBLISHED = {
    "resnet18_8xb16_cifar10": cifar10_file("resnet18_b16x8_cifar10_20210528-bd6371c8.pth"),
    "resnet34_8xb16_cifar10": cifar10_file("resnet34_b16x8_cifar10_20210528-a8aa36a6.pth"),
    "resnet50_8xb16_cifar10": cifar10_file("resnet50_b16x8_cifar10_20210528-f54bfad9.pth"),
    "resnet101_8xb16_cifar10": cifar10_file("resnet101_b16x8_cifar10_20210528-2d29e936.pth"),
    "resnet152_8xb16_cifar10": cifar10_file("resnet152_b16x8_cifar10_20210528-3e8e9178.pth"),
    "resnet50_8xb16_cifar100": Published(
        "resnet50_b16x8_cifar100_20210528-67b58a1b.pth", CIFAR100_MEAN, CIFAR100_STD, None
    ),
}

PAGE = [
    page_entry("resnet18_8xb16_cifar10", "resnet18_cifar", 10, 32, 94.82, 99.87),
    page_entry("resnet34_8xb16_cifar10", "resnet34_cifar", 10, 32, 95.34, 99.87),
    page_entry("resnet50_8xb16_cifar10", "resnet50_cifar", 10, 32, 95.55, 99.91),
    page_entry("resnet101_8xb16_cifar10", "resnet101_cifar", 10, 32, 95.58, 99.87),
    page_entry("resnet152_8xb16_cifar10", "resnet152_cifar", 10, 32, 95.76, 99.89),
    page_entry("resnet50_8xb16_cifar100", "resnet50_cifar", 100, 32, 79.90, 95.19),
    page_entry("resnet18_8xb32_in1k", "resnet18", 1000, 224, 69.90, 89.43),
    page_entry("resnet34_8xb32_in1k", "resnet34", 1000, 224, 73.62, 91.59),
    page_entry("resnet50_8xb32_in1k", "resnet50", 1000, 224, 76.55, 93.06),
    page_entry("resnet101_8xb32_in1k", "resnet101", 1000, 224, 77.97, 94.06),
    page_entry("resnet152_8xb32_in1k", "resnet152", 1000, 224, 78.48, 94.13),
    page_entry("resnetv1c50_8xb32_in1k", "resnetv1c50", 1000, 224, 77.01, 93.58),
    page_entry("resnetv1c101_8xb32_in1k", "resnetv1c101", 1000, 224, 78.30, 94.27),
    page_entry("resnetv1c152_8xb32_in1k", "resnetv1c152", 1000, 224, 78.76, 94.41),
    page_entry("resnetv1d50_8xb32_in1k", "resnetv1d50", 1000, 224, 77.54, 93.57),
    page_entry("resnetv1d101_8xb32_in1k", "resnetv1d101", 1000, 224, 78.93, 94.48),
    page_entry("resnetv1d152_8xb32_in1k", "resnetv1d152", 1000, 224, 79.41, 94.70),
    page_entry("resnet50_8xb32-fp16_in1k", "resnet50", 1000, 224, 76.30, 93.07),
    page_entry("wide-resnet50_8xb32_in1k", "wide_resnet50_2", 1000, 224, 78.48, 94.08),
    page_entry("wide-resnet101_8xb32_in1k", "wide_resnet101_2", 1000, 224, 78.84, 94.28),
    page_entry("resnet50_8xb256-rsb-a1-600e_in1k", "resnet50", 1000, 224, 80.12, 94.78),
    page_entry("resnet50_8xb256-rsb-a2-300e_in1k", "resnet50", 1000, 224, 79.55, 94.37),
    page_entry("resnet50_8xb256-rsb-a3-100e_in1k", "resnet50", 1000, 224, 78.30, 93.80),
    page_entry("resnet50_8xb8_cub", "resnet50", 200, 448, 88.45, None),
    page_entry("resnet50-mill_in21k", "resnet50", 11221, 224, None, None),
]

PAPER_CIFAR_TOP1 = {  # single view; the 110-layer net's is the best of five runs
    "resnet20": 0.9125,
    "resnet32": 0.9249,
    "resnet44": 0.9283,
    "resnet56": 0.9303,
    "resnet110": 0.9357,
    "resnet1202": 0.9207,
}
PAPER_CIFAR = [f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)]
PAPER_IMAGENET = [
    *("plain18", "plain34", "resnet18_a", "resnet18", "resnet18_c", "resnet34_a", "resnet34", "resnet34_c"),
    *("resnet50_caffe", "resnet101_caffe", "resnet152_caffe", "vgg16", "vgg19"),
]
PAPER = [
    *(ZooEntry(name, name, 10, 32, "paper", PAPER_CIFAR_TOP1.get(name)) for name in PAPER_CIFAR),
    *(ZooEntry(name, name, 1000, 224, "paper") for name in PAPER_IMAGENET),
]
ZOO: dict[str, ZooEntry] = {entry.name: entry for entry in PAGE + PAPER}


def zoo_rows() -> list[dict[str, Any]]:
    """Return every net with its cost, counted now, as JSON data."""
    return [
        {
            "name": entry.name,
            "model": entry.model,
            "num_classes": entry.num_classes,
            "image_size": entry.image_size,
            **asdict(entry.cost()),
            "top1": entry.top1,
            "top5": entry.top5,
            "source": entry.source,
        }
        for entry in ZOO.values()
    ]
