"""What autograd keeps, counted on the meta device, against a real net and against arithmetic by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from resnetkit.models import MODELS, Architecture, ResNet, find_architecture
from resnetkit.models.activations import kept_activations, kept_tensors, training_memory

TINY = MODELS["resnet4_tiny"]


def on_meta(name: str, drop_path_rate: float = 0.0) -> ResNet:
    with torch.device("meta"):
        return ResNet(MODELS[name], drop_path_rate=drop_path_rate)


def test_a_net_of_one_block_by_hand() -> None:
    with torch.device("meta"):
        kept = kept_activations(ResNet(TINY), 16)
    maps = 8 * 16 * 16  # values of a map of 8 channels
    # The image; convolution and ReLU of the stem, the same of the block twice (the norm's output is the ReLU's, the
    # sum's too); the pooled features twice: pooling keeps its input's ReLU, which is there, and fc its own input.
    assert kept.per_image == 4 * (3 * 16 * 16 + 6 * maps + 8)
    assert kept.fixed == 4 * 3 * 2 * 8  # mean and deviation of three norms


@pytest.mark.parametrize(("name", "size"), [("resnet8", 32), ("resnetv1d50", 32), ("resnet18_c", 32)])
def test_a_real_forward_pass_keeps_what_was_counted(name: str, size: int) -> None:
    arch = cheap(name)
    with torch.device("meta"):
        counted = kept_activations(ResNet(arch, drop_path_rate=0.1), size)
    model = ResNet(arch, drop_path_rate=0.1).to(memory_format=torch.channels_last)
    two, three = (
        sum(kept.untyped_storage().nbytes() for kept in kept_tensors(model, torch.randn(images, 3, size, size)))
        for images in (2, 3)
    )
    assert (counted.per_image, counted.fixed) == (three - two, 3 * two - 2 * three)


def test_a_view_and_what_it_is_of_are_one() -> None:
    net = nn.Sequential(nn.Linear(6, 6), nn.Sigmoid(), nn.Unflatten(1, (2, 3)), nn.Linear(3, 1)).to("meta")
    kept = kept_tensors(net, torch.empty(5, 6, device="meta"))
    # the first layer's input, and the sigmoid's result, which is the last layer's input in another shape
    assert sorted(tensor.untyped_storage().nbytes() for tensor in kept) == [5 * 6 * 4, 5 * 6 * 4]


def cheap(name: str) -> Architecture:
    arch = find_architecture(name)
    return replace(arch, depths=tuple(1 for _ in arch.depths))


def test_half_precision_halves_what_is_kept() -> None:
    whole = kept_activations(on_meta("resnet18"), 64)
    half = kept_activations(on_meta("resnet18").half(), 64, dtype=torch.float16)
    indices = 64 * 16 * 16 * 8  # of the max pool, int64
    assert 2 * (half.per_image - indices) == whole.per_image - indices


def test_memory_of_resnet50() -> None:
    memory = training_memory(MODELS["resnet50"], 224, 32, optimizer_slots=1)
    params, statistics = 25_557_032, 2 * 26_560 * 4 + 53 * 8  # running means and variances; counters
    assert memory.weights == 4 * params + statistics
    assert memory.gradients == memory.optimizer == 4 * params
    assert (memory.average, memory.half_weights) == (0, 0)
    assert memory.activations == 32 * 85_909_504 + 212_480
    assert memory.total == sum(vars(memory).values()) - memory.total


def test_memory_of_averages_second_moments_and_mixed_precision() -> None:
    plain = training_memory(TINY, 16, 8, optimizer_slots=1)
    rich = training_memory(TINY, 16, 8, optimizer_slots=2, average=True, half=torch.float16)
    assert rich.optimizer == 2 * plain.optimizer
    assert rich.average == rich.weights == plain.weights
    assert rich.half_weights == plain.gradients // 2
    assert rich.activations < 0.6 * plain.activations
