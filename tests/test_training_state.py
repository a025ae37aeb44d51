"""All that changes while training is gathered, and put back into a fresh training."""

from __future__ import annotations

import json
from dataclasses import replace

import torch

from resnetkit.assemble import Training, assemble
from resnetkit.recipe import Amp, Lamb, Recipe
from resnetkit.schedule import PlateauState
from resnetkit.step import train_step
from resnetkit.training_state import restore, training_facts, training_tensors
from tiny import RECIPE, tiny_dataset

DATASET = tiny_dataset()


def training_of(recipe: Recipe) -> Training:
    return assemble(recipe, DATASET, torch.device("cpu"))


def test_what_an_optimizer_remembers_goes_where_the_state_has_none() -> None:
    training = training_of(RECIPE)
    tensors = {name: value.clone() for name, value in training_tensors(training).items()}
    facts = json.loads(json.dumps(training_facts(training)))
    train_step(training, training.feed.batches.at(0), 0)
    assert set(training_tensors(training)) > set(tensors)
    restore(training, tensors, facts)
    assert set(training_tensors(training)) == set(tensors)


def test_a_restored_training_is_the_same() -> None:
    recipe = replace(RECIPE, amp=Amp(), optim=Lamb(0.01, weight_decay=0.02, decay_norms_and_biases=False))
    training = training_of(recipe)
    for step in range(2):
        train_step(training, training.feed.batches.at(step), step)
    training.scaler.update(128.0)
    training.plateau = PlateauState(0.1, 0.25, 3)
    tensors = {name: value.clone() for name, value in training_tensors(training).items()}
    facts = json.loads(json.dumps(training_facts(training)))
    fresh = training_of(recipe)
    restore(fresh, tensors, facts)
    again = training_tensors(fresh)
    assert set(again) == set(tensors)
    assert {name.partition(".")[0] for name in tensors} == {"model", "ema", "optimizer"}
    assert {name.rpartition(".")[2] for name in tensors if name.startswith("optimizer.")} == {
        *("step", "exp_avg", "exp_avg_sq"),
    }
    assert all(torch.equal(value, again[name]) for name, value in tensors.items())
    assert training_facts(fresh) == training_facts(training)
    assert fresh.scaler.get_scale() == 128.0
    assert fresh.plateau == PlateauState(0.1, 0.25, 3)
    for one in (training, fresh):
        train_step(one, one.feed.batches.at(2), 2)
    after = training_tensors(fresh)
    assert all(torch.equal(value, after[name]) for name, value in training_tensors(training).items())
