from __future__ import annotations

import torch
from torch import nn

from resnetkit.ema import Ema


def net(seed: int) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def disturb(model: nn.Module) -> None:
    """Change every parameter and buffer."""
    for value in model.state_dict().values():
        value.add_(7 if value.dtype == torch.int64 else torch.randn_like(value))


def test_averages_follow_the_formula_and_counters_are_copied() -> None:
    model = net(0)
    ema = Ema(model, decay=0.75)
    expected = {name: value.double().clone() for name, value in model.state_dict().items()}
    for _ in range(5):
        disturb(model)
        ema.update(model)
        for name, value in model.state_dict().items():
            expected[name] = 0.75 * expected[name] + 0.25 * value.double()
    averaged = ema.state_dict()
    assert set(averaged) == set(model.state_dict())
    counters = [name for name, value in averaged.items() if not value.is_floating_point()]
    assert counters == ["1.num_batches_tracked"]
    assert averaged["1.num_batches_tracked"] == 35
    for name, value in averaged.items():
        if name not in counters:
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-5)
    assert {"1.running_mean", "1.running_var"} <= set(averaged)


def test_the_model_itself_is_unchanged() -> None:
    model = net(0)
    ema = Ema(model, decay=0.5)
    disturb(model)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    ema.update(model)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(parameter.requires_grad for parameter in ema.model.parameters())
    shared = {value.data_ptr() for value in model.state_dict().values()}
    assert shared.isdisjoint(value.data_ptr() for value in ema.state_dict().values())


def test_the_average_starts_as_the_model_and_stays_with_it() -> None:
    model = net(0)
    ema = Ema(model, decay=0.9)
    ema.update(model)
    for name, value in model.state_dict().items():
        assert torch.equal(ema.state_dict()[name], value)


def test_a_saved_average_goes_on_to_the_same_bits() -> None:
    model, other = net(0), net(1)
    first, second = Ema(model, 0.9), Ema(other, 0.9)
    disturb(model)
    first.update(model)
    second.load_state_dict({name: value.clone() for name, value in first.state_dict().items()})
    disturb(model)
    first.update(model)
    second.update(model)
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name
