"""A data set and a recipe small enough that a run takes about a second; they exercise all that a run can have."""

from __future__ import annotations

import hashlib
import subprocess
import time
from pathlib import Path

import numpy as np

from resnetkit.checkpoint import STATE, WEIGHTS
from resnetkit.data.spec import ArrayDataset, Split
from resnetkit.recipe import (
    AverageWeights,
    Cosine,
    CrossEntropy,
    Flip,
    Mixup,
    Normalize,
    PadCrop,
    Recipe,
    Sgd,
    View,
    Warmup,
)

TIME_FIELDS = ("images_per_second", "time", "seconds", "command")

RECIPE = Recipe(
    name="tiny",
    model="resnet4_tiny",
    data="cifar10",
    image_size=16,
    batch_size=16,
    microbatch_size=8,
    optim=Sgd(lr=0.1, nesterov=True, weight_decay=1e-3, decay_norms_and_biases=False),
    schedule=Cosine(final_factor=0.01),
    warmup=Warmup(shape="linear", start_factor=0.1, warmup_steps=3),
    total_epochs=3,
    preprocess=Normalize((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
    augment=(PadCrop(padding=2, mode="reflect"), Flip()),
    view=View(resize_size=16, crop_size=16),
    loss=CrossEntropy(label_smoothing=0.1),
    mix=(Mixup(alpha=0.2, probability=0.5),),
    drop_path_rate=0.3,
    average_weights=AverageWeights(decay=0.9),
    val_images=10,
    log_every_steps=4,
    eval_every_epochs=1,
    save_every_steps=5,
)
STEPS = 21  # 110 images, 7 steps an epoch of which the last has 14 images, 3 epochs


def tiny_dataset(seed: int = 0) -> ArrayDataset:
    """Make 120 training and 30 test images of noise around three colours, one a class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, size=150, dtype=np.uint8)
    colours = np.array([[200, 60, 60], [60, 200, 60], [60, 60, 200]])
    noise = rng.integers(-60, 56, size=(150, 16, 16, 3))
    images = (colours[labels][:, None, None, :] + noise).clip(0, 255).astype(np.uint8)
    sha256 = hashlib.sha256(images.tobytes() + labels.tobytes()).hexdigest()
    train, test = Split(images[:120], labels[:120]), Split(images[120:], labels[120:])
    return ArrayDataset("tiny", train, test, ("red", "green", "blue"), sha256)


def weights_sha256(run: Path) -> str:
    """Return the SHA-256 of a finished run's weights file."""
    return hashlib.sha256((run / WEIGHTS).read_bytes()).hexdigest()


def wait_for_step(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Wait until a run, the work of a process, has saved a state of `step` or later."""
    for _ in range(2400):
        if any(int(path.name[5:]) >= step for path in (run / STATE).glob("step-*")):
            return
        assert process.poll() is None, f"the run ended early: {process.communicate()[1]}"
        time.sleep(0.05)
    raise AssertionError("the run did not get far enough")
