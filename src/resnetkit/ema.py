"""Exponential moving average of a model's weights."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


class Ema:
    """Keeps an averaged copy of a model; the model itself is never changed.

    Floating-point parameters and buffers (the running statistics of BatchNorm too) are averaged,
    `average = decay * average + (1 - decay) * current`; integer buffers are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).requires_grad_(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step towards the weights that `model` has now."""
        averages, currents = [], []
        current = model.state_dict()
        for name, average in self.model.state_dict().items():
            if average.is_floating_point():
                averages.append(average)
                currents.append(current[name])
            else:
                average.copy_(current[name])
        torch._foreach_lerp_(averages, currents, 1.0 - self.decay)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the averaged weights by name."""
        return dict(self.model.state_dict())

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from averaged weights saved before."""
        self.model.load_state_dict(state)
