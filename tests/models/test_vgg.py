from __future__ import annotations

import pytest
import torch
import torchvision.models
from torch import nn

from resnetkit.models.vgg import CONVS_PER_STAGE, Vgg

NAMES = ["vgg16", "vgg19"]


def test_both_nets_are_here() -> None:
    assert list(CONVS_PER_STAGE) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_layers_and_names_are_torchvisions(name: str) -> None:
    with torch.device("meta"):
        theirs, ours = torchvision.models.get_model(name), Vgg(CONVS_PER_STAGE[name])
    expected = {key: value.shape for key, value in theirs.state_dict().items()}
    assert {key: value.shape for key, value in ours.state_dict().items()} == expected
    assert repr(ours.features) == repr(theirs.features)
    assert repr(ours.classifier) == repr(theirs.classifier)
    layers = [module for module in ours.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert len(layers) == int(name[3:])


@torch.inference_mode()
def test_logits_are_torchvisions() -> None:
    with torch.device("meta"):
        theirs, ours = torchvision.models.vgg16(num_classes=5).eval(), Vgg(CONVS_PER_STAGE["vgg16"], 5).eval()
    tensors = {}
    generator = torch.Generator().manual_seed(0)
    for name, value in theirs.state_dict().items():
        bound = (6 / value[0].numel()) ** 0.5 if value.ndim > 1 else 0.1
        rows = min(len(value), 512)  # of the large layers, the rest repeats: drawing them takes longest
        drawn = torch.empty(rows, *value.shape[1:]).uniform_(-bound, bound, generator=generator)
        tensors[name] = drawn.repeat(len(value) // rows, *(1,) * (value.ndim - 1))
    theirs.load_state_dict(tensors, assign=True)
    ours.load_state_dict(tensors, assign=True)
    images = torch.randn(1, 3, 224, 224, generator=generator)
    expected = theirs(images)
    assert expected.std() > 0.01
    torch.testing.assert_close(ours(images), expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))
