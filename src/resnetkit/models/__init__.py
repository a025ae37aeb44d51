"""The nets: one table of architectures by name, and how to build them."""

from __future__ import annotations

import re
from dataclasses import replace

from resnetkit.errors import BadRequest, did_you_mean
from resnetkit.models.resnet import Architecture, ResNet, Shortcut
from resnetkit.models.resnet_cifar import cifar_architecture

RESNET18 = Architecture(block="basic", depths=(2, 2, 2, 2))
RESNET34 = Architecture(block="basic", depths=(3, 4, 6, 3))
RESNET50 = Architecture(block="bottleneck", depths=(3, 4, 6, 3))
RESNET101 = Architecture(block="bottleneck", depths=(3, 4, 23, 3))
RESNET152 = Architecture(block="bottleneck", depths=(3, 8, 36, 3))

BY_DEPTH = {18: RESNET18, 34: RESNET34, 50: RESNET50, 101: RESNET101, 152: RESNET152}
BOTTLENECKS = {depth: arch for depth, arch in BY_DEPTH.items() if arch.block == "bottleneck"}

MODELS: dict[str, Architecture] = {
    # one basic block: for tests
    "resnet4_tiny": Architecture(block="basic", depths=(1,), widths=(8,), stem="3x3", stem_width=8, num_classes=10),
    **{f"resnet{depth}": arch for depth, arch in BY_DEPTH.items()},
    **{f"resnetv1c{depth}": replace(arch, stem="deep") for depth, arch in BOTTLENECKS.items()},
    **{f"resnetv1d{depth}": replace(arch, stem="deep", avg_down=True) for depth, arch in BOTTLENECKS.items()},
    "wide_resnet50_2": replace(RESNET50, width_factor=2),
    "wide_resnet101_2": replace(RESNET101, width_factor=2),
    **{f"resnet{depth}_caffe": replace(arch, stride_style="caffe") for depth, arch in BOTTLENECKS.items()},
    # the page's CIFAR nets: the ImageNet stages behind a 3x3 stem
    **{f"resnet{depth}_cifar": replace(arch, stem="3x3", num_classes=10) for depth, arch in BY_DEPTH.items()},
    # the paper's ImageNet nets beside option B
    "resnet18_a": replace(RESNET18, shortcut="A"),
    "resnet18_c": replace(RESNET18, shortcut="C"),
    "resnet34_a": replace(RESNET34, shortcut="A"),
    "resnet34_c": replace(RESNET34, shortcut="C"),
    "plain18": replace(RESNET18, shortcut="plain"),
    "plain34": replace(RESNET34, shortcut="plain"),
    # the paper's CIFAR nets; any other depth 6n+2 is found by `find_architecture`
    **{f"resnet{6 * n + 2}": cifar_architecture(n) for n in (3, 5, 7, 9, 18, 200)},
    **{f"plain{6 * n + 2}": cifar_architecture(n, "plain") for n in (3, 5, 7, 9, 18, 200)},
}

SHORTCUTS: dict[str, Shortcut] = {"a": "A", "b": "B", "c": "C"}


def find_architecture(name: str) -> Architecture:
    """Return the architecture called `name`.

    Beside the names of MODELS: `resnet<6n+2>` and `plain<6n+2>` for any n, and `resnet<6n+2>_a|b|c` for the shortcut
    options.  resnet50 and resnet152 are ImageNet nets: the 6n+2 nets of these depths are `resnet50_6n2`, and so on.
    Raises BadRequest for any other name.
    """
    if name in MODELS:
        return MODELS[name]
    match = re.fullmatch(r"resnet(\d+)(_6n2)?(?:_([abc]))?|plain(\d+)", name)
    depth = int(match[1] or match[4]) if match else 0
    ambiguous = match and match[1] and depth in BY_DEPTH and not match[2]
    if match and not ambiguous and depth >= 8 and depth % 6 == 2:
        shortcut: Shortcut = "plain" if match[4] else SHORTCUTS[match[3] or "a"]
        return cifar_architecture((depth - 2) // 6, shortcut)
    raise BadRequest(
        f"unknown model {name!r}{did_you_mean(name, MODELS)}",
        f"known: {', '.join(sorted(MODELS))}, and resnet<6n+2>, plain<6n+2>",
    )


def name_of(arch: Architecture) -> str:
    """Return the name of an architecture, whatever its number of classes and channels."""
    for name, known in MODELS.items():
        if replace(known, num_classes=arch.num_classes, in_channels=arch.in_channels) == arch:
            return name
    n = arch.depths[0]
    options: tuple[Shortcut, ...] = ("A", "B", "C", "plain")
    for shortcut in options:
        twin = cifar_architecture(n, shortcut, arch.num_classes)
        if replace(twin, in_channels=arch.in_channels) == arch:
            if shortcut == "plain":
                return f"plain{6 * n + 2}"
            family = "_6n2" if 6 * n + 2 in BY_DEPTH else ""
            return f"resnet{6 * n + 2}{family}{'' if shortcut == 'A' else '_' + shortcut.lower()}"
    return f"{arch.block} {'-'.join(map(str, arch.depths))}"


__all__ = ["MODELS", "Architecture", "ResNet", "cifar_architecture", "find_architecture", "name_of"]
