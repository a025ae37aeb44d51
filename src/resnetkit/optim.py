"""Optimizers, with weight-decay groups chosen by module type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm)


SMALLEST = 1e-7  # of a norm that is divided by: what is zero stays zero
HEAD = "fc"  # the module of a net whose rate is not that of the body


def decay_groups(
    model: nn.Module,
    *,
    weight_decay: float,
    decay_norms_and_biases: bool,
    head_lr_factor: float = 1.0,
    norm_bias_lr_factor: float = 1.0,
) -> list[dict[str, Any]]:
    """Split the parameters into groups of one weight decay and one factor of the rate; in a fixed order.

    Without decay, when `decay_norms_and_biases` is False: every parameter of a norm, and every bias.
    The choice looks at module types, never at parameter names.
    """
    factors = (1.0, head_lr_factor, norm_bias_lr_factor)
    groups: dict[tuple[float, float], list[nn.Parameter]] = {
        (decay, factor): [] for decay in (weight_decay, 0.0) for factor in factors
    }
    head = getattr(model, HEAD, None)
    for module in model.modules():
        is_norm = isinstance(module, NORMS)
        for name, parameter in module.named_parameters(recurse=False):
            spared = (is_norm or name == "bias") and not decay_norms_and_biases
            factor = head_lr_factor if module is head else 1.0
            if is_norm and name == "bias":
                factor = norm_bias_lr_factor
            groups[0.0 if spared else weight_decay, factor].append(parameter)
    return [
        {"params": parameters, "weight_decay": decay, "lr_factor": factor}
        for (decay, factor), parameters in groups.items()
        if parameters
    ]


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> float:
    """Give every parameter group the rate, times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)
    return lr


def build_sgd(
    model: nn.Module,
    *,
    lr: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
    decay_norms_and_biases: bool,
    norm_bias_lr_factor: float = 1.0,
    head_lr_factor: float = 1.0,
) -> torch.optim.SGD:
    """Build SGD with momentum, with torch's fused kernel (one pass over the parameters)."""
    groups = decay_groups(
        model,
        weight_decay=weight_decay,
        decay_norms_and_biases=decay_norms_and_biases,
        head_lr_factor=head_lr_factor,
        norm_bias_lr_factor=norm_bias_lr_factor,
    )
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=True)


def loss_of(closure: Callable[[], float] | None) -> float | None:
    """Return the loss that a step's closure computes anew, with its gradients; None without one."""
    if closure is None:
        return None
    with torch.enable_grad():
        return closure()


class Lamb(torch.optim.Optimizer):
    """LAMB (arXiv 1904.00962) as NVIDIA, timm and OpenMMLab have it.

    Adam's step with bias correction plus decay, scaled for each parameter by |weights| / |step|.  Parameters without
    decay take the step as it is.  Gradients are first divided by their norm over all parameters, where that is above
    `max_grad_norm`.
    """

    def __init__(
        self,
        params: Any,  # parameters, or groups of them
        lr: float,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        max_grad_norm: float = 1.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})
        self.max_grad_norm = max_grad_norm

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step on the gradients that are there."""
        loss = loss_of(closure)
        gradients = [p.grad for group in self.param_groups for p in group["params"] if p.grad is not None]
        if gradients:
            norm = torch.nn.utils.get_total_norm(gradients)
            shrink = (norm / self.max_grad_norm).clamp(min=1.0)
            for group in self.param_groups:
                self.step_group(group, shrink)
        return loss

    def step_group(self, group: dict[str, Any], shrink: Tensor) -> None:
        """Step the parameters of one group; their gradients are divided by `shrink`."""
        parameters = [p for p in group["params"] if p.grad is not None]
        if not parameters:
            return
        gradients = torch._foreach_div([p.grad for p in parameters], shrink)
        states = [self.state_of(p) for p in parameters]
        torch._foreach_add_([state["step"] for state in states], 1.0)
        taken = states[0]["step"].item()
        (beta1, beta2), decay = group["betas"], group["weight_decay"]
        averages, squares = [state["exp_avg"] for state in states], [state["exp_avg_sq"] for state in states]
        torch._foreach_lerp_(averages, gradients, 1.0 - beta1)
        torch._foreach_mul_(squares, beta2)
        torch._foreach_addcmul_(squares, gradients, gradients, value=1.0 - beta2)
        roots = torch._foreach_sqrt(torch._foreach_div(squares, 1.0 - beta2**taken))
        torch._foreach_add_(roots, group["eps"])
        steps = torch._foreach_div(torch._foreach_div(averages, 1.0 - beta1**taken), roots)
        if decay != 0.0:
            torch._foreach_add_(steps, parameters, alpha=decay)
            for step, ratio in zip(steps, trust_ratios(parameters, list(steps)), strict=True):
                step.mul_(ratio)
        torch._foreach_add_(parameters, steps, alpha=-group["lr"])

    def state_of(self, parameter: nn.Parameter) -> dict[str, Tensor]:
        """Return a parameter's averages, zero at first."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        return state


def trust_ratios(parameters: list[nn.Parameter], steps: list[Tensor]) -> list[Tensor]:
    """Return |weights| / |step| for each parameter, 1 where either is zero."""
    pairs = zip(torch._foreach_norm(parameters), torch._foreach_norm(steps), strict=True)  # type: ignore[arg-type]
    return [torch.where((weights > 0) & (step > 0), weights / step, 1.0) for weights, step in pairs]


def build_lamb(
    model: nn.Module,
    *,
    lr: float,
    weight_decay: float,
    decay_norms_and_biases: bool,
    max_grad_norm: float,
    head_lr_factor: float = 1.0,
) -> Lamb:
    """Build LAMB with its usual averages."""
    groups = decay_groups(
        model,
        weight_decay=weight_decay,
        decay_norms_and_biases=decay_norms_and_biases,
        head_lr_factor=head_lr_factor,
    )
    return Lamb(groups, lr, max_grad_norm=max_grad_norm)


class Muon(torch.optim.Optimizer):
    """Orthogonal steps for filters, Nesterov's SGD for groups that are not `orthogonal`.

    After K. Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024), with each convolution kept
    at the norm of the root of its output channels.
    """

    def __init__(self, params: Any, lr: float, *, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": 0.0, "orthogonal": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take one step on the gradients that are there."""
        loss = loss_of(closure)
        for group in self.param_groups:
            parameters = [p for p in group["params"] if p.grad is not None]
            if not parameters:
                continue
            gradients: Any = [p.grad for p in parameters]
            if group["weight_decay"]:
                gradients = torch._foreach_add(gradients, parameters, alpha=group["weight_decay"])
            velocities = [self.velocity_of(p) for p in parameters]
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_add_(velocities, gradients)
            steps: Any = torch._foreach_add(gradients, velocities, alpha=group["momentum"])
            if group["orthogonal"]:
                steps = orthogonal_filters(list(steps))
                sizes = zip(parameters, torch._foreach_norm(parameters), strict=True)
                torch._foreach_mul_(parameters, [len(p) ** 0.5 / size.clamp_min(SMALLEST) for p, size in sizes])
            torch._foreach_add_(parameters, steps, alpha=-group["lr"])
        return loss

    def velocity_of(self, parameter: nn.Parameter) -> Tensor:
        """Return a parameter's momentum, zero at first."""
        state: dict[str, Tensor] = self.state[parameter]
        if not state:
            state["momentum_buffer"] = torch.zeros_like(parameter)
        buffer: Tensor = state["momentum_buffer"]
        return buffer


def orthogonal_filters(steps: list[Tensor]) -> list[Tensor]:
    """Return filters [out, in, h, w] whose rows are near to orthonormal, those of one shape at once."""
    by_shape: dict[torch.Size, list[int]] = {}
    for place, step in enumerate(steps):
        by_shape.setdefault(step.shape, []).append(place)
    found: list[Tensor] = list(steps)
    for shape, places in by_shape.items():
        rows = torch.stack([steps[place].reshape(shape[0], -1) for place in places])
        for place, matrix in zip(places, orthogonalised(rows), strict=True):
            found[place] = matrix.reshape(shape)
    return found


def orthogonalised(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Push all singular values of matrices [N, rows, columns] towards 1, by Newton and Schulz's iteration.

    The coefficients are Jordan's, which rise fastest at zero and end between 0.7 and 1.2.
    """
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = matrices.shape[1] <= matrices.shape[2]
    x = matrices if wide else matrices.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + SMALLEST)
    for _ in range(iterations):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    near: Tensor = x if wide else x.mT
    return near


def build_muon(
    model: nn.Module,
    *,
    lr: float,
    momentum: float,
    sgd_lr: float,
    norm_bias_lr_factor: float,
    weight_decay: float,
    head_lr_factor: float = 1.0,
) -> Muon:
    """Build Muon for the filters and SGD for the rest, of which only weights of linear layers decay."""
    groups = []
    for group in decay_groups(
        model,
        weight_decay=weight_decay,
        decay_norms_and_biases=False,
        head_lr_factor=head_lr_factor,
        norm_bias_lr_factor=norm_bias_lr_factor,
    ):
        filters = [parameter for parameter in group["params"] if parameter.ndim == 4]
        rest = [parameter for parameter in group["params"] if parameter.ndim != 4]
        if filters:
            groups.append({"params": filters, "lr_factor": 1.0, "orthogonal": True})
        if rest:
            groups.append(group | {"params": rest, "lr_factor": group["lr_factor"] * sgd_lr / lr})
    return Muon(groups, lr, momentum=momentum)
