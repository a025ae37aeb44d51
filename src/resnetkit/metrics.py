"""Accuracy, with the interval that the number of images gives it."""

from __future__ import annotations

import math

import torch
from torch import Tensor

Z95 = 1.959963984540054  # two-sided 95 % quantile of the normal distribution


def wilson_interval(correct: int, images: int) -> tuple[float, float]:
    """Return the 95 % interval of correct / images as fractions (Wilson 1927); (0, 1) for no images."""
    if images == 0:
        return 0.0, 1.0
    share = correct / images
    spread = Z95**2 / images
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 / (1 + spread) * math.sqrt(share * (1 - share) / images + spread / (4 * images))
    # The bounds at 0 and at 1 are those exactly; rounding must not put them beside.
    return min(share, max(0.0, centre - half)), max(share, min(1.0, centre + half))


def ranks_of(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes score higher than the label's: int64 [N], 0 where the label is top-1.

    Of equal logits the lower class index goes first, so that the count does not depend on sorting.
    A label's logit that is not finite ranks last, and a nan elsewhere ranks ahead: rank 0 means prediction.
    """
    own = logits.gather(1, labels[:, None])
    classes = torch.arange(logits.shape[1], device=logits.device)
    ahead = (logits > own) | logits.isnan() | ((logits == own) & (classes < labels[:, None]))
    ranks = ahead.sum(1)
    return torch.where(own[:, 0].isfinite(), ranks, logits.shape[1])


def confusion_matrix(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Count images by label (row) and prediction (column): int64 [num_classes, num_classes]."""
    return torch.bincount(labels * num_classes + predictions, minlength=num_classes**2).view(num_classes, num_classes)
