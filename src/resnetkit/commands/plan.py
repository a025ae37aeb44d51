"""The command `plan`: how a recipe would go on many devices."""

from __future__ import annotations

import json
from dataclasses import asdict

from resnetkit.plan import plan as plan_of
from resnetkit.printing import OUT, print_step_plan
from resnetkit.recipe_json import recipe_to_json
from resnetkit.recipes import load_recipe


def plan(
    recipe: str,
    nodes: int,
    devices_per_node: int,
    link: str,
    on: str,
    max_microbatch: int | None,
    overrides: list[str],
    as_json: bool,
) -> int:
    """Print step time, rates, memory and input of a recipe on some devices."""
    found = plan_of(load_recipe(recipe, overrides), nodes, devices_per_node, link, on, max_microbatch)
    if as_json:
        facts = asdict(found)
        facts["batch"]["recipe"] = recipe_to_json(found.batch.recipe)
        print(json.dumps(facts, indent=1))
    else:
        print_step_plan(found, OUT)
    return 0
