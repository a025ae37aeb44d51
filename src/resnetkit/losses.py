"""Losses on logits [N, classes], in nats, averaged over images.

Targets are int64 labels [N] or shares of the classes, float [N, classes], as mixing makes them.
With smoothing e a target t becomes (1 - e) t + e / classes (arXiv 1512.00567).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the softmax cross entropy, a scalar."""
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: Literal["sum_over_classes", "mean_over_classes"] = "sum_over_classes",
) -> Tensor:
    """Return the sigmoid cross entropy of every class, a scalar.

    The page sums over the classes (mmclassification's heads divide by the images only), timm takes their mean.
    """
    classes = logits.shape[1]
    shares = targets if targets.is_floating_point() else one_hot(targets, classes)
    smooth = shares * (1.0 - label_smoothing) + label_smoothing / classes
    total = F.binary_cross_entropy_with_logits(logits, smooth.to(logits.dtype), reduction="sum") / len(logits)
    return total if reduction == "sum_over_classes" else total / classes


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Turn int64 labels [N] into float32 targets [N, classes]."""
    return F.one_hot(labels, classes).float()
