"""The recipes against the published values, and their learning rate at every step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from resnetkit.assemble import build_schedule
from resnetkit.errors import BadRequest, DamagedFile, RecipeError
from resnetkit.models import find_architecture
from resnetkit.recipe import Flip, Normalize, PadCrop, Recipe, Sgd, StepDecay, SubtractMeanImage, Warmup, recipe_to_json
from resnetkit.recipes import RECIPES, load_recipe

PAGE = [f"resnet{depth}_8xb16_cifar10" for depth in (18, 34, 50, 101, 152)]
PAPER = [f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)]
STEPS_PER_EPOCH = 391  # 50,000 images by 128, the last batch is smaller


def test_every_recipe_is_known_here() -> None:
    assert list(RECIPES) == ["quickstart", *PAGE, *PAPER]


@pytest.mark.parametrize("name", PAGE)
def test_rows_of_the_page(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.optim == Sgd(
        lr=0.1, momentum=0.9, nesterov=False, weight_decay=1e-4, decay_norms_and_biases=True
    )  # decay on all parameters
    assert (recipe.batch_size, recipe.microbatch_size) == (8 * 16, 16)
    assert recipe.schedule == StepDecay(drop_epochs=(100.0, 150.0), drop_factor=0.1)
    assert (recipe.total_epochs, recipe.total_steps, recipe.warmup) == (200, None, None)
    assert recipe.augment == (PadCrop(padding=4, mode="zero"), Flip(alternating=False))
    assert isinstance(recipe.preprocess, Normalize)
    assert [value * 255 for value in recipe.preprocess.mean] == pytest.approx([125.307, 122.961, 113.8575], abs=1e-12)
    assert [value * 255 for value in recipe.preprocess.std] == pytest.approx([51.5865, 50.847, 51.255], abs=1e-12)
    assert recipe.zero_init_last
    assert (recipe.label_smoothing, recipe.drop_path_rate, recipe.average_weights) == (0, 0, None)
    assert recipe.val_images == 0


def test_rows_of_the_page_train_the_nets_of_the_page() -> None:
    blocks = {name: find_architecture(RECIPES[name].model) for name in PAGE}
    assert [(arch.block, arch.depths) for arch in blocks.values()] == [
        ("basic", (2, 2, 2, 2)),
        ("basic", (3, 4, 6, 3)),
        ("bottleneck", (3, 4, 6, 3)),
        ("bottleneck", (3, 4, 23, 3)),
        ("bottleneck", (3, 8, 36, 3)),
    ]
    assert {(arch.stem, arch.stem_width, arch.shortcut) for arch in blocks.values()} == {("3x3", 64, "B")}


@pytest.mark.parametrize("name", PAPER)
def test_nets_of_the_paper(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.optim == Sgd(lr=0.1, momentum=0.9, nesterov=False, weight_decay=1e-4, decay_norms_and_biases=True)
    assert (recipe.batch_size, recipe.microbatch_size) == (2 * 64, 64)
    assert recipe.schedule == StepDecay(drop_steps=(32_000, 48_000), drop_factor=0.1)
    assert (recipe.total_epochs, recipe.total_steps) == (None, 64_000)
    assert recipe.preprocess == SubtractMeanImage()
    assert recipe.augment == (PadCrop(padding=4, mode="zero"), Flip(alternating=False))
    assert not recipe.zero_init_last
    assert (recipe.label_smoothing, recipe.drop_path_rate, recipe.average_weights) == (0, 0, None)
    at_a_tenth = Warmup(shape="constant", start_factor=0.1, warmup_steps=400)
    assert recipe.warmup == (at_a_tenth if name in ("resnet110", "plain110") else None)
    arch = find_architecture(recipe.model)
    depth = int(name.removeprefix("resnet").removeprefix("plain"))
    assert arch.depths == (((depth - 2) // 6),) * 3
    assert arch.widths == (16, 32, 64)
    assert arch.shortcut == ("A" if name.startswith("resnet") else "plain")


def drops(recipe: Recipe, *steps: int) -> Callable[[int], float]:
    def rate(step: int) -> float:
        tenths = sum(step >= drop for drop in steps)
        start = 0.1 if recipe.warmup and step < 400 else 1.0
        return 0.1 * start * 10.0**-tenths

    return rate


def quickstart_rate(step: int) -> float:
    """Draw the triangle from its corners: 0.05 at step 0, 0.5 after one epoch, 0 after four."""
    if step < STEPS_PER_EPOCH:
        return 0.05 + 0.45 * step / STEPS_PER_EPOCH
    return 0.5 * (4 * STEPS_PER_EPOCH - step) / (3 * STEPS_PER_EPOCH)


@pytest.mark.parametrize("name", list(RECIPES))
def test_learning_rate_at_every_step(name: str) -> None:
    recipe = RECIPES[name]
    total_steps = recipe.total_steps or round((recipe.total_epochs or 0) * STEPS_PER_EPOCH)
    assert total_steps == {"quickstart": 1564, **dict.fromkeys(PAGE, 78_200)}.get(name, 64_000)
    expected: Callable[[int], float] = quickstart_rate
    if name in PAGE:
        expected = drops(recipe, 100 * STEPS_PER_EPOCH, 150 * STEPS_PER_EPOCH)
    elif name in PAPER:
        expected = drops(recipe, 32_000, 48_000)
    lr_at = build_schedule(recipe, STEPS_PER_EPOCH, total_steps)
    wrong = [s for s in range(total_steps) if not math.isclose(lr_at(s), expected(s), rel_tol=1e-12)]
    assert wrong == []


def test_a_schedule_in_epochs_follows_the_length_of_the_epoch() -> None:
    recipe = RECIPES["resnet18_8xb16_cifar10"]
    lr_at = build_schedule(recipe, 352, 352 * 200)  # 45,000 images
    assert [lr_at(352 * 100 - 1), lr_at(352 * 100)] == pytest.approx([0.1, 0.01])


# --- from a name or a file ---


def test_load_by_name_and_by_file(tmp_path: Path) -> None:
    assert load_recipe("resnet20") == RECIPES["resnet20"]
    assert load_recipe("resnet20", ["val_images=5000"]) == replace(RECIPES["resnet20"], val_images=5000)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(recipe_to_json(RECIPES["resnet20"]) | {"name": "mine"}))
    assert load_recipe(str(file), ["seed=2"]) == replace(RECIPES["resnet20"], name="mine", seed=2)


def test_an_unknown_recipe_gives_near_and_all_names(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="unknown recipe 'quikstart'; did you mean 'quickstart'") as caught:
        load_recipe("quikstart")
    assert all(name in str(caught.value) for name in RECIPES)
    with pytest.raises(BadRequest, match="unknown recipe"):
        load_recipe(str(tmp_path / "absent.json"))


def test_an_unknown_model_is_listed_among_the_problems() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", ["model=resnet21", "seed=-1"])
    models, seed = sorted(caught.value.problems)
    assert models.startswith("model: unknown model 'resnet21'; did you mean 'resnet")
    assert seed.startswith("seed: ")


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text("{")
    with pytest.raises(DamagedFile, match=r"mine\.json is not JSON"):
        load_recipe(str(file))
