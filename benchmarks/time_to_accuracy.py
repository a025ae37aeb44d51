"""How accurate is the same net after the same time, trained by mmpretrain's Runner and by ours?

run: .venv-parity/bin/python benchmarks/time_to_accuracy.py      writes results/time-to-accuracy.json; 40 minutes
needs: an idle machine, make parity (the peers' environment), CIFAR-10 (resnetkit data cifar10)

ResNet-20 on all cores, each side a process that trains only in its turn, of 23 steps.  Whoever trained least is next,
so that all reach the same time together.  Evaluations of the 10,000 test images are each side's own, and not timed.

resnetkit           the recipe fast_resnet20, as many epochs as fit, in bfloat16
resnetkit, plain    the short recipe below, in float32: beside the fourth side only the Runner differs
mmpretrain          its CIFAR-10 config as it comes: 200 epochs, of which the first ones fit
mmpretrain, short   its Runner with the short recipe: SGD, Nesterov, rate 0.3 that rises for a fifth and falls to zero
                    within the time, decay 5e-4 on all parameters, black padding of 4, mirrored by chance, float32
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from mmpretrain_cifar import cifar_config, ready_runner
from plots import COLOURS, new_picture, save_picture
from resnetkit.data.sources import load_dataset
from resnetkit.home import write_json
from resnetkit.models import ResNet, find_architecture
from resnetkit.provenance import provenance
from resnetkit.recipes import load_recipe
from resnetkit.train import train
from turns import Side, Turn

RESULT = Path(__file__).parents[1] / "results" / "time-to-accuracy.json"
SECONDS = 420.0  # of training, for each side
TURN_STEPS, STEPS_PER_EPOCH, BATCH = 23, 391, 128  # 17 turns an epoch: evaluations come between two turns
TRIAL_TURNS, WARM_UP = 8, 3  # turns that tell how many epochs fit
RATE, DECAY, RISE = 0.3, 5e-4, 0.2  # of the short recipe
SIDES = ("resnetkit", "resnetkit, plain", "mmpretrain", "mmpretrain, short")
ENDLESS = "mmpretrain"  # whose schedule is longer than the time
PLAIN = [
    f'optim={{"kind":"Sgd","lr":{RATE},"nesterov":true,"weight_decay":{DECAY}}}',
    'augment=[{"kind":"PadCrop","padding":4},{"kind":"Flip"}]',
]
BFLOAT16 = 'amp={"kind":"Amp","dtype":"bfloat16"}'


def ours(epochs: float, turn: Turn, plain: bool) -> None:
    """Train by the command's own function."""
    overrides = [f"total_epochs={epochs}", f"warmup.warmup_epochs={RISE * epochs}", f"log_every_steps={TURN_STEPS}",
                 "eval_every_epochs=1", *(PLAIN if plain else [BFLOAT16])]  # fmt: skip

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "train":
            turn()
        elif event["event"] in {"eval", "test"}:
            turn.forget(top1=event["top1"], epoch=event["step"] / STEPS_PER_EPOCH)

    with tempfile.TemporaryDirectory() as folder:
        turn()
        train(load_recipe("fast_resnet20", overrides), load_dataset("cifar10"), Path(folder) / "run", on_event=listen)
        turn.tell(ended=True)


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
    config.randomness = {"seed": 0}
    if short:
        steps = round(epochs * STEPS_PER_EPOCH)
        rise = round(RISE * steps)
        config.train_cfg = {"by_epoch": False, "max_iters": steps, "val_interval": STEPS_PER_EPOCH}
        config.train_dataloader.sampler = {"type": "InfiniteSampler", "shuffle": True}
        config.optim_wrapper.optimizer = {"type": "SGD", "lr": RATE, "momentum": 0.9, "nesterov": True,
                                          "weight_decay": DECAY}  # fmt: skip
        config.param_scheduler = [
            {"type": "LinearLR", "by_epoch": False, "begin": 0, "end": rise, "start_factor": 0.1},
            {"type": "LinearLR", "by_epoch": False, "begin": rise, "end": steps, "start_factor": 1.0, "end_factor": 0},
        ]
    with ready_runner(config, Turns()) as runner:
        turn()
        runner.train()
        if short:
            runner.val_loop.run()  # of the last step, wherever it is
        turn.tell(ended=True)


def measure(epochs: dict[str, float], turns: int | None) -> dict[str, dict[str, Any]]:
    """Let each side train, its schedule being so many epochs long: for some turns, or until it ends or has its time."""
    sides = {name: Side(__file__, name, str(epochs[name])) for name in SIDES}
    found: dict[str, dict[str, Any]] = {name: {"seconds": 0.0, "turns": [], "curve": []} for name in SIDES}
    going = set(SIDES)
    try:
        while going:
            name = min(going, key=lambda each: found[each]["seconds"])
            side, told = found[name], sides[name].turn()
            if "top1" in told:
                side["curve"].append([side["seconds"], told["epoch"], told["top1"]])
                print(f"{name}: {side['seconds']:.0f} s, epoch {told['epoch']:.1f}: {told['top1']:.2%}", flush=True)
            side["seconds"] += told["seconds"]
            side["turns"].append(told["seconds"])
            over = len(side["turns"]) == turns if turns else name == ENDLESS and side["seconds"] >= SECONDS
            if over or told.get("ended"):
                going.discard(name)
    finally:
        for each in sides.values():
            each.end()
    return found


def draw(found: dict[str, dict[str, Any]]) -> None:
    """Draw accuracy over time."""
    figure, axis = new_picture()
    for colour, (name, side) in zip(COLOURS, found.items(), strict=True):
        seconds, _, top1 = zip(*side["curve"], strict=True)
        axis.plot([each / 60 for each in seconds], [100 * each for each in top1], "o-", ms=3, color=colour, label=name)
    axis.set(xlabel="minutes of training", ylabel="top-1 of the test images, %", ylim=(20, 95))
    axis.legend(frameon=False, loc="lower right")
    save_picture(figure, "time-to-accuracy.svg")


def main() -> None:
    """Find how many epochs fit, train, and draw it."""
    trial = measure(dict.fromkeys(SIDES, 10.0), TRIAL_TURNS)
    rates = {name: TURN_STEPS / statistics.median(side["turns"][WARM_UP:]) for name, side in trial.items()}
    epochs = {name: round(SECONDS * rate / STEPS_PER_EPOCH, 2) for name, rate in rates.items()}
    print(json.dumps({"steps a second": rates, "epochs that fit": epochs}), flush=True)
    found = measure(epochs, None)
    rows = {name: {"seconds": side["seconds"], "curve": side["curve"], "epochs": epochs[name]}
            for name, side in found.items()}  # fmt: skip
    peers = {name: version(name) for name in ("mmpretrain", "mmengine")}
    said = {"command": ".venv-parity/bin/python benchmarks/time_to_accuracy.py", "peers": peers}
    about = {"seconds": SECONDS, "threads": torch.get_num_threads(), "seed": 0, "endless": ENDLESS,
             "data_sha256": load_dataset("cifar10").sha256, "provenance": provenance() | said}  # fmt: skip
    write_json(RESULT, {"time_to_accuracy": rows} | about)
    draw(found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        side, length = sys.argv[1], float(sys.argv[2])
        if side.startswith("resnetkit"):
            ours(length, Turn(), plain="plain" in side)
        else:
            theirs(length, Turn(), short="short" in side)
    else:
        main()
