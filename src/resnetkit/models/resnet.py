"""Residual networks: one class, described whole by an `Architecture`.

Covers the ResNets of He et al. (arXiv 1512.03385) with the stride on the 3x3 convolution ("pytorch")
or on the first 1x1 ("caffe"), the V1C and V1D variants (arXiv 1812.01187), wide nets (arXiv 1605.07146),
the CIFAR-stem nets of the OpenMMLab page, the 6n+2 nets of the paper, and all their plain twins.
Parameter names follow torchvision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch.nn.functional as F
from torch import Tensor, nn

Stem = Literal["7x7", "deep", "3x3"]
Shortcut = Literal["A", "B", "C", "plain"]
StrideStyle = Literal["pytorch", "caffe"]
Block = Literal["basic", "bottleneck"]
STEMS, SHORTCUTS, STRIDE_STYLES, BLOCKS = map(get_args, (Stem, Shortcut, StrideStyle, Block))


@dataclass(frozen=True)
class Architecture:
    """All that decides a net's parameters and its function; stored with the weights."""

    block: Block
    depths: tuple[int, ...]  # blocks in each stage
    widths: tuple[int, ...] = (64, 128, 256, 512)  # channels of the 3x3 convolutions, at width_factor 1
    width_factor: int = 1  # widens the 3x3 of a bottleneck only: 2 in the wide nets
    stem: Stem = "7x7"  # "7x7" and "deep" (three 3x3) end in a max pool, "3x3" keeps the resolution
    stem_width: int = 64  # channels after the stem
    shortcut: Shortcut = "B"  # the paper's options; "plain" has no shortcuts
    avg_down: bool = False  # V1D: average pool before the projection of a strided shortcut
    stride_style: StrideStyle = "pytorch"  # where a strided bottleneck has its stride
    num_classes: int = 1000
    in_channels: int = 3

    @property
    def expansion(self) -> int:
        """Output channels of a block, per channel of its width."""
        return 4 if self.block == "bottleneck" else 1


def architecture_from_json(data: dict[str, Any]) -> Architecture:
    """Build the architecture that `dataclasses.asdict` and JSON made plain data of.

    Raises TypeError or ValueError for what is none.
    """
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
    arch = Architecture(**values)
    for name, known in (("block", BLOCKS), ("stem", STEMS), ("shortcut", SHORTCUTS), ("stride_style", STRIDE_STYLES)):
        if getattr(arch, name) not in known:
            raise ValueError(f"{name} {getattr(arch, name)!r}")
    for name in ("depths", "widths", "width_factor", "stem_width", "num_classes", "in_channels"):
        counts = getattr(arch, name)
        counts = counts if isinstance(counts, tuple) else (counts,)
        if not counts or not all(type(count) is int and count > 0 for count in counts):
            raise ValueError(f"{name} {getattr(arch, name)!r}")
    return arch


def conv(in_channels: int, out_channels: int, kernel_size: int, stride: int = 1) -> nn.Conv2d:
    """Build a convolution without bias that keeps the size at stride 1."""
    return nn.Conv2d(in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False)


class DropPath(nn.Module):
    """Drop the residual branch of each sample with probability `rate` (arXiv 1603.09382), in training only."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, branch: Tensor) -> Tensor:
        """Scale the kept branches [N, C, H, W] by 1 / (1 - rate), so that the mean stays."""
        if not self.training or self.rate == 0.0:
            return branch
        keep = 1.0 - self.rate
        mask = branch.new_empty(branch.shape[0], 1, 1, 1).bernoulli_(keep)
        return branch * mask.div_(keep)

    def extra_repr(self) -> str:
        """Show the rate."""
        return f"rate={self.rate}"


class ZeroPadShortcut(nn.Module):
    """Option A: take every second pixel and pad the new channels with zeros, half on each side."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        before = (out_channels - in_channels) // 2
        self.padding = (before, out_channels - in_channels - before)

    def forward(self, images: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, ceil(H / stride), ceil(W / stride)]."""
        kept = images[:, :, :: self.stride, :: self.stride]
        return F.pad(kept, (0, 0, 0, 0, *self.padding))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut; `downsample` None with `residual` False is a plain block."""

    def __init__(self, in_channels: int, width: int, stride: int, downsample: nn.Module | None, residual: bool) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 3, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = conv(width, width, 3)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = downsample
        self.residual = residual
        self.drop_path: nn.Module = nn.Identity()

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The norm that zero-init starts at zero."""
        return self.bn2

    def forward(self, images: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, width, H / stride, W / stride]."""
        branch = self.relu(self.bn1(self.conv1(images)))
        branch = self.bn2(self.conv2(branch))
        activated: Tensor = self.relu(add_shortcut(self, branch, images))
        return activated


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and a shortcut."""

    def __init__(
        self,
        in_channels: int,
        width: int,
        out_channels: int,
        strides: tuple[int, int],  # of the first 1x1 and of the 3x3
        downsample: nn.Module | None,
        residual: bool,
    ) -> None:
        super().__init__()
        self.conv1 = conv(in_channels, width, 1, strides[0])
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv(width, width, 3, strides[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv(width, out_channels, 1)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.residual = residual
        self.drop_path: nn.Module = nn.Identity()

    @property
    def last_bn(self) -> nn.BatchNorm2d:
        """The norm that zero-init starts at zero."""
        return self.bn3

    def forward(self, images: Tensor) -> Tensor:
        """[N, in_channels, H, W] -> [N, out_channels, H / stride, W / stride]."""
        branch = self.relu(self.bn1(self.conv1(images)))
        branch = self.relu(self.bn2(self.conv2(branch)))
        branch = self.bn3(self.conv3(branch))
        activated: Tensor = self.relu(add_shortcut(self, branch, images))
        return activated


def add_shortcut(block: BasicBlock | Bottleneck, branch: Tensor, images: Tensor) -> Tensor:
    """Add the block's shortcut of `images` to its residual `branch`; plain blocks have none."""
    if not block.residual:
        return branch
    shortcut = images if block.downsample is None else block.downsample(images)
    added: Tensor = block.drop_path(branch).add_(shortcut)
    return added


def build_shortcut(arch: Architecture, in_channels: int, out_channels: int, stride: int) -> nn.Module | None:
    """Build what a block's shortcut applies to its input; None is the identity (or a plain block's nothing)."""
    changes = stride != 1 or in_channels != out_channels
    if arch.shortcut == "plain" or (not changes and arch.shortcut != "C"):
        return None
    if arch.shortcut == "A":
        return ZeroPadShortcut(in_channels, out_channels, stride)
    if not arch.avg_down:
        return nn.Sequential(conv(in_channels, out_channels, 1, stride), nn.BatchNorm2d(out_channels))
    pool = nn.Identity() if stride == 1 else nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)
    return nn.Sequential(pool, conv(in_channels, out_channels, 1), nn.BatchNorm2d(out_channels))


def build_block(arch: Architecture, in_channels: int, width: int, stride: int) -> BasicBlock | Bottleneck:
    """Build one block of `arch` that takes `in_channels` and gives width * expansion channels."""
    out_channels = width * arch.expansion
    downsample = build_shortcut(arch, in_channels, out_channels, stride)
    residual = arch.shortcut != "plain"
    if arch.block == "basic":
        return BasicBlock(in_channels, width, stride, downsample, residual)
    strides = (stride, 1) if arch.stride_style == "caffe" else (1, stride)
    return Bottleneck(in_channels, width * arch.width_factor, out_channels, strides, downsample, residual)


def build_stem_conv(arch: Architecture) -> nn.Module:
    """Build the convolution(s) before `bn1`; the deep stem is conv-bn-relu-conv-bn-relu-conv."""
    if arch.stem == "7x7":
        return conv(arch.in_channels, arch.stem_width, 7, stride=2)
    if arch.stem == "3x3":
        return conv(arch.in_channels, arch.stem_width, 3)
    half = arch.stem_width // 2
    return nn.Sequential(
        conv(arch.in_channels, half, 3, stride=2),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        conv(half, half, 3),
        nn.BatchNorm2d(half),
        nn.ReLU(inplace=True),
        conv(half, arch.stem_width, 3),
    )


class ResNet(nn.Module):
    """A residual network.

    Stages are the attributes layer1, layer2, ...: four in the ImageNet nets, three in the 6n+2 nets.
    The first stage keeps the resolution of the stem, each later one halves it.
    """

    def __init__(
        self,
        arch: Architecture,
        *,
        drop_path_rate: float = 0.0,
        drop_path_shape: Literal["constant", "linear"] = "constant",  # over the blocks; linear: from 0 to the rate
        zero_init_last: bool = False,
    ) -> None:
        super().__init__()
        self.arch = arch
        self.conv1 = build_stem_conv(arch)
        self.bn1 = nn.BatchNorm2d(arch.stem_width)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.Identity() if arch.stem == "3x3" else nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        channels = arch.stem_width
        for index, (depth, width) in enumerate(zip(arch.depths, arch.widths, strict=True)):
            stage = nn.Sequential()
            for position in range(depth):
                stride = 2 if index > 0 and position == 0 else 1
                stage.append(build_block(arch, channels, width, stride))
                channels = width * arch.expansion
            self.add_module(f"layer{index + 1}", stage)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, arch.num_classes)
        blocks = self.blocks()
        for place, block in enumerate(blocks):
            share = place / max(len(blocks) - 1, 1) if drop_path_shape == "linear" else 1.0
            block.drop_path = DropPath(drop_path_rate * share) if drop_path_rate else nn.Identity()
        self.init_weights(zero_init_last)

    def stages(self) -> list[nn.Module]:
        """Return layer1, layer2, ... in order."""
        return [self.get_submodule(f"layer{index + 1}") for index in range(len(self.arch.depths))]

    def blocks(self) -> list[BasicBlock | Bottleneck]:
        """Return all blocks in order."""
        return [module for module in self.modules() if isinstance(module, BasicBlock | Bottleneck)]

    def init_weights(self, zero_init_last: bool) -> None:
        """Draw the weights anew: convolutions as He et al. (arXiv 1502.01852), fan out; fc Normal(0, 0.01)."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.fc.weight, std=0.01)
        nn.init.zeros_(self.fc.bias)
        if zero_init_last:
            for block in self.blocks():
                # Each block then starts as the identity (arXiv 1706.02677).
                nn.init.zeros_(block.last_bn.weight)

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the maps after each stage of float images [N, in_channels, H, W], finest first."""
        maps = []
        last = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        for stage in self.stages():
            last = stage(last)
            maps.append(last)
        return maps

    def forward(self, images: Tensor) -> Tensor:
        """Return logits [N, num_classes] of float images [N, in_channels, H, W]."""
        pooled: Tensor = self.avgpool(self.features(images)[-1]).flatten(1)  # [N, C, h, w] -> [N, C]
        logits: Tensor = self.fc(pooled)
        return logits
