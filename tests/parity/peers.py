"""The nets of other libraries, built without weights, and their tensors under our names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import timm.models.resnet as timm_resnet
import torchvision.models
import transformers
from mmpretrain.registry import MODELS as MMPRETRAIN
from torch import Tensor, nn

from resnetkit.layouts.contents import from_foreign
from resnetkit.models import Architecture

DEPTHS: dict[tuple[int, ...], int] = {(2, 2, 2, 2): 18, (3, 4, 6, 3): 34, (3, 4, 23, 3): 101, (3, 8, 36, 3): 152}
Rename = Callable[[Mapping[str, Tensor]], dict[str, Tensor]]


@dataclass(frozen=True)
class Peer:
    """One library's version of an architecture."""

    library: str
    build: Callable[[], nn.Module]  # its forward gives logits [N, classes]
    to_ours: Rename  # its tensors (weights or gradients) under our names


class Logits(nn.Module):
    """A peer whose forward gives more than logits, or wants to be asked for them."""

    def __init__(self, net: nn.Module, ask: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.net = net
        self.ask = ask

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, classes] of images [N, 3, H, W]."""
        return self.ask(self.net, images)


def depth_of(arch: Architecture) -> int:
    """Return the number that the libraries know a net by."""
    return 50 if arch.block == "bottleneck" and arch.depths == (3, 4, 6, 3) else DEPTHS[arch.depths]


def peers_of(arch: Architecture) -> list[Peer]:
    """Return every library's version of `arch`; mmpretrain has all, the others most of the ImageNet nets."""
    peers = [Peer("mmpretrain", partial(build_mmpretrain, arch), partial(from_layout, "net."))]
    if arch.stem == "7x7":
        peers.append(Peer("torchvision", partial(build_torchvision, arch), partial(from_layout, "")))
        if arch.width_factor == 1:
            peers.append(Peer("transformers", partial(build_transformers, arch), partial(from_layout, "net.")))
    if arch.stem != "3x3":
        peers.append(Peer("timm", partial(build_timm, arch), partial(from_layout, "")))
    return peers


def from_layout(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename with the tables of the package itself, once our own wrapper's prefix is off."""
    return from_foreign({name.removeprefix(prefix): value for name, value in tensors.items()}).tensors


def mmpretrain_config(arch: Architecture) -> dict[str, Any]:
    """Return the model of a row's config (configs/_base_/models) as mmpretrain builds it."""
    stem = {"7x7": "ResNet", "3x3": "ResNet_CIFAR", "deep": "ResNetV1c"}[arch.stem]
    backbone = {"type": "ResNetV1d" if arch.avg_down else stem, "depth": depth_of(arch), "style": arch.stride_style}
    if arch.width_factor > 1:
        wide = {"base_channels": 64 * arch.width_factor, "expansion": 4 // arch.width_factor}
        backbone |= {"stem_channels": 64} | wide
    channels = arch.widths[-1] * arch.expansion
    head = {"type": "LinearClsHead", "num_classes": arch.num_classes, "in_channels": channels}
    return {
        "type": "ImageClassifier",
        "backbone": backbone,
        "neck": {"type": "GlobalAveragePooling"},
        "head": head | {"loss": {"type": "CrossEntropyLoss", "loss_weight": 1.0}},
    }


def build_mmpretrain(arch: Architecture) -> nn.Module:
    """Build mmpretrain's net."""
    return Logits(MMPRETRAIN.build(mmpretrain_config(arch)), lambda net, images: net(images, mode="tensor"))


def build_torchvision(arch: Architecture) -> nn.Module:
    """Build torchvision's net."""
    name = f"wide_resnet{depth_of(arch)}_2" if arch.width_factor == 2 else f"resnet{depth_of(arch)}"
    net: nn.Module = getattr(torchvision.models, name)(num_classes=arch.num_classes)
    return net


def build_timm(arch: Architecture) -> nn.Module:
    """Build timm's net: resnet50, resnet50c, resnet50d, wide_resnet50_2 and their like."""
    letter = "d" if arch.avg_down else {"deep": "c"}.get(arch.stem, "")
    name = f"wide_resnet{depth_of(arch)}_2" if arch.width_factor == 2 else f"resnet{depth_of(arch)}{letter}"
    net: nn.Module = getattr(timm_resnet, name)(num_classes=arch.num_classes)
    return net


def build_transformers(arch: Architecture) -> nn.Module:
    """Build the net of transformers, with the stride on the 3x3."""
    config = transformers.ResNetConfig(
        depths=list(arch.depths),
        hidden_sizes=[width * arch.expansion for width in arch.widths],
        layer_type=arch.block,
        num_labels=arch.num_classes,
    )
    net = transformers.ResNetForImageClassification(config)
    return Logits(net, lambda net, images: net(images).logits)
