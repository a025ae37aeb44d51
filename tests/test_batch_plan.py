"""A recipe on other hardware, against golden cases and for any numbers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.batch_plan import BatchPlan, fit
from resnetkit.errors import BadRequest
from resnetkit.recipe import Muon, Recipe, RepeatedAugmentation
from resnetkit.recipe_checks import contradictions
from resnetkit.recipes import RECIPES

RSB = RECIPES["resnet50_8xb256-rsb-a1-600e_in1k"]
IN1K = RECIPES["resnet50_8xb32_in1k"]
CUB = RECIPES["resnet50_8xb8_cub"]
RESNET20 = RECIPES["resnet20"]


def shape(plan: BatchPlan) -> tuple[int, int, int]:
    return plan.microbatch_size, plan.accumulation, plan.recipe.batch_size


@pytest.mark.parametrize(
    ("recipe", "devices", "expected"),
    [
        (IN1K, 1, (32, 8, 256)),
        (IN1K, 2, (32, 4, 256)),
        (IN1K, 3, (29, 3, 261)),
        (IN1K, 4, (32, 2, 256)),
        (IN1K, 8, (32, 1, 256)),
        (IN1K, 16, (16, 1, 256)),
        (RSB, 1, (256, 8, 2048)),
        (RSB, 3, (228, 3, 2052)),
        (RSB, 8, (256, 1, 2048)),
        (RESNET20, 3, (43, 1, 129)),
    ],
)
def test_golden_cases(recipe: Recipe, devices: int, expected: tuple[int, int, int]) -> None:
    assert shape(fit(recipe, devices)) == expected


def test_micro_batches_that_fit_the_device() -> None:
    plan = fit(CUB, 1, max_microbatch=2)
    assert shape(plan) == (2, 32, 64)
    assert plan.recipe == replace(CUB, microbatch_size=2)
    assert "a micro-batch has at most 2 images, as asked" in plan.reasons
    assert plan.warnings == (
        "BatchNorm's statistics are those of 2 images instead of 8: accuracy may differ from the recipe's",
    )


def test_the_rate_follows_another_batch_by_the_rule_of_its_optimizer() -> None:
    sgd, lamb = fit(IN1K, 3), fit(RSB, 3)
    assert sgd.recipe.optim.lr == pytest.approx(0.1 * 261 / 256)
    assert lamb.recipe.optim.lr == pytest.approx(0.005 * math.sqrt(2052 / 2048))
    assert "learning rate 0.101953 instead of 0.1: in proportion to the batch, SGD (arXiv 1706.02677)" in sgd.reasons
    square_root = "in proportion to the square root of the batch, LAMB (arXiv 1904.00962)"
    assert f"learning rate 0.00500488 instead of 0.005: {square_root}" in lamb.reasons


def test_both_rates_of_muon_follow_another_batch() -> None:
    recipe = RECIPES["fast_resnet20"]
    assert isinstance(recipe.optim, Muon)
    plan = fit(recipe, 3)
    assert plan.recipe.batch_size == 129 and isinstance(plan.recipe.optim, Muon)
    assert plan.recipe.optim.lr == pytest.approx(recipe.optim.lr * 129 / 128)
    assert plan.recipe.optim.sgd_lr == pytest.approx(recipe.optim.sgd_lr * 129 / 128)
    (said,) = [reason for reason in plan.reasons if reason.startswith("learning rate")]
    assert said == (
        "learning rate 0.0302344 instead of 0.03: in proportion to the batch as SGD's, 0.302344 instead of 0.3 "
        "(arXiv 1706.02677); no rule of Muon is known"
    )


def test_statistics_of_synchronised_norms_are_those_of_all_devices() -> None:
    assert fit(RSB, 8).warnings == ()
    (one,) = fit(RSB, 1).warnings
    assert one.startswith("BatchNorm's statistics are those of 256 images, all that 1 device can take at once, instead")
    assert fit(RSB, 16).warnings == ()  # 16 times 128
    (plain,) = fit(IN1K, 16).warnings
    assert plain.startswith("BatchNorm's statistics are those of 16 images instead of 32:")


def test_what_a_recipe_counts_in_steps_is_said() -> None:
    said = "what the recipe counts in steps stays so: as many steps show 1.008 times the images"
    assert fit(RESNET20, 3).reasons[-1] == said
    assert not [reason for reason in fit(IN1K, 3).reasons if "counts in steps" in reason]


def test_copies_that_share_a_micro_batch_are_warned_of() -> None:
    single = replace(RSB, batch_size=256, repeated_augmentation=RepeatedAugmentation(repeats=3))
    said = "a step has 2 micro-batches, fewer than the 3 copies of an image: copies share a micro-batch"
    assert fit(single, 2).warnings == (said,)
    assert fit(single, 4).warnings == ()
    assert not [w for devices in (1, 2, 3, 8, 16) for w in fit(RSB, devices).warnings if "copies" in w]


def test_every_recipe_comes_out_unchanged_on_one_device() -> None:
    for recipe in RECIPES.values():
        plan = fit(recipe, 1)
        assert plan.recipe == recipe
        assert plan.accumulation == recipe.devices
        assert bool(plan.warnings) == recipe.sync_batchnorm
    assert len(RECIPES) > 60


@pytest.mark.parametrize(("devices", "most"), [(0, None), (-1, None), (1, 0)])
def test_less_than_one_is_refused(devices: int, most: int | None) -> None:
    with pytest.raises(BadRequest, match="expected 1 or more"):
        fit(IN1K, devices, most)


@given(
    devices=st.integers(1, 3000),
    microbatch=st.integers(1, 300),
    parts=st.integers(1, 40),
    most=st.none() | st.integers(1, 400),
    synchronised=st.booleans(),
)
def test_any_plan_holds(devices: int, microbatch: int, parts: int, most: int | None, synchronised: bool) -> None:
    recipe = replace(RSB, microbatch_size=microbatch, batch_size=microbatch * parts, sync_batchnorm=synchronised)
    plan = fit(recipe, devices, most)
    assert plan.microbatch_size * plan.accumulation * plan.devices == plan.recipe.batch_size
    assert plan.recipe.microbatch_size == plan.microbatch_size <= min(microbatch, most or microbatch)
    assert contradictions(plan.recipe) == []
    if devices <= recipe.batch_size:
        assert 1 / 1.5 <= plan.recipe.batch_size / recipe.batch_size <= 1.5
    if plan.recipe.batch_size == recipe.batch_size:
        assert plan.recipe.optim == recipe.optim
