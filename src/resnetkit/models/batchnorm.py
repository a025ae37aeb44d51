"""BatchNorm whose statistics are those of more images than one forward pass has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, with its gradient; on any backend, gloo on the CPU too."""

    @staticmethod
    def forward(context: Any, value: Tensor) -> Tensor:
        """Add up `value` of all processes."""
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        """Add up the gradients: every process's result depends on this one's value."""
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def over_processes(value: Tensor) -> Tensor:
    """Return the sum of `value` over all processes."""
    total: Tensor = SumOverProcesses.apply(value)
    return total


class SyncBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d that in training takes its statistics over the batches of all processes.

    In one process, and in evaluation, it is BatchNorm2d.  (torch's own refuses tensors on the CPU.)
    """

    def forward(self, images: Tensor) -> Tensor:
        """Normalise [N, C, H, W]; the processes may have different N."""
        if not (self.training and dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(images)
        every, values = (0, 2, 3), images.float()  # statistics of half precision are taken in single
        count = over_processes(values.new_tensor(float(values.numel() // values.shape[1])))
        mean = over_processes(values.sum(every)) / count
        centred = values - mean[:, None, None]
        variance = over_processes(centred.square().sum(every)) / count
        self.count_statistics(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)

    @torch.no_grad()
    def count_statistics(self, mean: Tensor, variance: Tensor) -> None:
        """Take mean and unbiased variance [C] into the running statistics."""
        assert self.momentum is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


def synchronise_batchnorm(model: nn.Module) -> None:
    """Make every BatchNorm2d of a model a SyncBatchNorm2d; its weights, statistics and their names stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SyncBatchNorm2d


def take_precise_statistics(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace BatchNorm's running statistics by the mean of those of `batches`, each float [N, C, H, W].

    The model keeps its mode and its weights (arXiv 2105.07576, section 3: "PreciseBN").
    """
    update_bn(batches, model)
