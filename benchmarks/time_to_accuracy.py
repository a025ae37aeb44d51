"""How accurate is the same net after the same time, trained by mmpretrain's Runner and by ours?

run: .venv-parity/bin/python benchmarks/time_to_accuracy.py      writes results/time-to-accuracy.json; 45 minutes
needs: an idle machine, make parity (the peers' environment), CIFAR-10 (resnetkit data cifar10)

ResNet-20 on two cores, each side a process that trains only in its turn, of 23 steps.  Whoever trained least is next,
so that all reach the same time together.  Evaluations of the 10,000 test images are each side's own, and not timed.

resnetkit           the recipe fast_resnet20, as many epochs as fit, with the settings that --speed auto finds here
mmpretrain          its CIFAR-10 config as it comes: 200 epochs, of which the first ones fit
mmpretrain, short   its Runner with a rate that rises and falls to zero within the time, Nesterov, more decay
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from mmpretrain_cifar import cifar_config
from resnetkit.data.sources import load_dataset
from resnetkit.home import write_json
from resnetkit.models import ResNet, find_architecture
from resnetkit.provenance import provenance
from resnetkit.recipes import load_recipe
from resnetkit.train import train
from turns import Side, Turn

RESULT = Path(__file__).parents[1] / "results" / "time-to-accuracy.json"
SECONDS = 600.0  # of training, for each side
TURN_STEPS, STEPS_PER_EPOCH, BATCH = 23, 391, 128  # 17 turns an epoch: evaluations come between two turns
TRIAL_TURNS = 12  # that tell how many epochs fit; the first ones warm up
SIDES = ("resnetkit", "mmpretrain", "mmpretrain, short")


def ours(epochs: float, turn: Turn) -> None:
    """Train by the command's own function."""
    overrides = [f"total_epochs={epochs}", f"warmup.warmup_epochs={0.2 * epochs}", f"log_every_steps={TURN_STEPS}",
                 "eval_every_epochs=1", 'amp={"kind":"Amp","dtype":"bfloat16"}']  # fmt: skip

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "train":
            turn()
        elif event["event"] in {"eval", "test"}:
            turn.forget(top1=event["top1"], epoch=event["step"] / STEPS_PER_EPOCH)

    with tempfile.TemporaryDirectory() as folder:
        turn()
        train(load_recipe("fast_resnet20", overrides), load_dataset("cifar10"), Path(folder) / "run", on_event=listen)
        turn()


def theirs(epochs: float, turn: Turn, short: bool) -> None:
    """Train by mmpretrain's Runner."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    class Turns(Hook):  # type: ignore[misc]
        def after_train_iter(self, runner: Runner, batch_idx: int, *rest: object, **named: object) -> None:
            if (runner.iter + 1) % TURN_STEPS == 0:
                turn()

        def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
            turn.forget(top1=metrics["accuracy/top1"] / 100, epoch=runner.iter / STEPS_PER_EPOCH)

    config = cifar_config(lambda: ResNet(find_architecture("resnet20")))
    config.train_dataloader.batch_size = BATCH
    config.val_evaluator = {"type": "Accuracy", "topk": (1,)}
    config.train_cfg = {"by_epoch": True, "max_epochs": 200, "val_interval": 1}
    if short:
        steps = round(epochs * STEPS_PER_EPOCH)
        rise = round(0.2 * steps)
        config.train_cfg = {"by_epoch": False, "max_iters": steps, "val_interval": STEPS_PER_EPOCH}
        config.train_dataloader.sampler = {"type": "InfiniteSampler", "shuffle": True}
        config.optim_wrapper.optimizer = {"type": "SGD", "lr": 0.3, "momentum": 0.9, "nesterov": True,
                                          "weight_decay": 5e-4}  # fmt: skip
        config.param_scheduler = [
            {"type": "LinearLR", "start_factor": 0.1, "by_epoch": False, "begin": 0, "end": rise},
            {
                "type": "LinearLR",
                "start_factor": 1.0,
                "end_factor": 0.0,
                "by_epoch": False,
                "begin": rise,
                "end": steps,
            },
        ]
    with tempfile.TemporaryDirectory() as folder:
        config.work_dir = folder
        runner = Runner.from_cfg(config)
        runner.register_hook(Turns(), priority="LOWEST")
        turn()
        runner.train()
        turn()


def measure(epochs: dict[str, float], turns: int | None) -> dict[str, dict[str, Any]]:
    """Let each side train, its schedule being so many epochs long: for some turns, or until all have had their time."""
    sides = {name: Side(__file__, name, str(epochs[name])) for name in SIDES}
    found: dict[str, dict[str, Any]] = {name: {"seconds": 0.0, "turns": 0, "last": [], "curve": []} for name in SIDES}
    going = set(SIDES)
    try:
        while going:
            name = min(going, key=lambda each: found[each]["seconds"])
            side = found[name]
            try:
                told = sides[name].turn()
            except SystemExit:  # its schedule has ended
                going.discard(name)
                continue
            if "top1" in told:
                side["curve"].append([side["seconds"], told["epoch"], told["top1"]])
                print(f"{name}: {side['seconds']:.0f} s, epoch {told['epoch']:.1f}: {told['top1']:.2%}", flush=True)
            side["seconds"] += told["seconds"]
            side["turns"] += 1
            side["last"].append(told["seconds"])
            if (turns and side["turns"] >= turns) or side["seconds"] >= 1.02 * SECONDS:
                going.discard(name)
    finally:
        for each in sides.values():
            each.end()
    return found


def draw(found: dict[str, dict[str, Any]]) -> None:
    """Draw accuracy over time."""
    from plots import COLOURS, new_picture, save_picture

    figure, axis = new_picture()
    for colour, (name, side) in zip(COLOURS, found.items(), strict=False):
        seconds, _, top1 = zip(*side["curve"], strict=True)
        axis.plot([each / 60 for each in seconds], [100 * each for each in top1], "o-", ms=3, color=colour, label=name)
    axis.set(xlabel="minutes of training", ylabel="top-1 of the test images, %", ylim=(40, 95))
    axis.legend(frameon=False, loc="lower right")
    save_picture(figure, "time-to-accuracy.svg")


def main() -> None:
    """Find how many epochs fit, train, and draw it."""
    trial = measure(dict.fromkeys(SIDES, 10.0), TRIAL_TURNS)
    rates = {name: TURN_STEPS / sorted(side["last"][2:])[len(side["last"][2:]) // 2] for name, side in trial.items()}
    epochs = {name: round(SECONDS * rate / STEPS_PER_EPOCH, 2) for name, rate in rates.items()}
    print(json.dumps({"steps a second": rates, "epochs that fit": epochs}), flush=True)
    found = measure(epochs, None)
    said = {"command": ".venv-parity/bin/python benchmarks/time_to_accuracy.py"}
    rows = {name: {key: side[key] for key in ("seconds", "turns", "curve")} | {"epochs": epochs[name]}
            for name, side in found.items()}  # fmt: skip
    write_json(RESULT, {"time_to_accuracy": rows, "seconds": SECONDS, "threads": torch.get_num_threads(),
                        "provenance": provenance() | said})  # fmt: skip
    draw(found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        side, length = sys.argv[1], float(sys.argv[2])
        ours(length, Turn()) if side == "resnetkit" else theirs(length, Turn(), short="short" in side)
    else:
        main()
