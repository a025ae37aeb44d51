"""A first convolution that whitens patches of images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FLOOR = 5e-4  # added to each variance: directions that hardly vary are not blown up


@torch.no_grad()
def whiten(conv: nn.Conv2d, images: Tensor) -> None:
    """Start a convolution from the leading principal directions of patches of images [N, C, H, W], and their negatives.

    Each is divided by the deviation along it (Page 2019; arXiv 2404.00498, section 3.2).
    """
    height, width = conv.weight.shape[2:]
    patches = F.unfold(images, (height, width)).transpose(1, 2).flatten(0, 1).double()  # [places, C * h * w]
    variances, directions = torch.linalg.eigh(patches.T @ patches / len(patches))
    half = min(conv.out_channels // 2, len(variances))
    leading = (directions / (variances + FLOOR).sqrt()).flip(1)[:, :half].T  # [half, C * h * w]
    filters = leading.reshape(half, *conv.weight.shape[1:]).to(conv.weight.dtype)
    conv.weight[:half], conv.weight[half : 2 * half] = filters, -filters
