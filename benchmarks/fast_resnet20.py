"""What does the short recipe reach with the paper's ResNet-20, over seeds, and at what cost beside the paper's own?

run: python benchmarks/fast_resnet20.py      writes results/fast-resnet20.json and one file a seed; about an hour
needs: CIFAR-10 (resnetkit data cifar10); bfloat16 in the CPU, or patience

All 50,000 training images, one view, the weights of the last step.  The runs are kept under RESNETKIT_HOME and go on
where they were stopped; so does one of the same recipe on 45,000 images, whose other 5,000 are what a temperature is
fitted to.
"""

from __future__ import annotations

import json
import shlex
import shutil
import statistics
from pathlib import Path

from resnetkit import checkpoint
from resnetkit.cost import recipe_cost
from resnetkit.home import write_json
from resnetkit.provenance import provenance
from resnetkit.recipes import RECIPES
from trainings import Training, train_all

RESULTS = Path(__file__).parents[1] / "results"
RECIPE, SEEDS, GOAL = "fast_resnet20", (0, 1, 2), 0.9125
RUNS = [Training(f"fast/{RECIPE}-seed{seed}", RECIPE, seed) for seed in SEEDS]
HELD_OUT = Training(f"fast/{RECIPE}-45k", RECIPE, 0, {"val_images": "5000"})


def main() -> None:
    """Train what is not trained yet, and say what it came to."""
    train_all([RUNS[0], HELD_OUT, *RUNS[1:]])
    for training in RUNS:
        shutil.copyfile(training.run / checkpoint.EVALUATION, RESULTS / f"fast-resnet20-seed{training.seed}.json")
    found = [training.evaluation() for training in RUNS]
    top1 = [each["top1"] for each in found]
    own, paper = recipe_cost(RECIPES[RECIPE]), recipe_cost(RECIPES["resnet20"])
    rates = [statistics.median(event["images_per_second"] for event in each.events("train")) for each in RUNS]
    seeds = {
        "correct": [each["correct"] for each in found],
        "images": found[0]["images"],
        "top1": top1,
        "mean": statistics.mean(top1),
        "deviation": statistics.stdev(top1),
        "goal": GOAL,
        "ece": [each["ece"] for each in found],
        "weights_sha256": [each["weights_sha256"] for each in found],
        "seconds": [each["seconds"] for each in found],
        "images_per_second_a_core": rates,
        "commands": [shlex.join(training.words()) for training in RUNS],
        "commits": [training.commits() for training in RUNS],
    }
    cost = {
        "epochs": [own.epochs, paper.epochs],
        "train_flops": [own.train_flops, paper.train_flops],
        "share": own.train_flops / paper.train_flops,
        "core_hours": [cost.samples / statistics.median(rates) / 3600 for cost in (own, paper)],
    }
    said = {"command": "python benchmarks/fast_resnet20.py"}
    about = {"recipe": RECIPE, "data_sha256": found[0]["data"]["sha256"], "provenance": provenance() | said}
    curves = [[[event["step"], event["top1"]] for event in each.events("eval")] for each in RUNS]
    write_json(
        RESULTS / "fast-resnet20.json", {"seeds": seeds, "cost_beside_the_paper": cost, "curves": curves} | about
    )
    print(json.dumps(seeds | cost, indent=1))


if __name__ == "__main__":
    main()
