"""How accurate is the same net after the same time, trained by mmpretrain's Runner and by ours?

run: .venv-parity/bin/python benchmarks/time_to_accuracy.py      writes results/time-to-accuracy.json; 40 minutes
needs: an idle machine, make parity (the peers' environment), CIFAR-10 (resnetkit data cifar10)

ResNet-20 on all cores, each side a process that trains only in its turn, of 17 steps.  Whoever trained least is next,
so that all reach the same time together.  Evaluations of the 10,000 test images are each side's own, and not timed;
nor is what mmpretrain's two loading processes prepare ahead meanwhile, 4 batches at most.
Ours are as many epochs as fit by a trial before; when the first one ends, whatever the machine did meanwhile, the time
is over for mmpretrain's: its short schedule follows the time, not steps.

resnetkit           the recipe fast_resnet20, as many epochs as fit, in bfloat16 where the CPU has it
resnetkit, plain    the short recipe below, in float32: beside the fourth side only the Runner differs
mmpretrain          its CIFAR-10 config as it comes: 200 epochs, of which the first ones fit
mmpretrain, short   its Runner with the short recipe: SGD, Nesterov, rate 0.3 that rises for a fifth and falls to zero
                    within the time, decay 5e-4 on all parameters, black padding of 4, mirrored by chance, float32
"""

from __future__ import annotations

import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
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
from resnetkit.ways import has_bfloat16
from turns import Side, Turn

RESULT = Path(__file__).parents[1] / "results" / "time-to-accuracy.json"
SECONDS = 420.0  # of training, for each side
TURN_STEPS, STEPS_PER_EPOCH, BATCH = 17, 391, 128  # 23 turns an epoch: evaluations come between two turns
TRIAL_TURNS, WARM_UP = 40, 5  # turns that tell how many epochs fit
RATE, DECAY, RISE, START = 0.3, 5e-4, 0.2, 0.1  # of the short recipe: full rate, decay, warm-up and its first rate
OURS = ("resnetkit", "resnetkit, plain")
THEIRS = ("mmpretrain", "mmpretrain, short")
PLAIN = [
    f'optim={{"kind":"Sgd","lr":{RATE},"nesterov":true,"weight_decay":{DECAY}}}',
    'augment=[{"kind":"PadCrop","padding":4},{"kind":"Flip"}]',
]
BFLOAT16 = ['amp={"kind":"Amp","dtype":"bfloat16"}'] if has_bfloat16() else []


def ours(steps: int, turn: Turn, plain: bool) -> None:
    """Train by the command's own function."""
    overrides = ["total_epochs=null", f"total_steps={steps}", f"log_every_steps={TURN_STEPS}",
                 f"warmup.warmup_epochs={RISE * steps / STEPS_PER_EPOCH}", "eval_every_epochs=1",
                 *(PLAIN if plain else BFLOAT16)]  # fmt: skip

    def listen(event: dict[str, Any]) -> None:
        if event["event"] == "train":
            turn()
        elif event["event"] in {"eval", "test"}:
            turn.forget(top1=event["top1"], epoch=event["step"] / STEPS_PER_EPOCH)

    with tempfile.TemporaryDirectory() as folder:
        turn()
        train(load_recipe("fast_resnet20", overrides), load_dataset("cifar10"), Path(folder) / "run", on_event=listen)
        turn.tell(ended=True)


class Over(Exception):
    """The time is over."""


def theirs(turn: Turn, short: bool) -> None:
    """Train by mmpretrain's Runner, until the turn says that all of the time is used."""
    from mmengine.hooks import Hook
    from mmengine.runner import Runner

    def go_on(runner: Runner) -> None:
        """Wait for the turn, and have the rate of the share of the time that is used by then."""
        used = float(turn())
        if used >= 1:
            raise Over
        if short:
            factor = START + (1 - START) * used / RISE if used < RISE else (1 - used) / (1 - RISE)
            for group in runner.optim_wrapper.optimizer.param_groups:
                group["lr"] = RATE * factor

    class Turns(Hook):  # type: ignore[misc]
        steps = 0

        def before_train(self, runner: Runner) -> None:
            go_on(runner)

        def after_train_iter(self, runner: Runner, batch_idx: int, *rest: object, **named: object) -> None:
            self.steps += 1
            if self.steps % TURN_STEPS == 0:
                go_on(runner)

        def after_val_epoch(self, runner: Runner, metrics: dict[str, float]) -> None:
            turn.forget(top1=metrics["accuracy/top1"] / 100, epoch=self.steps / STEPS_PER_EPOCH)

    config = cifar_config(lambda: ResNet(find_architecture("resnet20")))
    config.train_dataloader.batch_size = BATCH
    config.val_evaluator = {"type": "Accuracy", "topk": (1,)}
    config.train_cfg = {"by_epoch": True, "max_epochs": 200, "val_interval": 1}
    config.randomness = {"seed": 0}
    if short:
        config.optim_wrapper.optimizer = {"type": "SGD", "lr": RATE, "momentum": 0.9, "nesterov": True,
                                          "weight_decay": DECAY}  # fmt: skip
        config.param_scheduler = None
    with ready_runner(config, Turns()) as runner:
        try:
            runner.train()
        except Over:
            runner.val_loop.run()  # of the last step, wherever it is
        turn.tell(ended=True)


def trial() -> dict[str, int]:
    """Return how many turns of ours fit."""
    sides = {name: Side(__file__, name, f"{10 * STEPS_PER_EPOCH}") for name in OURS}
    taken: dict[str, list[float]] = {name: [] for name in OURS}
    try:
        for _ in range(TRIAL_TURNS):
            for name, side in sides.items():
                taken[name].append(side.turn()["seconds"])
    finally:
        for each in sides.values():
            each.end()
    return {name: round(SECONDS / fmean(seconds[WARM_UP:])) for name, seconds in taken.items()}


def measure(turns: dict[str, int]) -> dict[str, dict[str, Any]]:
    """Let all sides train: ours for so many turns, mmpretrain's for the time that the first of ours takes."""
    sides = {name: Side(__file__, name, str(TURN_STEPS * turns.get(name, 0))) for name in (*OURS, *THEIRS)}
    found: dict[str, dict[str, Any]] = {name: {"seconds": 0.0, "turns": 0, "curve": []} for name in sides}
    first, going = found[OURS[0]], list(sides)
    time_of_all = SECONDS
    try:
        while going:
            name = min(going, key=lambda each: found[each]["seconds"])
            side = found[name]
            half_a_turn = side["seconds"] / max(side["turns"], 1) / 2  # ends with the turn whose end is nearest
            told = sides[name].turn(f"{(side['seconds'] + half_a_turn) / time_of_all}")
            if "top1" in told:
                side["curve"].append([side["seconds"], told["epoch"], told["top1"]])
                print(f"{name}: {side['seconds']:.0f} s, epoch {told['epoch']:.1f}: {told['top1']:.2%}", flush=True)
            side["seconds"] += told["seconds"]
            side["turns"] += 1
            if OURS[0] in going:  # how long it will take, at its rate so far
                time_of_all = first["seconds"] * max(1, turns[OURS[0]] / first["turns"])
            if told.get("ended"):
                going.remove(name)
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
    """Find how much fits, train, and draw it."""
    turns = trial()
    print(json.dumps({"turns that fit": turns}), flush=True)
    found = measure(turns)
    rows = {
        name: {
            "seconds": side["seconds"],
            "epochs": (turns[name] if name in turns else side["turns"] - 1) * TURN_STEPS / STEPS_PER_EPOCH,
            "curve": side["curve"],
        }
        for name, side in found.items()
    }
    peers = {name: version(name) for name in ("mmpretrain", "mmengine")}
    said = {"command": ".venv-parity/bin/python benchmarks/time_to_accuracy.py", "peers": peers}
    about = {"seconds": found[OURS[0]]["seconds"], "threads": torch.get_num_threads(), "seed": 0,
             "precision": "bfloat16" if BFLOAT16 else "float32",
             "data_sha256": load_dataset("cifar10").sha256, "provenance": provenance() | said}  # fmt: skip
    write_json(RESULT, {"time_to_accuracy": rows} | about)
    draw(found)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        side, steps = sys.argv[1:]
        if side in OURS:
            ours(int(steps), Turn(), plain="plain" in side)
        else:
            theirs(Turn(), short="short" in side)
    else:
        main()
