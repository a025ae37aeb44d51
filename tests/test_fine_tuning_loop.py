"""What fine-tuning adds to the loop: a fitted head, a slower body, statistics that stay, balance, early stopping."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from resnetkit import checkpoint
from resnetkit.assemble import Training, assemble, class_weights_of
from resnetkit.data.sampler import balanced_order
from resnetkit.data.spec import ArrayDataset, Split
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.errors import BadRequest
from resnetkit.evaluate import evaluate
from resnetkit.losses import binary_cross_entropy, cross_entropy, one_hot
from resnetkit.models.batchnorm import is_folded
from resnetkit.recipe import EarlyStopping, FrozenStart, Recipe, Sgd
from resnetkit.recipe_checks import contradictions
from resnetkit.step import train_step
from resnetkit.train import train
from tiny import RECIPE, STEPS, TIME_FIELDS, tiny_dataset, weights_sha256

CPU, DATASET = torch.device("cpu"), tiny_dataset()
FINE = replace(RECIPE, mix=(), drop_path_rate=0.0, average_weights=None, head_lr_factor=0.1, batchnorm="running",
               frozen_start=FrozenStart(), early_stopping=EarlyStopping(2), eval_every_epochs=0.5)  # fmt: skip


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights to start from: a run of one epoch."""
    run = tmp_path_factory.mktemp("runs") / "start"
    train(replace(RECIPE, total_epochs=1), DATASET, run)
    return run


@pytest.fixture
def recipe(start: Path) -> Recipe:
    return replace(FINE, init_from=str(start))


def timeless(run: Path, *left_out: str) -> list[dict[str, Any]]:
    events = [event for event in checkpoint.read_events(run) if event["event"] not in left_out]
    return [{key: value for key, value in event.items() if key not in TIME_FIELDS} for event in events]


def test_a_fitted_head_beats_a_drawn_one_before_the_first_step(recipe: Recipe) -> None:
    def top1(training: Training) -> float:
        return evaluate(TorchEngine(training.model, training.feed.preprocess), DATASET.test).top1

    drawn = assemble(replace(recipe, frozen_start=None), DATASET, CPU)
    fitted = assemble(recipe, DATASET, CPU)
    assert top1(fitted) > max(0.6, top1(drawn))
    for name, value in fitted.model.state_dict().items():
        assert name.startswith("fc.") or torch.equal(value, drawn.model.state_dict()[name])
    again = assemble(recipe, DATASET, CPU)
    assert torch.equal(again.model.fc.weight, fitted.model.fc.weight)
    goes_on = assemble(recipe, DATASET, CPU, goes_on=True)  # its state has the weights: nothing is fitted
    assert not torch.equal(goes_on.model.fc.weight, fitted.model.fc.weight)


def test_the_head_takes_steps_of_its_own(recipe: Recipe) -> None:
    def change(factor: float) -> tuple[float, float]:
        own = replace(recipe, head_lr_factor=factor, frozen_start=None, optim=Sgd(lr=0.1, momentum=0.0))
        training = assemble(own, DATASET, CPU)
        before = {name: value.detach().clone() for name, value in training.model.named_parameters()}
        for group in training.optimizer.param_groups:
            group["lr"] = 0.01 * group["lr_factor"]
        train_step(training, training.feed.batches.at(0), 0)
        moved = {
            name: float((value.detach() - before[name]).norm()) for name, value in training.model.named_parameters()
        }
        return moved["conv1.weight"], moved["fc.weight"]

    whole, tenth, none = change(1.0), change(0.1), change(0.0)
    assert tenth[1] == pytest.approx(whole[1] / 10, rel=1e-3) and none[1] == 0
    assert whole[0] == tenth[0] == none[0] > 0


def test_statistics_stay_where_the_recipe_says_so(recipe: Recipe) -> None:
    for kind, stays in (("running", True), ("batch", False)):
        training = assemble(replace(recipe, batchnorm=kind), DATASET, CPU)  # type: ignore[arg-type]
        before = training.model.state_dict()["bn1.running_mean"].clone()
        train_step(training, training.feed.batches.at(0), 0)
        assert torch.equal(before, training.model.state_dict()["bn1.running_mean"]) == stays
        assert training.model.training


def test_a_net_with_folded_statistics_is_recognised(recipe: Recipe) -> None:
    model = assemble(replace(recipe, frozen_start=None), DATASET, CPU).model
    assert not is_folded(model)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.reset_running_stats()  # means of 0, variances of 1
    assert is_folded(model)
    assert not is_folded(torch.nn.Linear(2, 2))


@pytest.mark.parametrize("stop", [2, 4, 9, 13])
def test_a_resumed_run_equals_an_uninterrupted_one(stop: int, recipe: Recipe, tmp_path: Path) -> None:
    own = replace(recipe, balance="sampling", early_stopping=EarlyStopping(4))
    train(own, DATASET, tmp_path / "whole")
    assert train(own, DATASET, tmp_path / "parts", max_steps=stop) is None
    train(own, DATASET, tmp_path / "parts", resume=True)
    assert weights_sha256(tmp_path / "parts") == weights_sha256(tmp_path / "whole")
    assert timeless(tmp_path / "parts", "start", "resume") == timeless(tmp_path / "whole", "start")


def test_early_stopping_keeps_the_best_weights(recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop: Any = importlib.import_module("resnetkit.train")
    shown = iter([0.7, 0.5, 0.6, 0.5, 0.8, 0.9])
    seen: list[dict[str, torch.Tensor]] = []
    whole = loop.evaluate

    def scripted(engine: Any, split: object, **options: Any) -> Any:
        outcome = whole(engine, split, **options)
        if split is not DATASET.test:
            seen.append({name: value.clone() for name, value in engine.model.state_dict().items()})
            monkeypatch.setattr(type(outcome), "loss", next(shown), raising=False)
        return outcome

    monkeypatch.setattr(loop, "evaluate", scripted)
    train(recipe, DATASET, tmp_path / "run")
    events = checkpoint.read_events(tmp_path / "run")
    evaluations = [event["step"] for event in events if event["event"] == "eval"]
    assert len(evaluations) == 4 and evaluations[0] == 0  # the best is the second; two more are not better
    last = events[-1]
    assert (last["event"], last["step"], last["best_step"]) == ("test", evaluations[3], evaluations[1])
    kept, _ = checkpoint.read_weights(tmp_path / "run" / checkpoint.WEIGHTS)
    assert all(torch.equal(kept[name], value) for name, value in seen[1].items())
    assert not all(torch.equal(kept[name], value) for name, value in seen[3].items())


def test_a_run_that_gets_better_goes_to_its_end(recipe: Recipe, tmp_path: Path) -> None:
    train(replace(recipe, early_stopping=EarlyStopping(50)), DATASET, tmp_path / "run")
    assert checkpoint.read_events(tmp_path / "run")[-1]["step"] == STEPS


def test_test_images_never_decide(recipe: Recipe) -> None:
    with pytest.raises(BadRequest, match="expected images of val"):
        assemble(replace(recipe, val_images=0), DATASET, CPU)


def uneven() -> ArrayDataset:
    """The tiny data with ninety, fifteen and three images a class."""
    labels = DATASET.train.labels
    chosen = np.concatenate([np.flatnonzero(labels == label)[:count] for label, count in enumerate((30, 15, 3))])
    return replace(DATASET, train=Split(DATASET.train.images[chosen], labels[chosen]))


def test_class_weights_are_of_mean_one_and_reach_the_loss(recipe: Recipe) -> None:
    data = uneven()
    own = replace(recipe, balance="class_weights", val_images=0, early_stopping=None, frozen_start=None)
    weights = class_weights_of(own, data.train.labels, 3)
    assert weights is not None
    assert weights.numpy() == pytest.approx([48 / 90, 48 / 45, 48 / 9])
    assert float(weights[torch.from_numpy(data.train.labels.astype(np.int64))].mean()) == pytest.approx(1.0)
    training = assemble(own, data, CPU)
    logits, labels = torch.randn(6, 3), torch.tensor([0, 0, 1, 1, 2, 2])
    losses = torch.nn.functional.cross_entropy(logits, labels, reduction="none", label_smoothing=0.1)
    torch.testing.assert_close(training.loss(logits, labels), (losses * weights[labels]).mean())
    assert class_weights_of(replace(own, balance="none"), data.train.labels, 3) is None


@pytest.mark.parametrize("loss", [cross_entropy, binary_cross_entropy])
def test_weights_of_one_change_nothing_and_soft_targets_are_weighted_by_their_shares(
    loss: Callable[..., torch.Tensor],
) -> None:
    logits, labels = torch.randn(8, 4), torch.randint(4, (8,))
    torch.testing.assert_close(loss(logits, labels, class_weights=torch.ones(4)), loss(logits, labels))
    weights = torch.tensor([0.5, 1.0, 2.0, 0.0])
    hard, soft = loss(logits, labels, class_weights=weights), loss(logits, one_hot(labels, 4), class_weights=weights)
    torch.testing.assert_close(hard, soft)
    rows = torch.stack([loss(logits[i : i + 1], labels[i : i + 1]) * weights[labels[i]] for i in range(8)])
    torch.testing.assert_close(hard, rows.mean())


@given(st.lists(st.integers(0, 4), min_size=1, max_size=80), st.integers(0, 9), st.integers(0, 5))
def test_balanced_sampling_shows_classes_equally_often(labels: list[int], seed: int, epoch: int) -> None:
    own = np.array(labels)
    order = balanced_order(seed, epoch, own)
    assert len(order) == len(own)
    counts = np.bincount(own[order], minlength=5)[np.unique(own)]
    assert counts.max() - counts.min() <= 1
    for label in set(labels):
        times = np.bincount(order, minlength=len(own))[own == label]
        assert times.max() - times.min() <= 1
    np.testing.assert_array_equal(order, balanced_order(seed, epoch, own))


def test_balanced_sampling_reaches_the_loop(recipe: Recipe) -> None:
    own = replace(recipe, balance="sampling", val_images=0, early_stopping=None, frozen_start=None)
    batches = assemble(own, uneven(), CPU).feed.batches
    shown = np.concatenate([batches.at(step).labels.numpy() for step in range(batches.steps_per_epoch)])
    assert np.bincount(shown).tolist() == [16, 16, 16]


def test_what_cannot_hold_together_is_told_at_once() -> None:
    bad = replace(FINE, precise_bn_images=10, head_lr_factor=-1.5)
    found = contradictions(bad)
    assert len([problem for problem in found if problem.split(":")[0] in
                ("frozen_start", "batchnorm", "precise_bn_images", "head_lr_factor")]) == 5  # fmt: skip
