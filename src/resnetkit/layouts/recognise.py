"""A net's architecture from the names and shapes of its tensors alone, and whether they all fit.

What tensors cannot tell (a plain net or shortcut option A; where a strided bottleneck has its stride) takes a
stated default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from resnetkit.errors import WeightsError
from resnetkit.models import Architecture, ResNet
from resnetkit.models.resnet import Shortcut, Stem, StrideStyle

DIMENSIONS = {"conv": 4, "fc": 2, "bn": 1}  # of the weights of a convolution, a linear layer and a norm
SHOWN_NAMES = 6
A_TENSOR_OF_OURS = re.compile(
    r"(conv1(\.\d)?|bn1|layer\d+\.\d+\.(conv[123]|bn[123]|downsample\.\d)|fc)"
    r"\.(weight|bias|running_mean|running_var|num_batches_tracked)"
)


def recognise(
    tensors: Mapping[str, Tensor],
    *,
    plain: bool = False,  # no shortcuts: the tensors of a plain net are those of option A
    stride_style: StrideStyle = "pytorch",
) -> Architecture:
    """Tell the architecture of tensors under our names; WeightsError says what is not like a ResNet."""
    require(tensors, "fc.weight", "bn1.weight", "layer1.0.conv1.weight", "layer1.0.conv2.weight")
    stem, stem_conv = recognise_stem(tensors)
    depths = count_blocks(tensors)
    bottleneck = "layer1.0.conv3.weight" in tensors
    widths, width_factor = recognise_widths(tensors, len(depths), bottleneck)
    stem_width = tensors["bn1.weight"].shape[0]
    if min(*widths, width_factor, stem_width // (2 if stem == "deep" else 1)) < 1:
        got = f"got widths {widths}, times {width_factor} in the first block, and {stem_width} channels after the stem"
        raise WeightsError("the channels are not those of a residual net", got)
    widened = stem_width != widths[0] * (4 if bottleneck else 1)
    return Architecture(
        block="bottleneck" if bottleneck else "basic",
        depths=depths,
        widths=widths,
        width_factor=width_factor,
        stem=stem,
        stem_width=stem_width,
        shortcut=recognise_shortcut(tensors, widened=widened, plain=plain),
        avg_down="layer2.0.downsample.2.weight" in tensors,
        stride_style=stride_style if bottleneck else "pytorch",  # a basic block has one place for it
        num_classes=tensors["fc.weight"].shape[0],
        in_channels=stem_conv.shape[1],
    )


def recognise_widths(tensors: Mapping[str, Tensor], stages: int, bottleneck: bool) -> tuple[tuple[int, ...], int]:
    """Return the width of each stage, and how much wider the first block's inner convolutions are."""
    last_conv, expansion = ("conv3", 4) if bottleneck else ("conv2", 1)
    names = [f"layer{stage}.0.{last_conv}.weight" for stage in range(1, stages + 1)]
    require(tensors, *names)
    widths = tuple(tensors[name].shape[0] // expansion for name in names)
    inner = tensors["layer1.0.conv1.weight"].shape[0]
    return widths, inner // max(1, widths[0]) if bottleneck else 1


def require(tensors: Mapping[str, Tensor], *names: str) -> None:
    """Refuse tensors that lack what every net of ours has, or have it with another number of dimensions."""
    missing = [name for name in names if name not in tensors]
    if missing == ["fc.weight"]:
        raise WeightsError("a backbone without a head", "next: train --init-from FILE starts from it, with a new head")
    if missing:
        some = ", ".join(list(tensors)[:SHOWN_NAMES])
        strange = [name for name in tensors if not A_TENSOR_OF_OURS.fullmatch(name)]
        unexpected = [f"unexpected: {shorten(strange)}"] if strange else []
        what = "not a residual net of a known layout"
        raise WeightsError(what, f"got {some}, ...", f"missing: {', '.join(missing)}", *unexpected)
    for name in names:
        ndim = next(ndim for part, ndim in DIMENSIONS.items() if part in name)
        if tensors[name].ndim != ndim or tensors[name].numel() == 0:
            got = f"got {name} {list(tensors[name].shape)}"
            raise WeightsError("not the tensors of a residual net", got, f"expected {ndim} dimensions, none empty")


def recognise_stem(tensors: Mapping[str, Tensor]) -> tuple[Stem, Tensor]:
    """Return the kind of stem and its first convolution's weight."""
    if "conv1.0.weight" in tensors:
        require(tensors, "conv1.0.weight")
        return "deep", tensors["conv1.0.weight"]
    require(tensors, "conv1.weight")
    weight = tensors["conv1.weight"]
    kinds: dict[int, Stem] = {7: "7x7", 3: "3x3"}
    if weight.shape[-1] not in kinds:
        raise WeightsError("unknown stem", f"got conv1.weight {list(weight.shape)}", "expected a 7x7 or 3x3 kernel")
    return kinds[weight.shape[-1]], weight


def count_blocks(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Count the blocks of each stage; they must be numbered without a gap."""
    found: dict[int, set[int]] = {}
    for name in tensors:
        if match := re.match(r"layer(\d+)\.(\d+)\.", name):
            found.setdefault(int(match[1]), set()).add(int(match[2]))
    for stage, blocks in found.items():
        if blocks != set(range(len(blocks))) or stage > len(found):
            raise WeightsError("blocks are missing", f"got blocks {sorted(blocks)} in layer{stage}")
    return tuple(len(found[stage]) for stage in sorted(found))


def recognise_shortcut(tensors: Mapping[str, Tensor], *, widened: bool, plain: bool) -> Shortcut:
    """Tell the shortcut option from where projections are; `widened`: the first block changes the channels."""
    projected = {name.split(".downsample.")[0] for name in tensors if ".downsample." in name}
    if projected and plain:
        raise WeightsError("the net has projection shortcuts: it is not plain")
    if not projected:
        return "plain" if plain else "A"
    # option B projects only where a stage starts, and in layer1 only to change the channels
    beyond_b = [name for name in projected if not name.endswith(".0") or (name == "layer1.0" and not widened)]
    return "C" if beyond_b else "B"


def load_checked(model: torch.nn.Module, tensors: Mapping[str, Tensor]) -> int:
    """Load tensors into a model, every one of them; returns how many were used.

    A counter of batches that is missing (files before torch 0.4.1) is left at zero; anything else missing,
    unexpected, of another shape or of a dtype that cannot be is refused with the names.
    """
    refuse_misfits(model.state_dict(), tensors)
    model.load_state_dict(dict(tensors), strict=False)
    return len(tensors)


def build_with(arch: Architecture, tensors: Mapping[str, Tensor]) -> ResNet:
    """Build a net in eval mode with these tensors, every one of them; no weights are drawn only to be replaced."""
    with torch.device("meta"):
        model = ResNet(arch)
    wanted = model.state_dict()
    refuse_misfits(wanted, tensors)
    counters = {name: torch.zeros((), dtype=torch.int64) for name in wanted if name.endswith("num_batches_tracked")}
    model.to_empty(device="cpu").load_state_dict(counters | dict(tensors))
    return model.eval()


def check_fit(arch: Architecture, tensors: Mapping[str, Tensor]) -> int:
    """Say how many tensors a net of `arch` would use, which is all, or refuse; no memory is taken for the net."""
    refuse_misfits(tensor_shapes(arch), tensors)
    return len(tensors)


def tensor_shapes(arch: Architecture) -> dict[str, Tensor]:
    """Return the state dict of a net without memory behind it, in its order."""
    with torch.device("meta"):
        return dict(ResNet(arch).state_dict())


def refuse_misfits(wanted: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that are not those of the state dict `wanted`, with all the names."""
    both = {name: (tensors[name], value) for name, value in wanted.items() if name in tensors}
    groups = {
        "missing": [n for n in wanted if n not in tensors and not n.endswith("num_batches_tracked")],
        "unexpected": [name for name in tensors if name not in wanted],
        "other shape": [
            f"{name} {list(ours.shape)} instead of {list(value.shape)}"
            for name, (ours, value) in both.items()
            if ours.shape != value.shape
        ],
        "wrong dtype": [
            f"{name} {dtype_name(ours)} instead of {'floats' if value.is_floating_point() else 'whole numbers'}"
            for name, (ours, value) in both.items()
            if kind_of(ours) != kind_of(value)
        ],
    }
    problems = [f"{what}: {shorten(names)}" for what, names in groups.items() if names]
    if problems:
        raise WeightsError("the weights do not fit the architecture", *problems)


def kind_of(value: Tensor) -> str:
    """Return "float", "whole" or the dtype of what is neither; floats of 8 bits and less need scales of their own."""
    if value.is_floating_point() and value.dtype.itemsize > 1:
        return "float"
    other = value.is_floating_point() or value.is_complex() or value.dtype == torch.bool
    return dtype_name(value) if other else "whole"


def dtype_name(value: Tensor) -> str:
    """Return a dtype as in float16."""
    return str(value.dtype).removeprefix("torch.")


def shorten(names: list[str]) -> str:
    """Write the first names and how many more there are."""
    more = f", ... ({len(names)} in all)" if len(names) > SHOWN_NAMES else ""
    return ", ".join(names[:SHOWN_NAMES]) + more
