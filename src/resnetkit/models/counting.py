"""Parameters and multiply-adds (MACs) of a built net, counted from one forward pass.

Two definitions, because the figures of the literature mix them:
`macs`       convolutions and linear layers only: one multiply-add each. The paper's "FLOPs".
`macs_page`  the page's "Flops(G)", as mmcv's get_model_complexity_info counts what runs before the head:
             convolutions with their bias, 2 for each input element of a norm, 1 for each output element of
             a ReLU, 1 for each input element of a pool; linear layers and additions count nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Cost:
    """What a net holds and what one image costs."""

    params: int  # trainable parameters
    macs: int  # multiply-adds of convolutions and linear layers
    macs_page: int  # as the OpenMMLab page counts


def conv_macs(module: nn.Conv2d, output: Tensor) -> int:
    """Count the multiply-adds of a convolution that gave `output` [N, C, H, W]."""
    height, width = module.kernel_size
    return output.numel() * (module.in_channels // module.groups) * height * width


def pure_macs(module: nn.Module, images: Tensor, output: Tensor) -> int:
    """Count one call of a leaf module: convolutions and linear layers."""
    if isinstance(module, nn.Conv2d):
        return conv_macs(module, output)
    if isinstance(module, nn.Linear):
        return output.numel() * module.in_features
    return 0


def page_macs(module: nn.Module, images: Tensor, output: Tensor) -> int:
    """Count one call of a leaf module as mmcv 1.x does for the page."""
    if isinstance(module, nn.Conv2d):
        return conv_macs(module, output) + (output.numel() if module.bias is not None else 0)
    if isinstance(module, nn.BatchNorm2d):
        return 2 * images.numel()
    if isinstance(module, nn.ReLU):
        return output.numel()
    if isinstance(module, nn.MaxPool2d | nn.AvgPool2d | nn.AdaptiveAvgPool2d):
        return images.numel()
    return 0


def count(build: Callable[[], nn.Module], image_size: int, in_channels: int = 3) -> Cost:
    """Count the net that `build` returns, for one image of `image_size` pixels a side.

    The net is built and run on the meta device: shapes only, no memory, no arithmetic.
    """
    totals = [0, 0]

    def add(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        totals[0] += pure_macs(module, inputs[0], output)
        totals[1] += page_macs(module, inputs[0], output)

    with torch.device("meta"):
        model = build().eval()
        images = torch.empty(1, in_channels, image_size, image_size)
    for module in model.modules():
        if not list(module.children()):
            module.register_forward_hook(add)
        if isinstance(module, nn.BatchNorm2d | nn.ReLU):
            # Shapes stay, and the meta device is slow at norms.
            module.forward = nn.Identity().forward  # type: ignore[method-assign]
    with torch.no_grad():
        model(images)
    params = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    return Cost(params=params, macs=totals[0], macs_page=totals[1])
