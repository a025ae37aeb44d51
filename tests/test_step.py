"""One optimizer step: micro-batches as devices have them, mixing, mixed precision, clipping."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from resnetkit.assemble import Training, assemble
from resnetkit.data.loader import Batch
from resnetkit.recipe import Amp, BinaryCrossEntropy, CrossEntropy, CutMix, Mixup, Recipe, Sgd
from resnetkit.step import microbatches, mixed, take_step, train_step
from tiny import RECIPE, tiny_dataset

DATASET = tiny_dataset()
CPU = torch.device("cpu")
BARE = replace(RECIPE, mix=(), drop_path_rate=0.0, average_weights=None, loss=CrossEntropy())


def training_of(recipe: Recipe) -> Training:
    return assemble(recipe, DATASET, CPU)


def weights_of(training: Training) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in training.model.parameters()]


def test_a_microbatch_is_what_a_device_would_have() -> None:
    training = training_of(replace(BARE, batch_size=16, microbatch_size=4))
    images = torch.arange(14.0)[:, None, None, None].expand(14, 3, 4, 4)
    batch = Batch(images, torch.arange(14), np.arange(14))
    parts = list(microbatches(training, batch))
    assert [labels.tolist() for _, labels in parts] == [[0, 4, 8, 12], [1, 5, 9, 13], [2, 6, 10], [3, 7, 11]]
    assert all((part[:, 0, 0, 0].long() == labels).all() for part, labels in parts)
    assert all(part.is_contiguous(memory_format=torch.channels_last) for part, _ in parts)
    few = Batch(images[:3], torch.arange(3), np.arange(3))
    assert [labels.tolist() for _, labels in microbatches(training, few)] == [[0], [1], [2]]


def test_mixing_is_drawn_anew_for_each_step_and_microbatch_and_again_the_same() -> None:
    training = training_of(replace(RECIPE, mix=(Mixup(1.0, 0.5), CutMix(1.0, 0.5))))
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % 3
    first = mixed(training, images, labels, 5, 0)
    assert all(torch.equal(*pair) for pair in zip(first, mixed(training, images, labels, 5, 0), strict=True))
    others = [mixed(training, images, labels, step, part)[0] for step, part in ((5, 1), (6, 0), (7, 0))]
    assert not any(torch.equal(first[0], other) for other in others)
    assert first[1].shape == (8, 3) and torch.allclose(first[1].sum(1), torch.ones(8))


def test_labels_stay_labels_without_mixing() -> None:
    training = training_of(BARE)
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8) % 3
    assert mixed(training, images, labels, 0, 0) == (images, labels)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [(CrossEntropy(), np.log(3)), (BinaryCrossEntropy(), 3 * np.log(2)),
     (BinaryCrossEntropy(reduction="mean_over_classes"), np.log(2))],
)  # fmt: skip
def test_the_recipes_loss_is_the_one_that_is_taken(loss: CrossEntropy | BinaryCrossEntropy, expected: float) -> None:
    training = training_of(replace(BARE, loss=loss))
    torch.nn.init.zeros_(training.model.fc.weight)  # all logits are zero
    tally = train_step(training, training.feed.batches.at(0), 0)
    assert tally.loss_sum / tally.images == pytest.approx(expected, rel=1e-6)


def test_the_tally_counts_the_largest_share_of_mixed_targets() -> None:
    training = training_of(replace(RECIPE, mix=(Mixup(0.2, 1.0),)))
    torch.nn.init.zeros_(training.model.fc.weight)
    torch.nn.init.constant_(training.model.fc.bias, 0.0)
    training.model.fc.bias.data[1] = 1.0  # predicts class 1 always
    batch = training.feed.batches.at(0)
    tally = train_step(training, batch, 0)
    targets = [mixed(training, images, labels, 0, part)[1] for part, (images, labels) in
               enumerate(microbatches(training, batch))]  # fmt: skip
    assert tally.correct == int((torch.cat(targets).argmax(1) == 1).sum()) > 0


def test_gradients_are_clipped_to_their_norm_together() -> None:
    moved = []
    for clip in (None, 1e-3):
        recipe = replace(BARE, clip_grad_norm=clip, warmup=None, optim=Sgd(1.0, momentum=0.0))
        training = training_of(recipe)
        before = weights_of(training)
        for group in training.optimizer.param_groups:
            group["lr"] = 1.0
        train_step(training, training.feed.batches.at(0), 0)
        change = [now - then for now, then in zip(weights_of(training), before, strict=True)]
        moved.append(float(torch.cat([part.flatten() for part in change]).norm()))
    assert moved[0] > 0.1
    assert moved[1] == pytest.approx(1e-3, rel=1e-2)


# --- mixed precision ---


def test_half_precision_is_used_in_the_net_and_weights_stay_single() -> None:
    for dtype in ("float16", "bfloat16"):
        training = training_of(replace(BARE, amp=Amp(dtype)))
        seen: list[torch.dtype] = []
        training.model.stages()[0].register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))  # noqa: B023
        train_step(training, training.feed.batches.at(0), 0)
        assert seen == [getattr(torch, dtype)] * 2
        assert {parameter.dtype for parameter in training.model.parameters()} == {torch.float32}
        assert training.scaler.is_enabled() is (dtype == "float16")


def test_the_loss_scale_does_not_change_the_step() -> None:
    ends = []
    for scale in (1.0, 512.0):
        training = training_of(replace(BARE, amp=Amp(loss_scale=scale)))
        for step in range(3):
            train_step(training, training.feed.batches.at(step), step)
        ends.append(torch.cat([weight.flatten() for weight in weights_of(training)]))
    torch.testing.assert_close(ends[0], ends[1], rtol=2e-2, atol=2e-3)


def overflow(training: Training) -> None:
    """Give gradients of which one is infinite, scaled."""
    for parameter in training.model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    training.model.fc.bias.grad = torch.full_like(training.model.fc.bias, float("inf"))
    training.scaler.scale(torch.zeros(()))  # what makes the scaler ready


def test_a_constant_scale_stays_and_a_step_that_overflows_is_left_out() -> None:
    training = training_of(replace(BARE, amp=Amp(loss_scale=512.0)))
    before = weights_of(training)
    overflow(training)
    take_step(training)
    assert all(torch.equal(now, then) for now, then in zip(weights_of(training), before, strict=True))
    assert training.scaler.get_scale() == 512.0


def test_a_dynamic_scale_halves_after_an_overflow_and_doubles_in_time() -> None:
    training = training_of(replace(BARE, amp=Amp()))
    assert training.scaler.get_growth_interval() == 2000  # steps
    training.scaler.set_growth_interval(3)
    overflow(training)
    take_step(training)
    assert training.scaler.get_scale() == 32768.0
    for expected in (32768.0, 32768.0, 65536.0):
        for parameter in training.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        take_step(training)
        assert training.scaler.get_scale() == expected
