"""How fast is training, beside a bare loop, mmpretrain's Runner, timm's step and the machine's matrix product?

run: .venv-parity/bin/python benchmarks/train.py       writes results/train-speed.json; about 13 minutes
needs: an idle machine, make parity (the peers' environment), CIFAR-10 (resnetkit data cifar10)

Each side is a process of its own, that works only when it is its turn: so many steps of 128 images, then the next side.
The first round warms up.  Times are of whole steps within each side's own loop, its reading of data included.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mmpretrain_cifar import cifar_config, ready_runner
from resnetkit.assemble import Training, assemble, build_optimizer
from resnetkit.cost import recipe_cost
from resnetkit.data.sources import load_dataset
from resnetkit.home import write_json
from resnetkit.memory import keep_freed_memory
from resnetkit.provenance import provenance
from resnetkit.recipes import load_recipe
from resnetkit.step import microbatches
from resnetkit.train import train
from turns import Side, Turn

RESULT = Path(__file__).parents[1] / "results" / "train-speed.json"
ROUNDS = 5
BATCH = 128
STEPS = {"resnet18": 4, "resnet20": 20}  # of a turn
RECIPES = {"resnet18": "resnet18_8xb16_cifar10", "resnet20": "resnet20"}
# What each figure is to reach, by net where they differ.
GOALS = {
    "resnet18": {"loop_over_bare": 1.02, "times_mmpretrain": 1.3, "times_timm": 0.98, "share_of_peak": 0.6},
    "resnet20": {"loop_over_bare": 1.02, "times_mmpretrain": 1.5, "times_timm": 0.98},
}
MATRIX = 4096  # rows of the matrices whose product is the machine's peak
PRODUCTS = 5
ENDLESS = 10**6


# --- the sides ---


def prepared(net: str) -> Training:
    """Assemble the recipe of a net as one device runs it: 128 images in one pass."""
    return assemble(recipe_of(net), load_dataset("cifar10"), torch.device("cpu"))


def recipe_of(net: str) -> Any:
    """Return a net's recipe, in whole batches, without an end."""
    overrides = [f"batch_size={BATCH}", f"microbatch_size={BATCH}", "total_epochs=null", f"total_steps={ENDLESS}",
                 f"log_every_steps={STEPS[net]}", f"save_every_steps={ENDLESS}", f"eval_every_epochs={ENDLESS}",
                 "val_images=0"]  # fmt: skip
    return load_recipe(RECIPES[net], overrides)


def loop(net: str, turn: Turn) -> None:
    """Train by the product's own loop."""

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "train":
            turn()

    with tempfile.TemporaryDirectory() as folder:
        turn()
        train(recipe_of(net), load_dataset("cifar10"), Path(folder) / "run", on_event=listen)


def batches_of(training: Training, net: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the first batches of the recipe, ready for the net."""
    return [next(microbatches(training, training.feed.batches.at(step))) for step in range(STEPS[net])]


def bare(net: str, turn: Turn) -> None:
    """Do only what a step cannot do without, on batches that are ready, with the product's net and settings."""
    keep_freed_memory()
    training = prepared(net)
    optimizer = build_optimizer(training.recipe, training.model)
    batches = batches_of(training, net)
    training.model.train()
    while True:
        turn()
        for images, labels in batches:
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(training.model(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()


def timm_step(net: str, turn: Turn) -> None:
    """Do timm's step: its task, its optimizer, and for ResNet-18 its own net with CIFAR's stem."""
    import timm.optim
    import timm.task
    from timm.utils import AverageMeter

    training = prepared(net)
    model: torch.nn.Module = training.model
    if net == "resnet18":
        model = timm.create_model("resnet18", num_classes=10)
        model.conv1 = torch.nn.Conv2d(3, 64, 3, padding=1, bias=False)
        model.maxpool = torch.nn.Identity()
        assert sum(each.numel() for each in model.parameters()) == sum(
            each.numel() for each in training.model.parameters()
        )
    model = model.to(memory_format=torch.channels_last)
    model.train()
    task = timm.task.ClassificationTask(model, device=torch.device("cpu"), verbose=False)
    optimizer = timm.optim.create_optimizer_v2(model, opt="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4)
    losses, batches = AverageMeter(), batches_of(training, net)
    while True:
        turn()
        for images, labels in batches:
            optimizer.zero_grad()
            loss = task(images, labels)["loss"]
            loss.backward()
            optimizer.step()
            losses.update(loss.item(), len(labels))


def mmpretrain_runner(net: str, turn: Turn) -> None:
    """Train by mmpretrain's Runner on its CIFAR config, with its own data pipeline and workers."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class Turns(Hook):  # type: ignore[misc]
        def after_train_iter(self, runner: Runner, batch_idx: int, *rest: object, **named: object) -> None:
            if (runner.iter + 1) % STEPS[net] == 0:
                turn()

    config = cifar_config(None if net == "resnet18" else lambda: prepared("resnet20").model)
    config.train_dataloader.batch_size = BATCH
    config.val_dataloader = config.val_cfg = config.val_evaluator = None
    config.train_cfg = {"by_epoch": True, "max_epochs": 200}
    with ready_runner(config, Turns()) as runner:
        turn()
        runner.train()


def matrix_product(library: str, turn: Turn) -> None:
    """Multiply two float32 matrices."""
    product = products()[library]
    with torch.no_grad():
        while True:
            turn()
            for _ in range(PRODUCTS):
                product()


def products() -> dict[str, Callable[[], object]]:
    """Return the same product by each library at hand: which is the fastest differs from processor to processor."""
    left, right = torch.randn(2, MATRIX, MATRIX)
    side = round(MATRIX**0.5)
    image = left.reshape(1, MATRIX, side, side).to(memory_format=torch.channels_last)
    kernel = right.reshape(MATRIX, MATRIX, 1, 1)
    return {
        "torch.mm": lambda: torch.mm(left, right),
        "numpy.matmul": lambda: np.matmul(left.numpy(), right.numpy()),
        "1x1 convolution": lambda: torch.nn.functional.conv2d(image, kernel),
    }


TRAINERS: dict[str, Callable[[str, Turn], None]] = {
    "resnetkit": loop,
    "bare": bare,
    "mmpretrain": mmpretrain_runner,
    "timm": timm_step,
}

# --- the rounds ---


def measure(net: str) -> dict[str, Any]:
    """Measure all sides on a net, in turns; of a side's turns in a round the mean counts."""
    sides = {name: Side(__file__, name, net) for name in TRAINERS}
    sides |= {name: Side(__file__, "matrix", name) for name in products()}
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    peaks: dict[str, int] = {}
    try:
        for turns in range(ROUNDS + 1):
            # The two whose times differ least have three turns a round, one after the other's.
            names = ["resnetkit", "bare"] * 2 + list(sides)
            taken: dict[str, list[float]] = {name: [] for name in sides}
            for name in names if turns % 2 else reversed(names):
                told = sides[name].turn()
                peaks[name] = told["peak_bytes"]
                taken[name].append(told["seconds"])
            for name, times in taken.items() if turns else ():
                seconds[name].append(statistics.fmean(times))
            print(net, turns, {name: round(times[-1], 3) for name, times in seconds.items() if times}, flush=True)
    finally:
        for side in sides.values():
            side.end()
    return summed_up(net, seconds, peaks)


def summed_up(net: str, seconds: dict[str, list[float]], peaks: dict[str, int]) -> dict[str, Any]:
    """Return medians, and the ratios of the product to each other side, each over the rounds."""
    middle = {name: statistics.median(times) for name, times in seconds.items()}
    images = BATCH * STEPS[net]

    def ratio(other: str) -> float:
        return statistics.median(
            theirs / ours for theirs, ours in zip(seconds[other], seconds["resnetkit"], strict=True)
        )

    training = prepared(net)
    macs = recipe_cost(training.recipe, 50_000, 10).macs
    peaks_found = {name: 2 * MATRIX**3 * PRODUCTS / middle[name] for name in products()}
    peak = max(peaks_found.values())
    done = 3 * 2 * macs * images / middle["resnetkit"]  # backward costs twice what forward does
    return {
        "steps_a_turn": STEPS[net],
        "images_per_second": {name: images / middle[name] for name in TRAINERS},
        "loop_over_bare": 1 / ratio("bare"),
        "times_mmpretrain": ratio("mmpretrain"),
        "times_timm": ratio("timm"),  # its own net for ResNet-18
        "flops_of_matrix_product": peaks_found,
        "flops_of_training": done,
        "share_of_peak": done / peak,
        "peak_bytes": {name: peaks[name] for name in TRAINERS},
        "seconds": seconds,
    }


def main() -> None:
    """Measure both nets and write it down."""
    result: dict[str, Any] = {"batch_size": BATCH, "rounds": ROUNDS, "threads": torch.get_num_threads()}
    for net in STEPS:
        result[net] = measure(net) | {"goals": GOALS[net]}
        print(json.dumps({key: value for key, value in result[net].items() if key != "seconds"}, indent=1))
    peers = {name: version(name) for name in ("mmpretrain", "mmengine", "timm")}
    facts = provenance() | {"command": ".venv-parity/bin/python benchmarks/train.py", "peers": peers}
    write_json(RESULT, result | {"provenance": facts})


if __name__ == "__main__":
    if len(sys.argv) > 1:
        (TRAINERS | {"matrix": matrix_product})[sys.argv[1]](sys.argv[2], Turn())
    else:
        main()
