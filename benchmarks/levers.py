"""What shortens training, lever by lever: the same small budget on ResNet-20, on 45,000 images, decided on 5,000.

run: python benchmarks/levers.py [SEED ...]      writes results/levers.json; 3 minutes of a core each, 16 in float32
needs: CIFAR-10 (resnetkit data cifar10)

Each run is a `resnetkit train` of the command line on one thread, as many at a time as there are cores; what is in the
results file is not done again.  The test images decide nothing here: the table has only figures of the 5,000.  A gain
is the mean difference to the base's runs of equal seeds; its error follows from how runs of one lever differ by seed.
"""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from resnetkit.home import read_json, write_json
from resnetkit.provenance import provenance
from trainings import Training, recorded

RESULT = Path(__file__).parents[1] / "results" / "levers.json"
RECIPE, SEEDS = "fast_resnet20", (0, 1, 2)
BASE = {
    "total_epochs": "3",
    "val_images": "5000",
    "eval_every_epochs": "100",
    "warmup": '{"kind":"Warmup","shape":"linear","start_factor":0.1,"warmup_epochs":0.6}',
    "optim": '{"kind":"Sgd","lr":0.3,"nesterov":true,"weight_decay":0.0005,"decay_norms_and_biases":false}',
    "schedule": '{"kind":"Linear"}',
    "microbatch_size": "128",
    "augment": '[{"kind":"PadCrop","padding":4,"mode":"reflect"},{"kind":"Flip","alternating":true}]',
}
MUON = {"optim": '{"kind":"Muon","lr":0.06,"sgd_lr":0.1,"weight_decay":0.0005}'}
OURS = {"optim": '{"kind":"Muon","lr":0.03,"momentum":0.8,"sgd_lr":0.3,"weight_decay":0.0005}'}
SMALLER = {
    "augment": '[{"kind":"PadCrop","padding":4,"mode":"reflect"},{"kind":"ProgressiveCrop","sizes":[24,28],'
    '"until_epochs":[2,3]},{"kind":"Flip","alternating":true}]',
    "total_epochs": "4.1",
    "warmup.warmup_epochs": "0.82",
}
# It gained nothing: its code was deleted, and is at the commits of its runs.
WHITENING = "stem starts whitening"
LEVERS: dict[str, dict[str, str]] = {
    "base": {},
    "Muon 0.06": MUON,
    "Muon 0.03, momentum 0.8, the rest at 0.3": OURS,
    "biases of norms 8 times as fast": {"optim.norm_bias_lr_factor": "8"},
    WHITENING: {"whiten_stem": "true"},
    "24, 28, 32 pixels, in as much arithmetic": SMALLER,
    "Muon 0.03 as above, with those pixels": OURS | SMALLER,
    "EMA 0.99": {"average_weights.decay": "0.99"},
    "cosine": {"schedule.kind": "Cosine", "schedule.after_warmup": "true"},
    "steps at 1/2 and 3/4": {"schedule.kind": "StepDecay", "schedule.drop_epochs": "[1.5,2.25]"},
    "label smoothing 0.1": {"loss.label_smoothing": "0.1"},
    "random flip": {"augment.1.alternating": "false"},
    "micro-batches of 32": {"microbatch_size": "32"},
    "weight decay 2e-4": {"optim.weight_decay": "0.0002"},
    "weight decay 1e-3": {"optim.weight_decay": "0.001"},
}


def training_of(lever: str, seed: int) -> Training:
    """Return the training with a lever."""
    folder = f"levers/{lever.replace(' ', '-').replace('/', '_')}-seed{seed}"
    return Training(folder, RECIPE, seed, BASE | LEVERS[lever])


def figures(training: Training) -> dict[str, Any]:
    """Return the evaluation of the last step on the 5,000 images."""
    last = next(event for event in reversed(training.events("eval")) if event["split"] == "val")
    return {key: last[key] for key in ("images", "top1", "loss")}


def row(lever: str, runs: dict[str, Any]) -> dict[str, Any]:
    """Return what a lever did, and how that differs from the base's runs of the same seeds."""
    seeds = [seed for seed in SEEDS if training_of(lever, seed).folder in runs]
    found, base = ([runs[training_of(each, seed).folder] for seed in seeds] for each in (lever, "base"))
    gains = [own["top1"] - other["top1"] for own, other in zip(found, base, strict=True)]
    losses = [own["loss"] - other["loss"] for own, other in zip(found, base, strict=True)]
    return {
        "changes": LEVERS[lever],
        "seeds": seeds,
        "top1": [own["top1"] for own in found],
        "gain": statistics.mean(gains),
        "loss_difference": statistics.mean(losses),
    }


def seed_deviation(top1: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of a run over seeds, pooled over levers; SystemExit where each has one seed."""
    some = [each for each in top1 if len(each) > 1]
    if not some:
        raise SystemExit("one seed tells no noise: train another one")
    return math.sqrt(statistics.fmean(map(statistics.variance, some), [len(each) - 1 for each in some]))


def main() -> None:
    """Train what is not trained yet, and write the table."""
    if unknown := set(sys.argv[1:]) - set(map(str, SEEDS)):
        raise SystemExit(f"seeds {', '.join(sorted(unknown))}: expected some of {SEEDS}")
    chosen = [int(word) for word in sys.argv[1:]] or SEEDS
    wanted = [training_of(lever, seed) for seed in chosen for lever in LEVERS if lever != WHITENING]
    runs = recorded(RESULT, RECIPE, wanted, figures)
    some = [lever for lever in LEVERS if any(training_of(lever, seed).folder in runs for seed in SEEDS)]
    table = {lever: row(lever, runs) for lever in some}
    deviation = seed_deviation([each["top1"] for each in table.values()])
    for each in table.values():
        each["gain_error"] = deviation * (2 / len(each["seeds"])) ** 0.5
    about = {
        "base": BASE,
        "deviation": deviation,
        "provenance": provenance() | {"command": "python benchmarks/levers.py"},
    }
    write_json(RESULT, read_json(RESULT) | {"levers": table} | about)
    for lever, each in sorted(table.items(), key=lambda item: -item[1]["gain"]):
        gain, error = 100 * each["gain"], 100 * each["gain_error"]
        print(f"{lever:42} {gain:+.2f} +- {error:.2f}  loss {each['loss_difference']:+.4f}  {each['seeds']}")


if __name__ == "__main__":
    main()
