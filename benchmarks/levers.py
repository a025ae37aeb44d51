"""What shortens training, one lever at a time: the same small budget on ResNet-20, on 45,000 images, decided on 5,000.

run: python benchmarks/levers.py [LEVER ...]      writes results/levers.json; about 3 minutes a run on 2 cores
needs: CIFAR-10 (resnetkit data cifar10); bfloat16 in the CPU, or patience

Each run is a `resnetkit train` of the command line on one thread, as many at a time as there are cores.  They are kept
under RESNETKIT_HOME/levers and go on where they were stopped; those that are there are not done again.  The test images
decide nothing here: the table has only figures of the 5,000.  A difference is that of runs of equal seeds.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from resnetkit.home import write_json
from resnetkit.provenance import provenance
from trainings import Training, train_all

RESULT = Path(__file__).parents[1] / "results" / "levers.json"
RECIPE, SEEDS = "fast_resnet20", (0, 1, 2)
BASE = {
    "total_epochs": "6",
    "val_images": "5000",
    "eval_every_epochs": "100",
    "warmup": '{"kind":"Warmup","shape":"linear","start_factor":0.1,"warmup_epochs":1.2}',
    "optim": '{"kind":"Sgd","lr":0.3,"nesterov":true,"weight_decay":0.0005,"decay_norms_and_biases":false}',
    "schedule": '{"kind":"Linear"}',
    "microbatch_size": "128",
    "augment": '[{"kind":"PadCrop","padding":4,"mode":"reflect"},{"kind":"Flip","alternating":true}]',
}
MUON = {"optim": '{"kind":"Muon","lr":0.06,"sgd_lr":0.1,"weight_decay":0.0005}'}
SHORT = MUON | {"optim.momentum": "0.8", "optim.sgd_lr": "0.3"}
LEVERS: dict[str, dict[str, str]] = {
    "base": {},
    "biases of norms 8 times as fast": {"optim.norm_bias_lr_factor": "8"},
    "stem starts whitening": {"whiten_stem": "true"},
    "EMA 0.99": {"average_weights.decay": "0.99"},
    "Muon 0.06": MUON,
    "Muon 0.12": MUON | {"optim.lr": "0.12"},
    "Muon 0.06, biases of norms 8 times as fast": MUON | {"optim.norm_bias_lr_factor": "8"},
    "Muon 0.06, momentum 0.8": MUON | {"optim.momentum": "0.8"},
    "Muon 0.06, the rest at 0.3": MUON | {"optim.sgd_lr": "0.3"},
    "Muon, momentum 0.6, the rest at 0.3": SHORT | {"optim.momentum": "0.6"},
    "Muon, momentum 0.8, the rest at 0.3": SHORT,
    "Muon 0.03, momentum 0.8, the rest at 0.3": SHORT | {"optim.lr": "0.03"},
    "Muon 0.015, momentum 0.8, the rest at 0.3": SHORT | {"optim.lr": "0.015"},
    "Muon 0.03, momentum 0.9, the rest at 0.3": SHORT | {"optim.lr": "0.03", "optim.momentum": "0.9"},
    "Muon, momentum 0.8, the rest at 1": SHORT | {"optim.sgd_lr": "1.0"},
    "Muon, momentum 0.8, stem starts whitening": SHORT | {"whiten_stem": "true"},
    "Muon, momentum 0.8, EMA 0.99": SHORT | {"average_weights.decay": "0.99"},
    "Muon, momentum 0.8, micro-batches of 64": SHORT | {"microbatch_size": "64"},
    "Muon, momentum 0.8, random flip": SHORT | {"augment.1.alternating": "false"},
    "24, 28, 32 pixels, in as much arithmetic": {
        "augment": '[{"kind":"PadCrop","padding":4,"mode":"reflect"},{"kind":"SmallerAtFirst","sizes":[24,28],'
        '"until_epochs":[3,4]},{"kind":"Flip","alternating":true}]',
        "total_epochs": "7.6",
        "warmup.warmup_epochs": "1.5",
    },
    "weight decay 2e-4": {"optim.weight_decay": "0.0002"},
    "weight decay 1e-3": {"optim.weight_decay": "0.001"},
    "micro-batches of 64": {"microbatch_size": "64"},
    "micro-batches of 32": {"microbatch_size": "32"},
    "random flip": {"augment.1.alternating": "false"},
    "label smoothing 0.1": {"loss.label_smoothing": "0.1"},
    "rate 0.6": {"optim.lr": "0.6"},
    "rate 0.15": {"optim.lr": "0.15"},
    "steps at 1/2 and 3/4": {"schedule.kind": "StepDecay", "schedule.drop_epochs": "[3,4.5]"},
    "cosine": {"schedule.kind": "Cosine", "schedule.after_warmup": "true"},
    "biases of norms 32 times as fast": {"optim.norm_bias_lr_factor": "32"},
    "blocks start as identity": {"zero_init_last": "true"},
    "decay of norms and biases too": {"optim.decay_norms_and_biases": "true"},
    "batches of 64": {"batch_size": "64", "microbatch_size": "64"},
    "padding 2": {"augment.0.padding": "2"},
    "padding black": {"augment.0.mode": "zero"},
    "warm-up a tenth": {"warmup.warmup_epochs": "0.6"},
}


def training_of(lever: str, seed: int) -> Training:
    """Return the training with a lever."""
    folder = f"levers/{lever.replace(' ', '-').replace('/', '_')}-seed{seed}"
    return Training(folder, RECIPE, seed, BASE | LEVERS[lever])


def val_of(training: Training) -> dict[str, Any]:
    """Return the evaluation of the last step on the 5,000 images."""
    return next(event for event in reversed(training.events("eval")) if event["split"] == "val")


def row(lever: str) -> dict[str, Any]:
    """Return what a lever did, and how that differs from the base's runs of the same seeds."""
    seeds = [seed for seed in SEEDS if training_of(lever, seed).is_done]
    trained = [training_of(lever, seed) for seed in seeds]
    found, base = ([val_of(each) for each in some] for some in (trained, [training_of("base", seed) for seed in seeds]))
    gains = [own["top1"] - other["top1"] for own, other in zip(found, base, strict=True)]
    losses = [own["loss"] - other["loss"] for own, other in zip(found, base, strict=True)]
    return {
        "changes": LEVERS[lever],
        "seeds": seeds,
        "top1": [event["top1"] for event in found],
        "loss": [event["loss"] for event in found],
        "gain": statistics.mean(gains),
        "gain_error": statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None,
        "loss_difference": statistics.mean(losses),
        "seconds": [training.evaluation()["seconds"] for training in trained],
        "commits": sorted({commit for training in trained for commit in training.commits()}),
        "command": trained[0].command(),
    }


def main() -> None:
    """Train what is not trained yet, and write the table."""
    chosen = ["base", *sys.argv[1:]] if sys.argv[1:] else list(LEVERS)
    train_all([training_of(lever, seed) for seed in SEEDS for lever in chosen])
    table = {lever: row(lever) for lever in LEVERS if training_of(lever, SEEDS[0]).is_done}
    data = training_of("base", 0).evaluation()["data"]["sha256"]
    said = {"command": "python benchmarks/levers.py"}
    about = {"recipe": RECIPE, "base": BASE, "data_sha256": data, "provenance": provenance() | said}
    write_json(RESULT, {"levers": table} | about)
    for lever, each in sorted(table.items(), key=lambda item: -item[1]["gain"]):
        error = "" if each["gain_error"] is None else f" +- {100 * each['gain_error']:.2f}"
        print(f"{lever:32} {100 * each['gain']:+.2f}{error}  loss {each['loss_difference']:+.4f}  {each['seeds']}")


if __name__ == "__main__":
    main()
