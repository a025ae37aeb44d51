"""Memory of a training step: what autograd keeps for the backward pass, counted, and what else stays.

Counted on the meta device, without memory or arithmetic: every tensor that a forward pass saves for its backward pass,
each storage once, without the net's own parameters and buffers.  Not counted, because it lives for one layer only:
gradients on their way back, workspaces of kernels, and what an allocator holds in reserve.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from resnetkit.models.resnet import Architecture, ResNet

FLOAT32 = 4  # bytes; weights, gradients and averages stay in it under mixed precision too


@dataclass(frozen=True)
class Activations:
    """What is kept from a forward pass to its backward pass, in bytes."""

    per_image: int
    fixed: int  # whatever the number of images


@dataclass(frozen=True)
class TrainingMemory:
    """What a device holds at the peak of a training step, in bytes."""

    weights: int  # with the running statistics of BatchNorm
    gradients: int
    optimizer: int
    average: int  # of the weights, where the recipe keeps one
    half_weights: int  # copies for mixed precision
    activations: int  # of one micro-batch
    total: int


def kept_activations(
    model: nn.Module, image_size: int, *, in_channels: int = 3, dtype: torch.dtype = torch.float32
) -> Activations:
    """Count for a net on the meta device, in training mode, on images of `image_size` pixels a side.

    dtype: of the net, images and activations.  With a half one this is mixed precision as it runs on GPUs:
    convolutions, norms and linear layers keep half-precision inputs; the loss, in float32, is left out.
    """
    kept = kept_tensors(model, torch.empty(2, in_channels, image_size, image_size, dtype=dtype, device="meta"))
    # What has no axis of images has one axis only: the means and deviations of BatchNorm, by channel.
    fixed = sum(tensor.untyped_storage().nbytes() for tensor in kept if tensor.dim() == 1)
    total = sum(tensor.untyped_storage().nbytes() for tensor in kept)
    return Activations(per_image=(total - fixed) // 2, fixed=fixed)


def kept_tensors(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Return what one forward pass saves, one tensor for each storage: views and in-place results share theirs."""
    own = {storage(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        if storage(tensor) not in own:
            kept.setdefault(storage(tensor), tensor)
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        model.train()(images)
    return list(kept.values())


def storage(tensor: Tensor) -> int:
    """Return what tells storages apart as long as their tensors live, on the meta device too."""
    return int(tensor.untyped_storage()._cdata)


def training_memory(
    arch: Architecture,
    image_size: int,
    microbatch_size: int,
    *,
    optimizer_slots: int,  # float32 values kept for a parameter: 0 SGD without momentum, 1 with, 2 LAMB
    average: bool = False,  # of the weights
    half: torch.dtype | None = None,  # of mixed precision
    drop_path_rate: float = 0.0,
) -> TrainingMemory:
    """Count the memory of training a net in micro-batches of `microbatch_size` images."""
    with torch.device("meta"):
        model = ResNet(arch, drop_path_rate=drop_path_rate)
    params = sum(parameter.numel() for parameter in model.parameters())
    state = FLOAT32 * params + sum(buffer.nbytes for buffer in model.buffers())
    dtype = half or torch.float32
    kept = kept_activations(model.to(dtype), image_size, in_channels=arch.in_channels, dtype=dtype)
    parts = {
        "weights": state,
        "gradients": FLOAT32 * params,
        "optimizer": FLOAT32 * params * optimizer_slots,
        "average": state * average,
        "half_weights": 2 * params * (half is not None),
        "activations": kept.fixed + kept.per_image * microbatch_size,
    }
    return TrainingMemory(**parts, total=sum(parts.values()))
