"""In how few epochs does the paper's ResNet-20 reach the paper's accuracy, and at what cost beside the paper's recipe?

run: python benchmarks/fast_resnet20.py      writes results/fast-resnet20.json and one file a seed; about two hours
needs: CIFAR-10 (resnetkit data cifar10); bfloat16 in the CPU, or patience

The recipe takes the shortest of the lengths below whose net, trained on 45,000 images, surely has the paper's accuracy
on the other 5,000: the lower end of its 95 % interval reaches it.  Then all 50,000 are trained on, over seeds: one
view, the weights of the last step.  40 epochs were set before anything was measured; they are what comes with the
package.  The runs are kept under RESNETKIT_HOME and go on where they were stopped.
"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

from resnetkit.cost import recipe_cost
from resnetkit.home import write_json
from resnetkit.metrics import wilson_interval
from resnetkit.provenance import provenance
from resnetkit.recipes import RECIPES
from trainings import Training, train_all

RESULTS = Path(__file__).parents[1] / "results"
RECIPE, GOAL = "fast_resnet20", 0.9125
LENGTHS = (40, 24, 20)  # epochs
SHIPPED_LENGTH = 40
SEEDS = (0, 1, 2)


def training_of(epochs: int, seed: int = 0, *, held_out: bool = False) -> Training:
    """Return the training of so many epochs, on all images or on 45,000."""
    changes = {"total_epochs": f"{epochs}", "warmup.warmup_epochs": f"{epochs / 5:g}"}
    if held_out:
        return Training(f"fast/{epochs}-epochs-45k", RECIPE, seed, changes | {"val_images": "5000"})
    return Training(f"fast/{epochs}-epochs-seed{seed}", RECIPE, seed, changes)


def of_seeds(runs: list[Training]) -> dict[str, Any]:
    """Return what runs over seeds came to on the test images."""
    found = [each.evaluation() for each in runs]
    top1 = [each["top1"] for each in found]
    return {
        "correct": [each["correct"] for each in found],
        "images": found[0]["images"],
        "top1": top1,
        "mean": statistics.mean(top1),
        "deviation": statistics.stdev(top1),
        "ece": [each["ece"] for each in found],
        "weights_sha256": [each["weights_sha256"] for each in found],
        "seconds": [each["seconds"] for each in found],
        "images_per_second_a_core": [
            statistics.median(event["images_per_second"] for event in each.events("train")) for each in runs
        ],
        "curves": [[[event["step"], event["top1"]] for event in each.events("eval")] for each in runs],
        "commands": [each.command() for each in runs],
        "commits": [each.commits() for each in runs],
    }


def of_held_out(run: Training) -> dict[str, Any]:
    """Return what a run on 45,000 images came to on the other 5,000."""
    last = run.events("eval")[-1]
    surely, _ = wilson_interval(round(last["top1"] * last["images"]), last["images"])
    figures = {key: last[key] for key in ("images", "top1", "loss")}
    return figures | {"surely": surely, "command": run.command(), "commits": run.commits()}


def chosen_length() -> int:
    """Return the shortest length that surely reaches the goal on images held out."""
    return min(epochs for epochs in LENGTHS if of_held_out(training_of(epochs, held_out=True))["surely"] >= GOAL)


def main() -> None:
    """Train what is not trained yet, and say what it came to."""
    train_all([training_of(epochs, held_out=True) for epochs in LENGTHS])
    own, paper = recipe_cost(RECIPES[RECIPE]), recipe_cost(RECIPES["resnet20"])
    length = round(own.epochs)
    if length != chosen_length():
        raise SystemExit(f"{RECIPE} has {length} epochs, by the images held out it is to have {chosen_length()}")
    runs = {epochs: [training_of(epochs, seed) for seed in SEEDS] for epochs in (length, SHIPPED_LENGTH)}
    train_all([run for each in runs.values() for run in each])
    for run in runs[length]:
        write_json(RESULTS / f"fast-resnet20-seed{run.seed}.json", run.evaluation())
    lengths = {f"{epochs}": of_seeds(each) for epochs, each in runs.items()}
    seeds = lengths[f"{length}"] | {"goal": GOAL}
    rate = statistics.median(seeds["images_per_second_a_core"])
    cost = {
        "epochs": [own.epochs, paper.epochs],
        "train_flops": [own.train_flops, paper.train_flops],
        "share": own.train_flops / paper.train_flops,
        "core_hours_at_this_rate": [cost.samples / rate / 3600 for cost in (own, paper)],
    }
    said = {"command": "python benchmarks/fast_resnet20.py"}
    data = runs[length][0].evaluation()["data"]["sha256"]
    about = {"recipe": RECIPE, "data_sha256": data, "provenance": provenance() | said}
    held_out = {f"{epochs}": of_held_out(training_of(epochs, held_out=True)) for epochs in LENGTHS}
    found = {"seeds": seeds, "cost_beside_the_paper": cost, "held_out": held_out, "lengths": lengths}
    write_json(RESULTS / "fast-resnet20.json", found | about)
    print(json.dumps({"held out": {name: row["top1"] for name, row in held_out.items()}, **cost}, indent=1))
    print(json.dumps({name: [row["top1"], row["mean"], row["deviation"]] for name, row in lengths.items()}, indent=1))


if __name__ == "__main__":
    main()
