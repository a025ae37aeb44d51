from __future__ import annotations

import pytest
import torch
from torch import nn

from resnetkit.models import ResNet, cifar_architecture


@pytest.mark.parametrize("n", [1, 3, 5, 7, 9, 18, 200])
def test_the_net_has_6n_plus_2_layers_with_weights(n: int) -> None:
    with torch.device("meta"):
        model = ResNet(cifar_architecture(n))
    layers = [module for module in model.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == 6 * n + 2
    assert len(model.blocks()) == 3 * n  # and as many shortcuts


def test_three_stages_of_16_32_and_64_channels_without_a_pool() -> None:
    model = ResNet(cifar_architecture(2)).eval()
    maps = model.features(torch.zeros(1, 3, 32, 32))
    assert [tuple(found.shape) for found in maps] == [(1, 16, 32, 32), (1, 32, 16, 16), (1, 64, 8, 8)]
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 10)
    assert not any(isinstance(module, nn.MaxPool2d) for module in model.modules())


def test_option_a_has_no_parameters_in_its_shortcuts() -> None:
    model = ResNet(cifar_architecture(3))
    shortcuts = [block.downsample for block in model.blocks() if block.downsample is not None]
    assert len(shortcuts) == 2
    assert not any(list(shortcut.parameters()) for shortcut in shortcuts)


def test_options_and_classes_are_as_asked() -> None:
    assert cifar_architecture(1).shortcut == "A"
    assert cifar_architecture(1, "plain", 100).num_classes == 100
    assert cifar_architecture(1, "C").shortcut == "C"
    projections = [block.downsample for block in ResNet(cifar_architecture(2, "C")).blocks()]
    assert sum(isinstance(found, nn.Sequential) for found in projections) == 6


@pytest.mark.parametrize("n", [0, -1])
def test_a_net_without_blocks_is_refused(n: int) -> None:
    with pytest.raises(ValueError, match=f"1 or more, got {n}"):
        cifar_architecture(n)
