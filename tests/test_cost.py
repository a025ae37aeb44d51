"""What recipes cost, against the figures of the page's code and the paper."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from resnetkit.cost import RecipeCost, recipe_cost
from resnetkit.errors import BadRequest
from resnetkit.models import MODELS
from resnetkit.recipe import ProgressiveCrop, Recipe
from resnetkit.recipes import RECIPES

RSB = "resnet50_8xb256-rsb-{}_in1k"


def steps_of(recipe: Recipe, monkeypatch: pytest.MonkeyPatch) -> RecipeCost:
    """Count steps and images without the net."""
    monkeypatch.setattr("resnetkit.cost.find_architecture", lambda name: TINY)
    return recipe_cost(recipe)


TINY = MODELS["resnet4_tiny"]


@pytest.mark.parametrize(
    ("name", "steps_per_epoch", "steps"),
    [
        ("resnet18_8xb16_cifar10", 391, 78_200),
        ("resnet50_8xb16_cifar100", 391, 78_200),
        ("resnet50_8xb32_in1k", 5005, 500_500),
        (RSB.format("a1-600e"), 626, 375_600),
        (RSB.format("a2-300e"), 626, 187_800),
        (RSB.format("a3-100e"), 626, 62_600),
        ("resnet50_8xb8_cub", 94, 9400),
        ("resnet50_32xb64-warmup_in1k", 626, 62_600),
        ("resnet50_8xb128_coslr-90e_in21k", 13_865, 1_247_850),
        ("resnet20", 391, 64_000),
        ("resnet34_a", 5005, 600_000),
    ],
)
def test_steps(name: str, steps_per_epoch: int, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = steps_of(RECIPES[name], monkeypatch)
    assert (cost.steps_per_epoch, cost.steps) == (steps_per_epoch, steps)
    assert cost.epochs == pytest.approx(steps / steps_per_epoch)


def test_every_recipe_has_a_cost(monkeypatch: pytest.MonkeyPatch) -> None:
    costs = [steps_of(recipe, monkeypatch) for recipe in RECIPES.values()]
    assert len(costs) > 60
    assert all(cost.steps >= 1 and cost.samples <= cost.steps * cost.batch_size for cost in costs)


def test_images_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(name: str) -> int:
        return steps_of(RECIPES[name], monkeypatch).samples

    assert seen("resnet50_8xb32_in1k") == 100 * 1_281_167
    # 160,128 a GPU in mmclassification 0.x, 160,146 in mmpretrain 1.x
    assert seen(RSB.format("a1-600e")) == 600 * 8 * 160_128
    assert seen(RSB.format("a1-600e") + "-mmpretrain1x") == 600 * 8 * 160_146
    # 163 whole epochs, then 267 whole batches
    assert seen("resnet20") == 163 * 50_000 + 267 * 128


def test_sizes_that_are_given_and_images_that_are_held_out() -> None:
    cost = recipe_cost(replace(RECIPES["resnet20"], data="photos", val_images=28), train_images=540, num_classes=3)
    assert (cost.train_images, cost.steps_per_epoch, cost.num_classes) == (512, 4, 3)
    assert cost.params == 269_722 - 7 * 65
    with pytest.raises(BadRequest, match="the size of 'photos' is not known"):
        recipe_cost(replace(RECIPES["resnet20"], data="photos"))
    with pytest.raises(BadRequest, match="val_images: expected less than the 100 training images, got 100"):
        recipe_cost(replace(RECIPES["resnet20"], val_images=100), train_images=100)


def test_arithmetic_at_the_size_of_training_and_of_evaluation() -> None:
    cost = recipe_cost(RECIPES[RSB.format("a3-100e")])
    assert (cost.image_size, cost.eval_image_size) == (160, 224)
    assert (cost.params, cost.macs, cost.eval_macs) == (25_557_032, 2_087_321_600, 4_089_184_256)
    assert cost.train_flops == 6 * 2_087_321_600 * 128_116_700
    cub = recipe_cost(RECIPES["resnet50_8xb8_cub"])
    assert (cub.params, cub.eval_macs) == (23_917_832, cub.macs)
    assert round(cub.macs / 1e9, 5) == 16.34895


def test_smaller_images_cost_what_they_cost() -> None:
    recipe = RECIPES["fast_resnet20"]
    whole = recipe_cost(recipe)
    crop = ProgressiveCrop(sizes=(16, 24), until_epochs=(2, 5))
    cost = recipe_cost(replace(recipe, augment=(crop,)))
    small, middle = (recipe_cost(replace(recipe, image_size=size)).macs for size in (16, 24))
    assert small * 4 == pytest.approx(whole.macs, rel=1e-3)
    assert cost.train_flops == 6 * 50_000 * (2 * small + 3 * middle + (24 - 5) * whole.macs)
    assert (cost.macs, cost.samples) == (whole.macs, whole.samples)
    assert "of 32 x 32, smaller ones until epoch 5" in cost.lines()[1] and "smaller" not in whole.lines()[1]
    short = recipe_cost(replace(recipe, augment=(crop,), total_epochs=None, total_steps=10))
    assert short.train_flops == 6 * 1280 * small


def test_in_words() -> None:
    first, second, third = recipe_cost(RECIPES[RSB.format("a3-100e")]).lines()
    assert first.startswith("62,600 steps of 2,048 images, 626 an epoch: 100.0 epochs of 1,281,167 images, 128,116,700")
    assert second == (
        "25,557,032 parameters, 2,087,321,600 multiply-adds an image of 160 x 160; "
        "evaluation at 224 x 224: 4,089,184,256"
    )
    assert third.startswith("1,604.525 PFLOP of training: 2 operations a multiply-add")
    assert "evaluation at" not in recipe_cost(RECIPES["resnet20"]).lines()[1]
    assert round(asdict(recipe_cost(RECIPES["resnet20"]))["macs"] / 1e6, 2) == 40.55  # the paper's net
