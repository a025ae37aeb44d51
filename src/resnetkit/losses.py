"""Losses on logits."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def cross_entropy(logits: Tensor, labels: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean softmax cross entropy, in nats, of logits [N, classes] and int64 labels [N].

    With smoothing e the target is (1 - e) * one_hot + e / classes (arXiv 1512.00567).
    """
    return F.cross_entropy(logits, labels, label_smoothing=label_smoothing)
