"""LAMB on given gradients, against timm's and mmpretrain's."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from figures import Figure, largest, relative_error
from mmpretrain.engine.optimizers.lamb import Lamb as MmpretrainLamb
from timm.optim.lamb import Lamb as TimmLamb
from torch import Tensor, nn

from resnetkit.optim import Lamb

STEPS, BOUND = 20, 1e-5
SHAPES = ((16, 3, 3, 3), (10, 16), (4, 4), (16,), (10,), (4,))  # the first three with decay, the others without
Build = Callable[..., torch.optim.Optimizer]


def lamb_figures() -> Iterator[Figure]:
    """Compare the parameters after 20 steps with those of both libraries."""
    for library, theirs in {"timm": TimmLamb, "mmpretrain": MmpretrainLamb}.items():
        for decay, error in lamb_errors(Lamb, theirs).items():
            yield Figure(f"LAMB, {STEPS} steps", f"parameters {decay}", library, error, BOUND)


def lamb_errors(ours: Build, theirs: Build) -> dict[str, float]:
    """Return the worst error of the parameters with decay, and of those without."""
    pairs = zip(stepped_parameters(ours), stepped_parameters(theirs), strict=True)
    errors = [relative_error(mine, other) for mine, other in pairs]
    half = len(errors) // 2
    return {"with decay": largest(errors[:half]), "without decay": largest(errors[half:])}


def stepped_parameters(build: Build) -> list[Tensor]:
    """Take 20 steps with gradients whose norm is clipped in every second step; one weight starts at zero."""
    generator = torch.Generator().manual_seed(6)
    parameters = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in SHAPES]
    parameters[2].data.zero_()
    groups = [{"params": parameters[:3], "weight_decay": 0.02}, {"params": parameters[3:], "weight_decay": 0.0}]
    optimizer = build(groups, lr=0.005)
    for step in range(STEPS):
        for parameter in parameters:
            # 638 numbers: norms of about 13 and of about 0.25
            parameter.grad = torch.randn(parameter.shape, generator=generator) * (0.5, 0.01)[step % 2]
        optimizer.step()
    return [parameter.detach() for parameter in parameters]
