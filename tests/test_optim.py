from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from resnetkit.models import ResNet, find_architecture
from resnetkit.optim import (
    Lamb,
    build_lamb,
    build_muon,
    build_sgd,
    decay_groups,
    orthogonal_filters,
    orthogonalised,
    set_lr,
)


class Misleading(nn.Module):
    """Names say the opposite of what the modules are."""

    def __init__(self) -> None:
        super().__init__()
        self.bn_norm_bias = nn.Conv2d(3, 4, 3)
        self.conv = nn.BatchNorm2d(4)
        self.weight_only = nn.GroupNorm(2, 4)
        self.downsample = nn.Sequential(nn.Conv2d(4, 4, 1, bias=False), nn.BatchNorm2d(4))
        self.norm = nn.Linear(4, 2)
        self.fc = nn.LayerNorm(2)
        self.layer_scale = nn.Parameter(torch.ones(2))

    def spared(self) -> list[Tensor]:
        norms = [self.conv, self.weight_only, self.downsample[1], self.fc]
        biases = [self.bn_norm_bias.bias, self.norm.bias]
        return [parameter for norm in norms for parameter in norm.parameters()] + [b for b in biases if b is not None]


def ids(parameters: Iterator[nn.Parameter] | list[Tensor]) -> list[int]:
    return sorted(map(id, parameters))


def test_groups_follow_module_types_not_names() -> None:
    model = Misleading()
    decayed, spared = decay_groups(model, weight_decay=0.1, decay_norms_and_biases=False)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    assert ids(spared["params"]) == ids(model.spared())
    assert len(spared["params"]) == 10
    assert ids(decayed["params"] + spared["params"]) == ids(model.parameters())
    assert len(decayed["params"]) == 4


def test_one_group_when_everything_decays() -> None:
    model = Misleading()
    (group,) = decay_groups(model, weight_decay=0.1, decay_norms_and_biases=True)
    assert group["weight_decay"] == 0.1
    assert ids(group["params"]) == ids(model.parameters())


@pytest.mark.parametrize("name", ["resnet4_tiny", "resnet8_b", "resnet18_cifar", "resnetv1d50", "resnet8_a"])
def test_every_parameter_of_our_nets_is_in_one_group(name: str) -> None:
    with torch.device("meta"):
        model = ResNet(find_architecture(name))
    decayed, spared = decay_groups(model, weight_decay=0.1, decay_norms_and_biases=False)
    assert ids(decayed["params"] + spared["params"]) == ids(model.parameters())
    assert {parameter.ndim for parameter in decayed["params"]} == {2, 4}  # convolutions and the head
    assert {parameter.ndim for parameter in spared["params"]} == {1}


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("decay_norms_and_biases", [False, True])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.9, 0.0), (0.9, 0.02), (0.5, 0.02)])
def test_sgd_equals_the_update_written_by_hand(
    nesterov: bool, decay_norms_and_biases: bool, momentum: float, weight_decay: float
) -> None:
    torch.manual_seed(0)
    model = Misleading()
    optimizer = build_sgd(
        model,
        lr=0.1,
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=weight_decay,
        decay_norms_and_biases=decay_norms_and_biases,
    )
    spared = set() if decay_norms_and_biases else set(map(id, model.spared()))
    values = [parameter.detach().double().clone() for parameter in model.parameters()]
    velocities = [torch.zeros_like(value) for value in values]
    for step in range(4):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 / (step + 1)
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = torch.randn_like(parameter)
            slope = parameter.grad.double()
            slope = slope + (0.0 if id(parameter) in spared else weight_decay) * values[number]
            velocities[number] = momentum * velocities[number] + slope
            change = slope + momentum * velocities[number] if nesterov else velocities[number]
            values[number] = values[number] - 0.1 / (step + 1) * change
        optimizer.step()
    assert len(values) == 14
    for parameter, value in zip(model.parameters(), values, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)


def test_plain_sgd_without_momentum() -> None:
    model = nn.Linear(2, 1)
    before = copy.deepcopy(model)
    optimizer = build_sgd(model, lr=0.5, momentum=0.0, nesterov=False, weight_decay=0.1, decay_norms_and_biases=False)
    assert model.bias is not None
    model.weight.grad, model.bias.grad = torch.ones(1, 2), torch.ones(1)
    optimizer.step()
    torch.testing.assert_close(model.weight, before.weight - 0.5 * (1 + 0.1 * before.weight))
    torch.testing.assert_close(model.bias, before.bias - 0.5)


def lamb_by_hand(
    values: list[Tensor], slopes: list[list[Tensor]], decays: list[float], lr: float, max_norm: float
) -> list[Tensor]:
    """Follow arXiv 1904.00962 with the clip of all gradients together, in double precision."""
    averages, squares = [torch.zeros_like(v) for v in values], [torch.zeros_like(v) for v in values]
    for taken, gradients in enumerate(slopes, 1):
        norm = torch.cat([gradient.flatten() for gradient in gradients]).norm()
        for place, gradient in enumerate(gradients):
            slope = gradient / max(float(norm) / max_norm, 1.0)
            averages[place] = 0.9 * averages[place] + 0.1 * slope
            squares[place] = 0.999 * squares[place] + 0.001 * slope**2
            step = averages[place] / (1 - 0.9**taken) / ((squares[place] / (1 - 0.999**taken)).sqrt() + 1e-6)
            if decays[place]:
                step = step + decays[place] * values[place]
                if values[place].norm() > 0 and step.norm() > 0:
                    step = step * values[place].norm() / step.norm()
            values[place] = values[place] - lr * step
    return values


@pytest.mark.parametrize("max_norm", [1.0, 100.0])  # the gradients' norm is about 10: clipped, and not
def test_lamb_equals_the_update_written_by_hand(max_norm: float) -> None:
    torch.manual_seed(0)
    model = Misleading()
    optimizer = build_lamb(model, lr=0.01, weight_decay=0.02, decay_norms_and_biases=False, max_grad_norm=max_norm)
    spared = set(map(id, model.spared()))
    decays = [0.0 if id(parameter) in spared else 0.02 for parameter in model.parameters()]
    before = [parameter.detach().double().clone() for parameter in model.parameters()]
    slopes = [[torch.randn_like(parameter) for parameter in model.parameters()] for _ in range(5)]
    for gradients in slopes:
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            parameter.grad = gradient.clone()
        optimizer.step()
    expected = lamb_by_hand(before, [[g.double() for g in row] for row in slopes], decays, 0.01, max_norm)
    for parameter, value in zip(model.parameters(), expected, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-5, atol=1e-6)


def test_lamb_leaves_weights_of_zero_and_parameters_without_gradient_alone() -> None:
    zero, untouched = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.ones(3))
    zero.grad = torch.ones(3)
    optimizer = Lamb([zero, untouched], 0.1, weight_decay=0.01)
    optimizer.step()
    torch.testing.assert_close(zero.detach(), torch.full((3,), -0.1))  # no trust ratio: |weights| is zero
    assert torch.equal(untouched.detach(), torch.ones(3))
    Lamb([untouched], 0.1).step()  # no gradient at all


# --- Muon ---


def norm_biases_of(model: Misleading) -> list[Tensor]:
    """Return the biases of its four norms."""
    return [parameter for name, parameter in model.named_parameters()
            if name in {"conv.bias", "weight_only.bias", "downsample.1.bias", "fc.bias"}]  # fmt: skip


def polar(matrix: Tensor) -> Tensor:
    """Return the matrix whose singular values are all 1, in double precision."""
    left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
    nearest: Tensor = left @ right
    return nearest


@pytest.mark.parametrize("shape", [(16, 27), (64, 576), (27, 16), (8, 8)])
def test_singular_values_come_near_to_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    matrices = torch.randn(3, *shape) * torch.tensor([1e-4, 1.0, 1e4])[:, None, None]
    found = orthogonalised(matrices)
    values = torch.linalg.svdvals(found)
    assert float(values.min()) > 0.5 and float(values.max()) < 1.25
    for matrix, near in zip(matrices, found, strict=True):  # the same directions: only how far is approximate
        left, _, right = torch.linalg.svd(matrix.double(), full_matrices=False)
        inner = left.mT @ near.double() @ right.mT
        assert float((inner - torch.diag(inner.diag())).abs().max()) < 1e-3


def test_filters_of_one_shape_do_not_touch_each_other() -> None:
    torch.manual_seed(0)
    steps = [torch.randn(shape) for shape in ((8, 4, 3, 3), (8, 8, 1, 1), (8, 4, 3, 3))]
    together = orthogonal_filters([*steps, torch.zeros(8, 4, 3, 3)])
    for step, found in zip(steps, together, strict=False):
        rows = step.reshape(8, -1)
        torch.testing.assert_close(found, orthogonalised(rows[None]).reshape(step.shape), atol=1e-5, rtol=1e-4)
        assert torch.nn.functional.cosine_similarity(found.flatten(), polar(rows).flatten(), dim=0) > 0.97
    assert not together[3].any()  # no gradient, no step


def test_muon_equals_the_update_written_by_hand() -> None:
    torch.manual_seed(0)
    model = Misleading()
    optimizer = build_muon(model, lr=0.05, momentum=0.9, sgd_lr=0.2, norm_bias_lr_factor=8.0, weight_decay=0.02)
    set_lr(optimizer, 0.025)  # halfway down a schedule
    norm_biases = set(map(id, norm_biases_of(model)))
    values = [parameter.detach().double().clone() for parameter in model.parameters()]
    velocities = [torch.zeros_like(value) for value in values]
    spared = set(map(id, model.spared()))
    for _ in range(3):
        for number, parameter in enumerate(model.parameters()):
            parameter.grad = torch.randn_like(parameter)
            slope, is_filter = parameter.grad.double(), parameter.ndim == 4
            if not is_filter and id(parameter) not in spared:
                slope = slope + 0.02 * values[number]
            velocities[number] = 0.9 * velocities[number] + slope
            step = slope + 0.9 * velocities[number]
            if is_filter:
                rows = orthogonalised(step.float().reshape(1, len(step), -1)).double().reshape(step.shape)
                values[number] = values[number] * len(step) ** 0.5 / values[number].norm() - 0.025 * rows
            else:
                values[number] = values[number] - 0.1 * (8.0 if id(parameter) in norm_biases else 1.0) * step
        optimizer.step()
    for parameter, value in zip(model.parameters(), values, strict=True):
        torch.testing.assert_close(parameter.detach().double(), value, rtol=1e-4, atol=1e-5)


def test_muon_has_every_parameter_once() -> None:
    with torch.device("meta"):
        model = ResNet(find_architecture("resnet20"))
    optimizer = build_muon(model, lr=0.05, momentum=0.9, sgd_lr=0.2, norm_bias_lr_factor=8.0, weight_decay=0.02)
    groups = optimizer.param_groups
    assert ids([parameter for group in groups for parameter in group["params"]]) == ids(model.parameters())
    filters = [group for group in groups if group["orthogonal"]]
    assert [len(group["params"]) for group in filters] == [19]
    assert {group["weight_decay"] for group in groups if not group["orthogonal"]} == {0.0, 0.02}


def test_biases_of_norms_may_have_a_rate_of_their_own() -> None:
    model = Misleading()
    groups = decay_groups(model, weight_decay=0.1, decay_norms_and_biases=False, norm_bias_lr_factor=16.0)
    fast = [parameter for group in groups if group["lr_factor"] == 16.0 for parameter in group["params"]]
    assert ids(fast) == ids(norm_biases_of(model))
    assert ids([parameter for group in groups for parameter in group["params"]]) == ids(model.parameters())
    assert {group["weight_decay"] for group in groups if group["lr_factor"] == 16.0} == {0.0}


def test_a_head_under_muon_may_have_a_rate_of_its_own() -> None:
    model = ResNet(find_architecture("resnet4_tiny"))
    optimizer = build_muon(model, lr=0.05, momentum=0.9, sgd_lr=0.2, norm_bias_lr_factor=1.0, weight_decay=0.02,
                           head_lr_factor=0.001)  # fmt: skip
    set_lr(optimizer, 0.05)
    rates = {id(parameter): group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert rates[id(model.fc.weight)] == rates[id(model.fc.bias)] == pytest.approx(0.0002)
    assert rates[id(model.bn1.weight)] == pytest.approx(0.2)
    assert rates[id(model.conv1.weight)] == 0.05


def test_muon_leaves_filters_of_zero_finite() -> None:
    filters = nn.Conv2d(3, 4, 3, bias=False)
    with torch.no_grad():
        filters.weight.zero_()
    optimizer = build_muon(filters, lr=0.05, momentum=0.9, sgd_lr=0.2, norm_bias_lr_factor=1.0, weight_decay=0.0)
    for gradient in (torch.zeros(4, 3, 3, 3), torch.ones(4, 3, 3, 3)):
        filters.weight.grad = gradient
        optimizer.step()
        assert filters.weight.isfinite().all()
    assert filters.weight.any()
