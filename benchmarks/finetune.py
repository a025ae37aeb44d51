"""What does fine-tuning from ImageNet weights give, beside training from scratch for the same time?

run: python benchmarks/finetune.py PHOTOS WEIGHTS      writes results/finetune.json; about 40 minutes, when idle
PHOTOS   a folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG
WEIGHTS  an ImageNet ResNet-18

Three data sets: the first ten classes with 100 training photos each, and as many of CIFAR-10, which are less like the
photos that the weights come from, both as `resnetkit finetune` comes; and all, for one epoch.
From scratch is the same net, image size and augmentation with a recipe for drawn weights; it takes as many steps as
fit the time of the whole command `finetune`, its first look and its evaluations included.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnetkit.checkpoint import read_events
from resnetkit.data.opening import open_data
from resnetkit.data.spec import Split
from resnetkit.home import read_json, write_json
from resnetkit.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "finetune.json"
CLASSES, IMAGES = 10, 100  # of the small data sets, in train
HELD_OUT = 50  # images a class
ON_ALL = ("--set", "total_epochs=1")
RATE_STEPS = 20  # that the rate from scratch is measured with
FROM_SCRATCH = ("init_from=null", "unfold_images=0", "frozen_start=null", "batchnorm=batch", "early_stopping=null",
                "average_weights=null", "total_epochs=null", "head_lr_factor=1", "optim.lr=0.05",
                "optim.weight_decay=5e-4", "warmup.warmup_epochs=0", "warmup.warmup_steps=20",
                "eval_every_epochs=1000")  # fmt: skip


def run(*words: str) -> float:
    """Run a command of ours; returns how long it took, in seconds."""
    print(shlex.join(["resnetkit", *words]), file=sys.stderr)
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "resnetkit", *words], check=True, stdout=sys.stderr)
    return time.perf_counter() - started


def outcome(run_folder: Path) -> dict[str, Any]:
    """Return what a finished run came to."""
    said, events = read_json(run_folder / "evaluation.json"), read_events(run_folder)
    last, recipe = events[-1], read_json(run_folder / "recipe.json")
    seen = max((event["step"] for event in events if event["event"] == "train"), default=0) * recipe["batch_size"]
    return {
        **{key: said[key] for key in ("images", "correct", "top1", "top1_interval")},
        "seconds": last["seconds"],
        "steps": last["step"],
        "images_seen": seen,
        "image_size": recipe["image_size"],
        "best_step": last.get("best_step"),
        "val_top1": [[event["step"], event["top1"]] for event in events if event["event"] == "eval"],
        "data_sha256": said["data"]["sha256"],
    }


def compare(photos: Path, weights: str, folder: Path, *words: str) -> dict[str, Any]:
    """Fine-tune, then train from scratch for as long."""
    tuned = folder / "tuned"
    whole = run("finetune", str(photos), "--model", weights, "--out", str(tuned), "--new-split", *words)
    found = outcome(tuned)
    recipe = tuned / "recipe.json"
    scratch = ["train", str(recipe), "--set", *FROM_SCRATCH]
    run(*scratch, f"total_steps={10 * RATE_STEPS}", f"log_every_steps={RATE_STEPS}", "--out", str(folder / "rate"),
        "--max-steps", str(2 * RATE_STEPS))  # fmt: skip
    rate = read_events(folder / "rate")[-1]["images_per_second"] / read_json(recipe)["batch_size"]
    steps = max(1, round(whole * rate))
    run(*scratch, f"total_steps={steps}", "--out", str(folder / "scratch"))
    return {"train_images": sum(1 for _ in (photos / "train").rglob("*.*")),
            "seconds_of_the_whole_command": whole, "from_weights": found,
            "from_scratch": outcome(folder / "scratch")}  # fmt: skip


def small_set(photos: Path, target: Path) -> Path:
    """Copy some photos of some classes."""
    for split in ("train", "val"):
        for source in sorted((photos / split).iterdir())[:CLASSES]:
            (target / split / source.name).mkdir(parents=True)
            for file in sorted(source.iterdir())[:IMAGES]:
                shutil.copy(file, target / split / source.name)
    return target


def cifar_set(target: Path) -> Path:
    """Write some images of CIFAR-10 as PNG: the first 100 of train and 50 of test of each class."""
    data = open_data("cifar10")
    for split, part, images in (("train", data.train, IMAGES), ("val", data.test, HELD_OUT)):
        assert isinstance(part, Split)
        for label, name in enumerate(data.class_names):
            folder = target / split / name
            folder.mkdir(parents=True)
            for index in np.flatnonzero(part.labels == label)[:images].tolist():
                Image.fromarray(part.images[index]).save(folder / f"{index}.png")
    return target


def main() -> None:
    """Compare on both data sets."""
    photos, weights = Path(sys.argv[1]), str(Path(sys.argv[2]).resolve())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = {
            "cifar": compare(cifar_set(folder / "cifar"), weights, folder / "from cifar"),
            "small": compare(small_set(photos, folder / "ten classes"), weights, folder / "small"),
            "whole": compare(photos, weights, folder / "whole", *ON_ALL),
        }
    said = {"command": "python benchmarks/finetune.py PHOTOS WEIGHTS"}
    write_json(RESULT, {"finetuned": found, "provenance": provenance() | said})
    print(json.dumps({name: {key: each[key]["top1"] for key in ("from_weights", "from_scratch")}
                      for name, each in found.items()}, indent=1))  # fmt: skip


if __name__ == "__main__":
    main()
