"""Every recipe of the package trains, saves, resumes and evaluates, on photos in folders.

Batch, image side, number of steps and the weights that CUB's row starts from are changed, by the overrides that any
user has; all else is as in the recipe.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from resnetkit import checkpoint
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.trees import read_photos
from resnetkit.evaluate import Evaluation
from resnetkit.home import file_sha256
from resnetkit.layouts.tables import openmmlab_rows, to_theirs
from resnetkit.models import ResNet, find_architecture
from resnetkit.recipe import Recipe
from resnetkit.recipe_json import read_recipe, recipe_to_json
from resnetkit.recipes import RECIPES
from resnetkit.train import train

SIDE, BATCH, STEPS = 64, 8, 2
COLOURS = {"blue": (40, 60, 200), "red": (210, 50, 40)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoDataset:
    """Twelve photos to train on and four to evaluate on: a colour with noise, of sizes and endings that differ."""
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name, colour in COLOURS.items():
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                height, width = rng.integers(70, 110, 2)
                pixels = (np.array(colour) + rng.integers(-40, 40, (height, width, 3))).clip(0, 255).astype(np.uint8)
                ending = ("jpg", "png")[number % 2]
                Image.fromarray(pixels).save(root / split / name / f"{number}.{ending}")
    return read_photos(root)


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ResNet-50 of other classes as OpenMMLab publishes them: its names, metadata, the older container."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("start") / "resnet50.pth"
    tensors = ResNet(replace(find_architecture("resnet50"), num_classes=7)).state_dict()
    theirs = to_theirs(tensors, openmmlab_rows(deep_stem=False, pooled=False))
    content = {"meta": {"CLASSES": list("abcdefg"), "epoch": 90}, "state_dict": theirs}
    torch.save(content, path, _use_new_zipfile_serialization=False)
    return path


def overrides(recipe: Recipe, start: Path) -> list[str]:
    """Return the changes that make a recipe small."""
    side = min(recipe.image_size, SIDE)
    changes = [f"batch_size={BATCH}", f"microbatch_size={BATCH}", f"image_size={side}"]
    changes += [f"view.crop_size={min(recipe.view.crop_size, SIDE)}", "total_epochs=null", f"total_steps={STEPS}"]
    return [*changes, f"init_from={start}"] if recipe.init_from else changes


def small(name: str, start: Path) -> Recipe:
    return read_recipe(recipe_to_json(RECIPES[name]), overrides(RECIPES[name], start))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """The nets are cut so small that threads would wait for each other longer than they work."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """A run directory that is removed: all states of all recipes are 30 GB."""
    yield tmp_path / "run"
    shutil.rmtree(tmp_path)


def test_all_recipes_are_found() -> None:
    assert len(RECIPES) == 67


def test_what_is_changed_is_little(start: Path) -> None:
    for name, recipe in RECIPES.items():
        before, after = recipe_to_json(recipe), recipe_to_json(small(name, start))
        changed = {field for field in before if before[field] != after[field]}
        assert changed <= {"batch_size", "microbatch_size", "image_size", "view", "total_epochs", "total_steps",
                           "init_from"}, name  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_it_trains_saves_resumes_and_evaluates(name: str, photos: PhotoDataset, start: Path, run: Path) -> None:
    recipe = small(name, start)
    assert train(recipe, photos, run, max_steps=1) is None
    assert [path.name for path in sorted((run / checkpoint.STATE).glob("step-*"))] == ["step-00000001"]
    outcome = train(recipe, photos, run, resume=True)
    assert isinstance(outcome, Evaluation)
    assert (outcome.images, outcome.num_classes) == (4, 2)
    assert [event["step"] for event in checkpoint.read_events(run) if event["event"] == "resume"] == [1]
    with safe_open(run / checkpoint.WEIGHTS, "pt") as weights:
        metadata = json.loads(weights.metadata()[checkpoint.METADATA_KEY])
        last = weights.get_tensor("bn1.running_mean")
    assert metadata["recipe"] == name
    origin = {"init_from": "resnet50.pth", "sha256": file_sha256(start)} if recipe.init_from else None
    assert metadata["origin"] == origin
    assert metadata["preprocess"]["image_size"] == recipe.view.crop_size
    # Statistics tell the step: a dynamic loss scale starts too high, and its first steps change no weight.
    assert not torch.equal(last, mean_at(run, 1))
    assert torch.equal(last, mean_at(run, 2)) or RECIPES[name].precise_bn_images


def mean_at(run: Path, step: int) -> torch.Tensor:
    """Return the running mean [channels] of the stem's norm in a saved state."""
    with safe_open(run / checkpoint.STATE / f"step-{step:08d}" / "tensors.safetensors", "pt") as tensors:
        mean: torch.Tensor = tensors.get_tensor("model.bn1.running_mean")
        return mean
