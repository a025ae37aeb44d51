"""All that changes while training, gathered for a saved state and put back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from resnetkit.assemble import Best, Training
from resnetkit.schedule import PlateauState


def training_tensors(training: Training) -> dict[str, Tensor]:
    """Gather the tensors that change, by owner: `model.`, `ema.`, `optimizer.`, `best.`."""
    tensors = {f"model.{name}": value for name, value in training.model.state_dict().items()}
    if training.ema:
        tensors |= {f"ema.{name}": value for name, value in training.ema.state_dict().items()}
    if training.best:
        tensors |= {f"best.{name}": value for name, value in training.best.weights.items()}
    for index, values in training.optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in values.items() if isinstance(v, Tensor)}
    return tensors


def training_facts(training: Training) -> dict[str, Any]:
    """Gather the numbers that change, as JSON data."""
    return {
        "scaler": training.scaler.state_dict(),
        "plateau": asdict(training.plateau),
        "rewound_factor": training.rewound_factor,
        "best": {name: value for name, value in vars(training.best).items() if name != "weights"}
        if training.best
        else None,
    }


def restore(training: Training, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Put back what `training_tensors` and `training_facts` gathered."""
    named: dict[str, dict[str, Tensor]] = {"model": {}, "ema": {}, "optimizer": {}, "best": {}}
    for name, tensor in tensors.items():
        owner, _, rest = name.partition(".")
        named[owner][rest] = tensor
    training.model.load_state_dict(named["model"])
    if training.ema:
        training.ema.load_state_dict(named["ema"])
    restore_optimizer(training.optimizer, named["optimizer"])
    if training.scaler.is_enabled():
        training.scaler.load_state_dict(facts["scaler"])
    training.plateau = PlateauState(**facts["plateau"])
    best = facts.get("best")
    training.best = Best(**best, weights=named["best"]) if best else None
    training.rewound_factor = facts.get("rewound_factor", 1.0)  # a state of an earlier version has none


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put back the optimizer's tensors, named `<index of the parameter>.<name>`."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    optimizer.state.clear()  # a return to the first step finds momentum here that was not there then
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        parameter = parameters[int(index)]
        # The fused kernel walks memory, not indices: a buffer must lie in memory as its parameter does.
        like = torch.empty_like(parameter) if tensor.shape == parameter.shape else torch.empty_like(tensor)
        optimizer.state[parameter][key] = like.copy_(tensor)
