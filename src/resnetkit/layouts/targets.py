"""What each layout can hold, and our tensors under its names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from resnetkit.errors import BadRequest
from resnetkit.layouts.tables import HUGGINGFACE, Rows, Target, openmmlab_rows, to_theirs
from resnetkit.models import BY_DEPTH, Architecture

STAGE_WIDTHS, STEM_WIDTH = (64, 128, 256, 512), 64
Limits = Callable[[Architecture], list[str]]  # the reasons why a net is not to be had there


@dataclass(frozen=True)
class Layout:
    """One library's way to keep a ResNet."""

    rows: Callable[[Architecture], Rows]
    limits: Limits
    endings: tuple[str, ...]  # of a file; none for a folder


def to_layout(tensors: Mapping[str, Tensor], arch: Architecture, target: Target) -> dict[str, Tensor]:
    """Bring a net's tensors from our names under those of a layout; BadRequest says why one cannot hold the net."""
    refuse_inexpressible(arch, target)
    return to_theirs(tensors, LAYOUTS[target].rows(arch))


def refuse_inexpressible(arch: Architecture, target: Target) -> None:
    """Refuse a layout that cannot hold the net, with every reason."""
    reasons = LAYOUTS[target].limits(arch)
    if reasons:
        able = [name for name, layout in LAYOUTS.items() if not layout.limits(arch)]
        raise BadRequest(f"{target} cannot express this net", *reasons, f"next: --to {' or '.join(able)}, which can")


def shared_limits(arch: Architecture) -> list[str]:
    """Return what none of the other libraries has: shortcuts other than option B."""
    if arch.shortcut == "plain":
        return ["it is a plain net, and all nets there have shortcuts"]
    if arch.shortcut != "B":
        return [f"its shortcuts are the paper's option {arch.shortcut}, there they are option B"]
    return []


def stage_limits(arch: Architecture) -> list[str]:
    """Return in what a net differs from the four stages of the ImageNet nets."""
    reasons = []
    if arch.widths != STAGE_WIDTHS:
        reasons.append(f"its stages have {shown(arch.widths)} channels, there they have {shown(STAGE_WIDTHS)}")
    if arch.stem_width != STEM_WIDTH:
        reasons.append(f"its stem has {arch.stem_width} channels, there it has {STEM_WIDTH}")
    return reasons


def style_limits(arch: Architecture) -> list[str]:
    """Return that a stride on the first 1x1 is not there."""
    return ["its stride is on the first 1x1 (caffe), there on the 3x3"] if arch.stride_style == "caffe" else []


def stem_limits(arch: Architecture, *known: str) -> list[str]:
    """Return that a stem is not there."""
    return [] if arch.stem in known else [f"its stem is {arch.stem}, there it is {' or '.join(known)}"]


def pool_limits(arch: Architecture) -> list[str]:
    """Return that V1D's pooled shortcuts are not there."""
    return ["its shortcuts have an average pool (V1D)"] if arch.avg_down else []


def torchvision_limits(arch: Architecture) -> list[str]:
    """Return the reasons against torchvision.models.resnet.ResNet."""
    colours = [] if arch.in_channels == 3 else [f"it takes {arch.in_channels} channels, there it is 3"]
    stem = stem_limits(arch, "7x7")
    return [*shared_limits(arch), *stem, *pool_limits(arch), *style_limits(arch), *stage_limits(arch), *colours]


def timm_limits(arch: Architecture) -> list[str]:
    """Return the reasons against timm.models.resnet.ResNet."""
    return [*shared_limits(arch), *stem_limits(arch, "7x7", "deep"), *style_limits(arch), *stage_limits(arch)]


def openmmlab_limits(arch: Architecture) -> list[str]:
    """Return the reasons against mmpretrain's ResNet, ResNetV1c, ResNetV1d and ResNet_CIFAR."""
    reasons = [*shared_limits(arch), *stage_limits(arch)]
    if (arch.block, arch.depths) not in {(known.block, known.depths) for known in BY_DEPTH.values()}:
        depths = ", ".join(map(str, BY_DEPTH))
        reasons.append(f"its blocks are {arch.block} {shown(arch.depths)}, there are only depths {depths}")
    if 4 % arch.width_factor:
        reasons.append(f"its 3x3 are {arch.width_factor} times as wide, there 1, 2 or 4 times")
    return reasons


def huggingface_limits(arch: Architecture) -> list[str]:
    """Return the reasons against ResNetForImageClassification of transformers."""
    wide = [] if arch.width_factor == 1 else [f"its 3x3 are {arch.width_factor} times as wide (a wide net)"]
    return [*shared_limits(arch), *stem_limits(arch, "7x7"), *pool_limits(arch), *wide]


def shown(numbers: tuple[int, ...]) -> str:
    """Write numbers as in 64-128-256-512."""
    return "-".join(map(str, numbers))


def no_rows(arch: Architecture) -> Rows:
    """Return no renaming: our names are torchvision's, and for deep stems timm's."""
    return ()


LAYOUTS: dict[Target, Layout] = {
    "torchvision": Layout(no_rows, torchvision_limits, (".pth", ".pt")),
    "timm": Layout(no_rows, timm_limits, (".pth", ".pt", ".safetensors")),
    "openmmlab": Layout(
        lambda arch: openmmlab_rows(deep_stem=arch.stem == "deep", pooled=arch.avg_down),
        openmmlab_limits,
        (".pth",),
    ),
    "huggingface": Layout(lambda arch: HUGGINGFACE, huggingface_limits, ()),
    "resnetkit": Layout(no_rows, lambda arch: [], (".safetensors",)),
}
