"""BatchNorm whose statistics are those of more images than one forward pass has."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torch.optim.swa_utils import update_bn

SMALLEST_DEVIATION = 1e-6  # of a convolution's outputs; a channel that is always the same has none
FOLDED = 1e-3  # how far statistics of a folded norm are from 0 and 1: eps and half precision


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


def keep_statistics(model: nn.Module) -> None:
    """Let every BatchNorm2d of a model in training normalise by its running statistics, which then stay."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def is_folded(model: nn.Module) -> bool:
    """Say whether a model's statistics were folded into other weights: all means are 0 and all variances 1.

    By batches' statistics such a net normalises what it never did before.
    """
    modules = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    zeros = all(float(values_of(module)[0].abs().max()) < FOLDED for module in modules)
    return bool(modules) and zeros and all(float((values_of(module)[1] - 1).abs().max()) < FOLDED for module in modules)


@torch.no_grad()
def unfold(model: nn.Module, images: Tensor) -> None:
    """Give a folded net the scales of one that is trained, without changing what it computes.

    Where norms were folded, a convolution's outputs may be a hundred times smaller than its norm's weight is large, and
    any usual rate makes it diverge.  Each convolution before a norm is divided by the deviation of its outputs on
    `images` [N, C, H, W], its norm takes their mean and variance, and its weight and bias make up for both.
    """
    found: dict[nn.BatchNorm2d, tuple[nn.Conv2d, Tensor, Tensor]] = {}

    def note(norm: nn.BatchNorm2d, conv: nn.Conv2d, outputs: Tensor) -> None:
        values, every = outputs.double(), (0, 2, 3)
        found[norm] = conv, values.mean(every), values.std(every)

    with_pairs(model, images, note)
    for norm, (conv, mean, deviation) in found.items():
        running_mean, running_var = values_of(norm)
        scale = deviation.clamp_min(SMALLEST_DEVIATION)
        slope = norm.weight.double() / (running_var.double() + norm.eps).sqrt()  # of the norm, as it was
        norm.bias.copy_(norm.bias.double() + slope * (mean - running_mean.double()))
        norm.weight.copy_(slope * scale * (1.0 + norm.eps) ** 0.5)
        conv.weight.copy_(conv.weight.double() / scale[:, None, None, None])
        running_mean.copy_(mean / scale)
        running_var.fill_(1.0)


def with_pairs(model: nn.Module, images: Tensor, note: Callable[[nn.BatchNorm2d, nn.Conv2d, Tensor], None]) -> None:
    """Show a model images [N, C, H, W], and tell of each norm the convolution that its inputs come from, and these."""
    makers: dict[int, nn.Conv2d] = {}  # of outputs, by their address

    def hear(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            makers[output.data_ptr()] = module
        elif isinstance(module, nn.BatchNorm2d) and inputs[0].data_ptr() in makers:
            note(module, makers[inputs[0].data_ptr()], inputs[0])

    handles = [module.register_forward_hook(hear) for module in model.modules()
               if isinstance(module, nn.Conv2d | nn.BatchNorm2d)]  # fmt: skip
    was_training = model.training
    try:
        model.eval()(images)
    finally:
        model.train(was_training)
        for handle in handles:
            handle.remove()


@torch.no_grad()
def fold(model: nn.Module, images: Tensor) -> None:
    """Fold every norm of a model in eval mode into the convolution before it, which `images` [N, C, H, W] tell."""
    pairs: dict[nn.BatchNorm2d, nn.Conv2d] = {}
    with_pairs(model, images, lambda norm, conv, outputs: pairs.update({norm: conv}))
    for norm, conv in pairs.items():
        mean, variance = values_of(norm)
        conv.weight, conv.bias = fuse_conv_bn_weights(conv.weight, conv.bias, mean, variance, norm.eps, norm.weight,
                                                      norm.bias)  # fmt: skip
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if child in pairs:
                setattr(parent, name, nn.Identity())


def take_precise_statistics(
    model: nn.Module, batches: Iterable[Tensor], sum_over_processes: Callable[[Tensor], None] | None = None
) -> None:
    """Replace BatchNorm's running statistics by the mean of those of `batches`, each float [N, C, H, W].

    The model keeps its mode and its weights (arXiv 2105.07576, section 3: "PreciseBN").  Of several processes each
    gives its own batches, if it has any, and `sum_over_processes`, which adds up a tensor in place.
    """
    own = 0

    def counted() -> Iterator[Tensor]:
        nonlocal own
        for images in batches:
            own += 1
            yield images

    update_bn(counted(), model)
    if sum_over_processes is None:
        return
    total = torch.tensor(float(own), device=next(model.parameters()).device)
    sum_over_processes(total)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in values_of(module):
                values.mul_(own / float(total))
                sum_over_processes(values)
            count_of(module).fill_(int(total))


class RunningStatistics:
    """BatchNorm's running statistics over processes: those of one that took all micro-batches of a step in turn.

    A running value is a sum: with momentum m, after n micro-batches of statistics s it is
    (1 - m)^n r + m (1 - m)^(n - 1) s_0 + ... + m s_(n - 1).  Each process keeps its own terms, the first one also that
    of the past, r, and at the end of a step they are added up.  SyncBatchNorm2d has the same values everywhere already.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = [module for module in model.modules() if type(module) is nn.BatchNorm2d]
        self._past: list[Tensor] = []  # counts of micro-batches before the step
        self._taken = 0  # micro-batches of the step that the values are up to

    @torch.no_grad()
    def begin(self, holds_past: bool) -> None:
        """Begin a step; of the past, all processes but one forget."""
        self._past, self._taken = [count_of(module).clone() for module in self.modules], 0
        if not holds_past:
            for module in self.modules:
                for values in values_of(module):
                    values.zero_()

    @torch.no_grad()
    def skip_to(self, part: int) -> None:
        """Let the values fade by the micro-batches of other processes before `part`, which the model takes next."""
        for module in self.modules:
            assert module.momentum is not None
            for values in values_of(module):
                values.mul_((1.0 - module.momentum) ** (part - self._taken))
        self._taken = part + 1

    @torch.no_grad()
    def finish(self, parts: int, sum_over_processes: Callable[[Tensor], None]) -> None:
        """End a step of so many micro-batches in all."""
        self.skip_to(parts)
        every = [values for module in self.modules for values in values_of(module)]
        if every:
            flat = torch.cat(every)
            sum_over_processes(flat)
            for values, total in zip(every, torch.split(flat, [len(values) for values in every]), strict=True):
                values.copy_(total)
        for module, past in zip(self.modules, self._past, strict=True):
            count_of(module).copy_(past + parts)


def values_of(module: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance [C]."""
    assert module.running_mean is not None
    assert module.running_var is not None
    return module.running_mean, module.running_var


def count_of(module: nn.BatchNorm2d) -> Tensor:
    """Return the count of micro-batches."""
    assert module.num_batches_tracked is not None
    return module.num_batches_tracked
