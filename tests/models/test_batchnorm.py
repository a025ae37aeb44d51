"""BatchNorm over several processes equals BatchNorm over their batches together; precise statistics are means."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import nn

from resnetkit.models import ResNet, find_architecture
from resnetkit.models.batchnorm import (
    RunningStatistics,
    SyncBatchNorm2d,
    synchronise_batchnorm,
    take_precise_statistics,
)

SIZES = (5, 3)  # images of the two processes


def images_of(rank: int) -> torch.Tensor:
    return torch.randn(SIZES[rank], 4, 6, 6, generator=torch.Generator().manual_seed(rank)) * (rank + 1) + rank


def norm(kind: type[nn.BatchNorm2d]) -> nn.BatchNorm2d:
    torch.manual_seed(9)
    built = kind(4)
    nn.init.normal_(built.weight)
    nn.init.normal_(built.bias)
    return built


def weigh(output: torch.Tensor) -> torch.Tensor:
    """A loss with a gradient of its own for every element."""
    return (output**3 * torch.linspace(0.5, 1.5, output[0].numel()).view(output.shape[1:])).sum()


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    try:
        module, images = norm(SyncBatchNorm2d), images_of(rank).requires_grad_()
        output = module(images)
        weigh(output).backward()  # type: ignore[no-untyped-call]
        assert module.weight.grad is not None and module.bias.grad is not None
        for gradient in (module.weight.grad, module.bias.grad):
            dist.all_reduce(gradient)  # as DistributedDataParallel would
        module.eval()
        gradients = {"images": images.grad, "weight.grad": module.weight.grad, "bias.grad": module.bias.grad}
        results = {"output": output.detach(), "evaluated": module(images).detach(), **gradients, **module.state_dict()}
        torch.save(results, Path(folder) / f"{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_processes_equal_one_with_both_batches(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=work, args=(rank, str(tmp_path))) for rank in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    whole, images = norm(nn.BatchNorm2d), torch.cat([images_of(0), images_of(1)]).requires_grad_()
    output = whole(images)
    weigh(output).backward()  # type: ignore[no-untyped-call]
    assert images.grad is not None and whole.weight.grad is not None and whole.bias.grad is not None
    state = whole.state_dict()
    whole.eval()
    parts: list[dict[str, Any]] = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    for name, expected in (("output", output), ("images", images.grad), ("evaluated", whole(images))):
        found = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(found, expected.detach(), rtol=1e-4, atol=1e-5)
    for part in parts:
        torch.testing.assert_close(part["weight.grad"], whole.weight.grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(part["bias.grad"], whole.bias.grad, rtol=1e-4, atol=1e-4)
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            torch.testing.assert_close(part[name], state[name])


def test_in_one_process_it_is_batchnorm() -> None:
    ours, theirs, images = norm(SyncBatchNorm2d), norm(nn.BatchNorm2d), images_of(0)
    assert torch.equal(ours(images), theirs(images))
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in ours.state_dict().items())


def test_every_norm_of_a_net_is_synchronised_and_keeps_its_names() -> None:
    with torch.device("meta"):
        model = ResNet(find_architecture("resnetv1d50"))
    before = list(model.state_dict())
    norms = sum(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    synchronise_batchnorm(model)
    assert sum(isinstance(module, SyncBatchNorm2d) for module in model.modules()) == norms == 55
    assert list(model.state_dict()) == before


@pytest.mark.parametrize("mode", [True, False])
def test_precise_statistics_are_the_means_of_the_batches(mode: bool) -> None:
    module = norm(nn.BatchNorm2d)
    module.train(mode)
    module.running_mean.fill_(99.0)  # type: ignore[union-attr]  # what was there before does not count
    batches = [images_of(0), images_of(1), images_of(0) * 3]
    take_precise_statistics(module, batches)
    means = torch.stack([batch.mean((0, 2, 3)) for batch in batches]).mean(0)
    variances = torch.stack([batch.transpose(0, 1).flatten(1).var(1) for batch in batches]).mean(0)
    assert module.running_mean is not None and module.running_var is not None
    torch.testing.assert_close(module.running_mean, means)
    torch.testing.assert_close(module.running_var, variances)
    assert module.training is mode and module.momentum == 0.1


@pytest.mark.parametrize("size", [2, 3, 5])
def test_running_statistics_of_processes_are_those_of_one_that_took_all_in_turn(size: int) -> None:
    steps = [torch.randn(4, 6, 4, 3, 3), torch.randn(3, 6, 4, 3, 3)]  # of 4 and of 3 micro-batches
    whole = norm(nn.BatchNorm2d)
    models = [norm(nn.BatchNorm2d) for _ in range(size)]
    shares = [RunningStatistics(model) for model in models]
    for step in steps:
        for part in step:
            whole(part)
        for rank, (model, share) in enumerate(zip(models, shares, strict=True)):
            share.begin(holds_past=rank == 0)
            for number in range(rank, len(step), size):
                share.skip_to(number)
                model(step[number])
        flat: list[torch.Tensor] = []
        for share in shares:
            share.finish(len(step), lambda values: flat.append(values.clone()))  # noqa: B023
        total = torch.stack(flat).sum(0)
        for share in shares:  # what each holds is its own terms: now the sum
            for values, summed in zip(
                (share.modules[0].running_mean, share.modules[0].running_var), torch.split(total, 4), strict=True
            ):
                assert values is not None
                values.copy_(summed)
        for model in models:
            for name, value in whole.state_dict().items():
                torch.testing.assert_close(model.state_dict()[name], value)
