"""In how few epochs does the paper's ResNet-20 reach the paper's accuracy, and at what cost beside the paper's recipe?

run: python benchmarks/fast_resnet20.py      writes results/fast-resnet20.json and one file a seed; about two hours
needs: CIFAR-10 (resnetkit data cifar10); bfloat16 in the CPU, or patience

The recipe takes the shortest of the lengths below whose net, trained on 45,000 images, surely has the paper's accuracy
on the other 5,000: the lower end of its 95 % interval reaches it.  Then all 50,000 are trained on, over seeds: one
view, the weights of the last step.  What is done is in the results file and is not done again.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from resnetkit.cost import recipe_cost
from resnetkit.home import read_json, write_json
from resnetkit.metrics import wilson_interval
from resnetkit.provenance import provenance
from resnetkit.recipes import RECIPES
from trainings import Training, recorded

RESULTS = Path(__file__).parents[1] / "results"
RESULT = RESULTS / "fast-resnet20.json"
RECIPE, GOAL = "fast_resnet20", 0.9125
LENGTHS = (24, 20)  # epochs
SEEDS = (0, 1, 2)


def training_of(epochs: int, seed: int = 0, *, held_out: bool = False) -> Training:
    """Return the training of so many epochs, on all images or on 45,000."""
    changes = {"total_epochs": f"{epochs}", "warmup.warmup_epochs": f"{epochs / 5:g}"}
    if held_out:
        return Training(f"fast/{epochs}-epochs-45k", RECIPE, seed, changes | {"val_images": "5000"})
    return Training(f"fast/{epochs}-epochs-seed{seed}", RECIPE, seed, changes)


def figures_of_seed(run: Training) -> dict[str, Any]:
    """Return what a run on all images came to on the test images, and how; its whole evaluation gets its own file."""
    found = run.evaluation()
    write_json(RESULTS / f"fast-resnet20-seed{run.seed}.json", found)
    figures = {key: found[key] for key in ("images", "correct", "top1", "top5", "loss", "ece")}
    return figures | {"curve": [[event["step"], event["top1"]] for event in run.events("eval")]}


def figures_held_out(run: Training) -> dict[str, Any]:
    """Return what a run on 45,000 images came to on the other 5,000."""
    last = run.events("eval")[-1]
    surely, _ = wilson_interval(round(last["top1"] * last["images"]), last["images"])
    return {key: last[key] for key in ("images", "top1", "loss")} | {"surely": surely}


def main() -> None:
    """Train what is not trained yet, and say what it came to."""
    own, paper = recipe_cost(RECIPES[RECIPE]), recipe_cost(RECIPES["resnet20"])
    length = round(own.epochs)
    held_out = [training_of(epochs, held_out=True) for epochs in LENGTHS]
    runs = recorded(RESULT, RECIPE, held_out, figures_held_out)
    fit = [epochs for epochs, each in zip(LENGTHS, held_out, strict=True) if runs[each.folder]["surely"] >= GOAL]
    if length != min(fit, default=0):
        raise SystemExit(f"{RECIPE} has {length} epochs; by the images held out, of {LENGTHS} these will do: {fit}")
    seeds = [training_of(length, seed) for seed in SEEDS]
    runs = recorded(RESULT, RECIPE, seeds, figures_of_seed)
    rows = [runs[each.folder] for each in seeds]
    top1 = [row["top1"] for row in rows]
    rate = statistics.median(row["images_per_second"] for row in rows)
    summary = {
        "seeds": {
            "correct": [row["correct"] for row in rows],
            "images": rows[0]["images"],
            "top1": top1,
            "mean": statistics.mean(top1),
            "deviation": statistics.stdev(top1),
            "goal": GOAL,
        },
        "cost_beside_the_paper": {
            "epochs": [own.epochs, paper.epochs],
            "train_flops": [own.train_flops, paper.train_flops],
            "share": own.train_flops / paper.train_flops,
            "core_hours": [cost.samples / rate / 3600 for cost in (own, paper)],  # both at the rate of these runs
        },
    }
    data = read_json(RESULTS / f"fast-resnet20-seed{SEEDS[0]}.json")["data"]["sha256"]
    said = {"data_sha256": data, "provenance": provenance() | {"command": "python benchmarks/fast_resnet20.py"}}
    write_json(RESULT, read_json(RESULT) | summary | said)
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
