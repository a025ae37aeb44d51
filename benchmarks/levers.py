"""What shortens training, one lever at a time: the same small budget on ResNet-20, on 45,000 images, decided on 5,000.

run: python benchmarks/levers.py [LEVER ...]      writes results/levers.json; about 3 minutes a run on 2 cores
needs: CIFAR-10 (resnetkit data cifar10); bfloat16 in the CPU, or patience

Each run is a `resnetkit train` of the command line on one thread, as many at a time as there are cores.  They are kept
under RESNETKIT_HOME/levers and go on where they were stopped; those that are there are not done again.  The test images
decide nothing here: the table has only figures of the 5,000.  A difference is that of runs of equal seeds.
"""

from __future__ import annotations

import shlex
import statistics
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from resnetkit import checkpoint
from resnetkit.home import home, write_json
from resnetkit.provenance import cores_of_process, provenance

RESULT = Path(__file__).parents[1] / "results" / "levers.json"
RECIPE, SEEDS = "fast_resnet20", (0, 1, 2)
BASE = {
    "total_epochs": "6",
    "val_images": "5000",
    "eval_every_epochs": "100",
    "threads": "1",
    "amp": '{"kind":"Amp","dtype":"bfloat16"}',
    "warmup": '{"kind":"Warmup","shape":"linear","start_factor":0.1,"warmup_epochs":1.2}',
    "optim": '{"kind":"Sgd","lr":0.3,"nesterov":true,"weight_decay":0.0005,"decay_norms_and_biases":false}',
    "schedule": '{"kind":"Linear"}',
    "microbatch_size": "128",
    "augment": '[{"kind":"PadCrop","padding":4,"mode":"reflect"},{"kind":"Flip","alternating":true}]',
}
LEVERS: dict[str, dict[str, str]] = {
    "base": {},
    "biases of norms 8 times as fast": {"optim.norm_bias_lr_factor": "8"},
    "stem starts whitening": {"whiten_stem": "true"},
    "EMA 0.99": {"average_weights.decay": "0.99"},
    "Muon 0.06": {"optim": '{"kind":"Muon","lr":0.06,"sgd_lr":0.1,"weight_decay":0.0005}'},
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
    "Muon 0.02": {"optim": '{"kind":"Muon","lr":0.02,"sgd_lr":0.1,"weight_decay":0.0005}'},
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


def folder_of(lever: str, seed: int) -> Path:
    """Return the run directory of a lever and seed."""
    return home() / "levers" / f"{lever.replace(' ', '-').replace('/', '_')}-seed{seed}"


def command_of(lever: str, seed: int) -> list[str]:
    """Return the command that trains with a lever."""
    changes = [f"{field}={value}" for field, value in (BASE | LEVERS[lever]).items()]
    words = [word for change in changes for word in ("--set", change)]
    out = ("--out", str(folder_of(lever, seed)), "--auto-resume")
    return ["resnetkit", "train", RECIPE, "--seed", str(seed), *words, *out]


def is_done(lever: str, seed: int) -> bool:
    """Say whether a run has ended."""
    return (folder_of(lever, seed) / checkpoint.EVALUATION).is_file()


def train(lever: str, seed: int) -> None:
    """Train with a lever, or go on."""
    command = command_of(lever, seed)
    done = subprocess.run([sys.executable, "-m", *command], check=False, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{shlex.join(command)}\n{done.stderr}")
    event = last_evaluation(lever, seed)
    print(f"{lever}, seed {seed}: val top-1 {100 * event['top1']:.2f} %, loss {event['loss']:.4f}", flush=True)


def last_evaluation(lever: str, seed: int) -> dict[str, Any]:
    """Return the evaluation of the last step on the 5,000 images."""
    events = [event for event in checkpoint.read_events(folder_of(lever, seed)) if event["event"] == "eval"]
    return next(event for event in reversed(events) if event["split"] == "val")


def row(lever: str) -> dict[str, Any]:
    """Return what a lever did, and how that differs from the base's runs of the same seeds."""
    seeds = [seed for seed in SEEDS if is_done(lever, seed)]
    found = {seed: last_evaluation(lever, seed) for seed in seeds}
    shared = [seed for seed in seeds if is_done("base", seed)]
    gains = [found[seed]["top1"] - last_evaluation("base", seed)["top1"] for seed in shared]
    losses = [found[seed]["loss"] - last_evaluation("base", seed)["loss"] for seed in shared]
    began = [event for seed in seeds for event in checkpoint.read_events(folder_of(lever, seed)) if "commit" in event]
    return {
        "changes": LEVERS[lever],
        "seeds": seeds,
        "top1": [found[seed]["top1"] for seed in seeds],
        "loss": [found[seed]["loss"] for seed in seeds],
        "gain": statistics.mean(gains),
        "gain_error": statistics.stdev(gains) / len(gains) ** 0.5 if len(gains) > 1 else None,
        "loss_difference": statistics.mean(losses),
        "commits": sorted({event["commit"] for event in began}),
        "command": shlex.join(["resnetkit", *command_of(lever, 0)[1:-3]]),
    }


def main() -> None:
    """Train what is not trained yet, and write the table."""
    chosen = sys.argv[1:] or list(LEVERS)
    jobs = [(lever, seed) for seed in SEEDS for lever in chosen if not is_done(lever, seed)]
    with ThreadPoolExecutor(cores_of_process()) as pool:
        list(pool.map(lambda job: train(*job), jobs))
    table = {lever: row(lever) for lever in LEVERS if is_done(lever, SEEDS[0])}
    data = next(iter(checkpoint.read_events(folder_of("base", 0))))["data_sha256"]
    said = {"command": "python benchmarks/levers.py"}
    about = {"recipe": RECIPE, "base": BASE, "data_sha256": data, "provenance": provenance() | said}
    write_json(RESULT, {"levers": table} | about)
    for lever, each in sorted(table.items(), key=lambda item: -item[1]["gain"]):
        error = "" if each["gain_error"] is None else f" +- {100 * each['gain_error']:.2f}"
        print(f"{lever:32} {100 * each['gain']:+.2f}{error}  loss {each['loss_difference']:+.4f}  {each['seeds']}")


if __name__ == "__main__":
    main()
