"""A folded net gets the scales of a trained one, and computes what it did."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from resnetkit.models import MODELS, ResNet, find_architecture
from resnetkit.models.batchnorm import is_folded, unfold

NETS = ("resnet4_tiny", "resnet8", "resnet18", "resnetv1d50")


def folded(name: str) -> ResNet:
    """A net whose norms are folded, with weights of a hundred and convolutions as much smaller."""
    torch.manual_seed(0)
    model = ResNet(replace(find_architecture(name), num_classes=5)).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 50, 100)
            nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.Conv2d):
            module.weight.data /= 75
    return model


@pytest.mark.parametrize("name", NETS)
def test_the_function_stays_and_the_scales_become_usual(name: str) -> None:
    model = folded(name)
    side = 32 if MODELS.get(name, find_architecture(name)).stem == "3x3" else 64
    images = torch.randn(8, 3, side, side)
    with torch.no_grad():
        before = model(images)
        unfold(model, images)
        after = model(images)
    torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-3 * float(before.abs().max()))
    assert not is_folded(model)
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    inputs: list[float] = []

    def note(module: nn.Module, given: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        inputs.append(float(given[0].std((0, 2, 3)).mean()))

    handles = [norm.register_forward_hook(note) for norm in norms]
    with torch.no_grad():
        model(images)
    for handle in handles:
        handle.remove()
    assert inputs == pytest.approx([1.0] * len(norms), abs=0.05)


def test_a_net_in_training_mode_stays_in_it() -> None:
    model = folded("resnet8").train()
    unfold(model, torch.randn(4, 3, 32, 32))
    assert model.training and not any(module._forward_hooks for module in model.modules())
