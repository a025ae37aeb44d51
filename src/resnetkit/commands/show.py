"""The commands `zoo` and `show`: what is published, what a recipe is, and what it costs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from resnetkit.batch_plan import fit
from resnetkit.commands.weights import show_weights, weights_facts
from resnetkit.cost import recipe_cost
from resnetkit.errors import BadRequest, did_you_mean
from resnetkit.forecast import forecast as forecast_of
from resnetkit.hub import parse_hub_name
from resnetkit.models.resnet import StrideStyle
from resnetkit.printing import (
    OUT,
    print_forecast,
    print_plan,
    print_published,
    print_weights,
    print_weights_table,
    print_zoo,
)
from resnetkit.published import PUBLISHED, published_row
from resnetkit.recipe import Recipe
from resnetkit.recipe_json import leaves, recipe_to_json
from resnetkit.recipes import RECIPES, load_recipe
from resnetkit.shipped_weights import SHIPPED
from resnetkit.weights_file import read_weights_file
from resnetkit.zoo import ZOO, zoo_row, zoo_rows


def zoo(published: bool, as_json: bool) -> int:
    """Print the published nets, or the weights that can be had by name."""
    if published:
        weights = [*map(shipped_row, SHIPPED), *map(published_row, PUBLISHED.values())]
        print(json.dumps(weights, indent=1)) if as_json else print_weights_table(weights)
        return 0
    rows = zoo_rows()
    if as_json:
        print(json.dumps(rows, indent=1))
    else:
        print_zoo(rows)
    return 0


def shipped_row(name: str) -> dict[str, Any]:
    """Return weights that come with the package as JSON data, with the keys of published ones."""
    file = read_weights_file(SHIPPED[name])
    (figures,) = file.about["metrics"].values()
    view = file.preprocess
    sizes = {"image_size": view.image_size, "resize_size": view.resize_size, "family": view.family}
    return {"name": name, "license": file.about["license"], **{key: figures[key] for key in ("top1", "top5", "images")},
            **sizes, "url": f"package:{SHIPPED[name].name}"}  # fmt: skip


def show(
    name: str,
    devices: int,
    max_microbatch: int | None,
    forecast: bool,
    overrides: list[str],
    plain: bool,
    stride_style: StrideStyle | None,
    raw: bool,
    as_json: bool,
) -> int:
    """Print what a recipe, a published net or a weights file is: all that is known of it."""
    if is_recipe(name):
        if plain or stride_style or raw:
            raise BadRequest(f"--plain, --stride-style, --raw: expected a foreign weights file, got {name}")
        return show_recipe(name, devices, max_microbatch, forecast, overrides, as_json)
    if devices != 1 or max_microbatch or forecast or overrides:
        raise BadRequest(f"--devices, --max-microbatch, --forecast, --set: expected a recipe, got {name}")
    return show_weights(name, as_json, plain, stride_style, raw)


def is_recipe(name: str) -> bool:
    """Tell a recipe or a net of the zoo from weights: a file, a folder, a name of published weights."""
    if name in RECIPES or name in ZOO or name.endswith(".json"):
        return True
    return not (Path(name).exists() or name in PUBLISHED or parse_hub_name(name))


def show_recipe(
    recipe: str, devices: int, max_microbatch: int | None, forecast: bool, overrides: list[str], as_json: bool
) -> int:
    """Print a complete recipe, what is published of it and what it costs; of a net without a recipe what is known."""
    published = zoo_row(ZOO[recipe]) if recipe in ZOO else None
    if published is not None and recipe not in RECIPES:
        return show_without_recipe(published, forecast or bool(overrides), as_json)
    if published is None and recipe not in RECIPES and not recipe.endswith(".json"):
        known = [*RECIPES, *ZOO, *PUBLISHED]
        raise BadRequest(
            f"no recipe, net or weights file is named {recipe!r}{did_you_mean(recipe, known)}", "next: resnetkit zoo"
        )
    chosen = load_recipe(recipe, overrides)
    own = weights_facts(read_weights_file(SHIPPED[recipe])) if recipe in SHIPPED else None
    if as_json:
        told = shown_facts(chosen, published, devices, max_microbatch, forecast) | {"comes_with": own}
        print(json.dumps(told, indent=1, default=str))
        return 0
    if published:
        print_published(published)
    for path, value in leaves(recipe_to_json(chosen)):
        OUT.print(f"{path:28} {json.dumps(value)}")
    cost, plan = recipe_cost(chosen), fit(chosen, devices, max_microbatch)
    OUT.print("")
    for line in cost.lines():
        OUT.print(line)
    print_plan(plan)
    if forecast:
        print_forecast(forecast_of(chosen, cost, plan))
    if own:
        OUT.print(f"\nthe package comes with weights of this net: resnetkit predict {recipe} IMAGE")
        print_weights(own)
    return 0


def show_without_recipe(published: dict[str, Any], asked_more: bool, as_json: bool) -> int:
    """Print what is known of a net that has weights or figures but no recipe."""
    if asked_more:
        raise BadRequest(f"{published['name']} has no recipe: nothing to change and nothing to forecast")
    if as_json:
        print(json.dumps({"name": published["name"], "published": published}, indent=1))
    else:
        print_published(published)
        OUT.print("no recipe: it is here for its weights or its figures")
    return 0


def shown_facts(
    recipe: Recipe, published: dict[str, Any] | None, devices: int, max_microbatch: int | None, forecast: bool
) -> dict[str, Any]:
    """Gather all that `show` says, as JSON data: the recipe's fields and, beside them, what is known of it."""
    cost, plan = recipe_cost(recipe), fit(recipe, devices, max_microbatch)
    told = {
        **recipe_to_json(recipe),
        "published": published,
        "cost": asdict(cost),
        "plan": {
            "devices": plan.devices,
            "recipe": recipe_to_json(plan.recipe),
            "microbatch_size": plan.microbatch_size,
            "accumulation": plan.accumulation,
            "reasons": list(plan.reasons),
            "warnings": list(plan.warnings),
        },
    }
    return told | ({"forecast": asdict(forecast_of(recipe, cost, plan))} if forecast else {})
