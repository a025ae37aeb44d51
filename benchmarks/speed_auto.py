"""What does `--speed auto` choose here, and how much faster are the steps?

run: python benchmarks/speed_auto.py      writes results/speed-auto.json; about 10 minutes, on an idle machine

Each recipe is tried in a process of its own: memory that one kept would be there for the next.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from resnetkit.cost import recipe_cost
from resnetkit.home import write_json
from resnetkit.provenance import provenance
from resnetkit.recipe_json import recipe_to_json
from resnetkit.recipes import load_recipe
from resnetkit.speed import SETTINGS, choose_speed

RESULT = Path(__file__).parents[1] / "results" / "speed-auto.json"
# Whole batches, and the rows of the page that have mixed precision.
RECIPES = {
    "resnet18_8xb16_cifar10": ("microbatch_size=128",),
    "resnet20": (),
    "resnet50_8xb32-fp16_in1k": (),
}


def choose(name: str) -> None:
    """Choose for one recipe, and print it as JSON."""
    recipe = load_recipe(name, RECIPES[name])
    cost = recipe_cost(recipe)
    chosen, trials = choose_speed(recipe, cost.num_classes, cost.steps * recipe.devices, torch.device("cpu"),
                                  say=lambda line: print(line, file=sys.stderr))  # fmt: skip
    settings = {setting: recipe_to_json(chosen)[setting] for setting in SETTINGS}
    print(json.dumps({"settings": settings, "trials": [asdict(trial) for trial in trials]}))


def main() -> None:
    """Choose for each recipe and write it down."""
    result = {}
    for name, overrides in RECIPES.items():
        done = subprocess.run([sys.executable, __file__, name], check=True, stdout=subprocess.PIPE, text=True)
        result[name] = {"overrides": overrides} | json.loads(done.stdout)
    facts = provenance() | {"command": "python benchmarks/speed_auto.py"}
    write_json(RESULT, {"tried": result, "provenance": facts})


if __name__ == "__main__":
    choose(sys.argv[1]) if len(sys.argv) > 1 else main()
