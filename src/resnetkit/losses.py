"""Losses on logits [N, classes], in nats, averaged over images.

Targets are int64 labels [N] or shares of the classes, float [N, classes], as mixing makes them.
With smoothing e a target t becomes (1 - e) t + e / classes (arXiv 1512.00567).
"""

from __future__ import annotations

from typing import Literal

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(
    logits: Tensor, targets: Tensor, *, label_smoothing: float = 0.0, class_weights: Tensor | None = None
) -> Tensor:
    """Return the softmax cross entropy, a scalar; with weights [classes] each image counts by that of its class."""
    if class_weights is None:
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    losses = F.cross_entropy(logits, targets, label_smoothing=label_smoothing, reduction="none")
    return (losses * image_weights(targets, class_weights)).mean()


def image_weights(targets: Tensor, class_weights: Tensor) -> Tensor:
    """Return the weight of each image [N], of its class or of its shares of classes."""
    return targets @ class_weights if targets.is_floating_point() else class_weights[targets]


def binary_cross_entropy(
    logits: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float = 0.0,
    reduction: Literal["sum_over_classes", "mean_over_classes"] = "sum_over_classes",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Return the sigmoid cross entropy of every class, a scalar; weights [classes] are as in `cross_entropy`.

    The page sums over the classes (mmclassification's heads divide by the images only), timm takes their mean.
    """
    classes = logits.shape[1]
    shares = targets if targets.is_floating_point() else one_hot(targets, classes)
    smooth = shares * (1.0 - label_smoothing) + label_smoothing / classes
    weights = None if class_weights is None else image_weights(shares, class_weights)[:, None]
    total = F.binary_cross_entropy_with_logits(logits, smooth.to(logits.dtype), weights, reduction="sum") / len(logits)
    return total if reduction == "sum_over_classes" else total / classes


def one_hot(labels: Tensor, classes: int) -> Tensor:
    """Turn int64 labels [N] into float32 targets [N, classes]."""
    return F.one_hot(labels, classes).float()
