"""Optimizers, with weight-decay groups chosen by module type."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


def decay_groups(model: nn.Module, *, weight_decay: float, decay_norms_and_biases: bool) -> list[dict[str, Any]]:
    """Split the parameters into one group with weight decay and one without.

    Without decay, when `decay_norms_and_biases` is False: every parameter of a norm, and every bias.
    The choice looks at module types, never at parameter names.
    """
    decayed: list[nn.Parameter] = []
    spared: list[nn.Parameter] = []
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            spare = isinstance(module, NORMS) or name == "bias"
            (spared if spare and not decay_norms_and_biases else decayed).append(parameter)
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": spared, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]


def build_sgd(
    model: nn.Module,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    decay_norms_and_biases: bool,
) -> torch.optim.SGD:
    """Build SGD with momentum, with torch's fused kernel (one pass over the parameters)."""
    groups = decay_groups(model, weight_decay=weight_decay, decay_norms_and_biases=decay_norms_and_biases)
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)
