"""All recipes by name, and the way from a name or a file to a checked recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnetkit.data.packs import is_packed
from resnetkit.data.spec import OFFICIAL_SIZES
from resnetkit.errors import BadRequest, did_you_mean
from resnetkit.home import read_json
from resnetkit.models import find_architecture
from resnetkit.recipe import Recipe
from resnetkit.recipe_json import read_recipe, recipe_to_json
from resnetkit.recipes import cifar, cub, fast, imagenet, paper, paper_imagenet, quickstart, rsb

FAMILIES = (quickstart, fast, cifar, imagenet, rsb, cub, paper, paper_imagenet)
RECIPES: dict[str, Recipe] = {recipe.name: recipe for family in FAMILIES for recipe in family.RECIPES}


def model_problem(name: str) -> str | None:
    """Return what is wrong with the name of a model, or None."""
    try:
        find_architecture(name)
    except BadRequest as error:
        return error.what
    return None


def load_recipe(name_or_file: str, overrides: Sequence[str] = ()) -> Recipe:
    """Return the recipe of a name or of a JSON file, changed by overrides `field.path=value` and checked.

    Raises BadRequest for an unknown name, RecipeError with all problems of a recipe.
    """
    if name_or_file in RECIPES:
        data = recipe_to_json(RECIPES[name_or_file])
    elif name_or_file.endswith(".json") and Path(name_or_file).is_file():
        data = read_json(Path(name_or_file))
    else:
        near = did_you_mean(name_or_file, RECIPES)
        known = ", ".join(RECIPES)
        raise BadRequest(
            f"unknown recipe {name_or_file!r}{near}", f"expected a file ending in .json, or one of {known}"
        )
    return with_overrides(data, overrides)


def with_overrides(data: Any, overrides: Sequence[str]) -> Recipe:
    """Return the recipe that JSON data and overrides give, checked; RecipeError with all problems."""
    return read_recipe(data, overrides, {"model": model_problem, "data": data_problem}, val_problems)


def data_problem(name: str) -> str | None:
    """Return what is wrong with the name of data, or None."""
    if name in OFFICIAL_SIZES or is_packed(name) or Path(name).is_dir() or Path(name).is_file():
        return None
    near = did_you_mean(name, OFFICIAL_SIZES)
    return f"expected a folder of photos, a list of them, or one of {', '.join(OFFICIAL_SIZES)}, got {name!r}{near}"


def val_problems(recipe: Recipe) -> list[str]:
    """List what does not go with the size of the recipe's data set."""
    size = OFFICIAL_SIZES.get(recipe.data)
    if size is None or recipe.val_images < size.train_images:
        return []
    return [f"val_images: expected less than the {size.train_images} training images, got {recipe.val_images}"]


__all__ = ["RECIPES", "load_recipe", "with_overrides"]
