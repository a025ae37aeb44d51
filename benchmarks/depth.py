"""Does depth help, and only with shortcuts?  Four nets of the paper under one short recipe.

run: python benchmarks/depth.py      writes results/depth.json and docs/pictures/; about three hours of a core
needs: CIFAR-10 (resnetkit data cifar10); bfloat16 in the CPU, or patience; matplotlib

plain-20, plain-56, ResNet-20 and ResNet-56 by the recipe fast_resnet20.
The pictures are after figures 6 and 7 of He et al.: errors while training, and how large the answers of the layers are.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fast_resnet20 import RECIPE, training_of
from plots import COLOURS, new_picture, save_picture
from resnetkit import load_dataset, load_model
from resnetkit.data.spec import ArrayDataset
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.evaluate import evaluate
from resnetkit.home import read_json, write_json
from resnetkit.load import LoadedModel
from resnetkit.provenance import provenance
from resnetkit.recipes import RECIPES
from trainings import Training, recorded

RESULT = Path(__file__).parents[1] / "results" / "depth.json"
SHORT = training_of(round(RECIPES[RECIPE].total_epochs or 0))
NETS = {
    "ResNet-20": SHORT,
    **{name: replace(SHORT, folder=f"depth/{model}", changes={**SHORT.changes, "model": model})
       for name, model in (("plain-20", "plain20"), ("plain-56", "plain56"), ("ResNet-56", "resnet56"))},
}  # fmt: skip
COLOUR_OF = dict(zip(("ResNet-56", "plain-56", "plain-20", "ResNet-20"), COLOURS, strict=True))
IMAGES = 2_000  # of the test images, whose answers are measured


def figures_of(training: Training, data: ArrayDataset) -> dict[str, Any]:
    """Return a net's errors by epoch, of training images as they were seen and of test images, and what it came to."""
    loaded = load_model(training.run)
    whole = evaluate(TorchEngine(loaded.model, loaded.preprocess), data.train)
    seen: dict[int, list[float]] = {}
    for event in training.events("train"):
        seen.setdefault(int(np.ceil(event["epoch"])), []).append(1 - event["top1"])
    steps_per_epoch = training.events("train")[0]["step"] / training.events("train")[0]["epoch"]
    said = training.evaluation()
    tested = {event["step"] / steps_per_epoch: 1 - event["top1"] for event in training.events("eval")}
    last = max(event["epoch"] for event in training.events("train"))
    return {
        "train": [[epoch, float(np.mean(some))] for epoch, some in sorted(seen.items())],
        "test": [*([round(epoch, 3), error] for epoch, error in tested.items()), [last, 1 - said["top1"]]],
        "final_train_error": 1 - whole.top1,  # of the images as they are, none moved or mirrored
        "final_train_loss": whole.loss,
        "final_test_error": 1 - said["top1"],
        "responses": responses_of(loaded, data),
        "params": sum(parameter.numel() for parameter in loaded.model.parameters()),
    }


@torch.inference_mode()
def responses_of(loaded: LoadedModel, data: ArrayDataset) -> list[float]:
    """Return the standard deviation of each 3x3 layer's answer, after its norm and before the sum and the ReLU."""
    found: list[float] = []
    norms = [module for module in loaded.model.modules() if isinstance(module, nn.BatchNorm2d)]

    def hear(norm: nn.Module, inputs: tuple[Tensor, ...], answer: Tensor) -> None:
        found.append(float(answer.double().std()))

    handles = [norm.register_forward_hook(hear) for norm in norms]
    loaded.model(loaded.preprocess.normalize(torch.from_numpy(np.array(data.test.images[:IMAGES]))))
    for handle in handles:
        handle.remove()
    return found


def draw_errors(nets: dict[str, dict[str, Any]]) -> None:
    """Draw the errors of plain and of residual nets side by side, training thin and broken, test thick."""
    figure, axes = new_picture(2)
    for axis, kind in zip(axes, ("plain", "ResNet"), strict=True):
        for name, net in nets.items():
            if name.startswith(kind):
                epochs, errors = zip(*net["train"], strict=True)
                axis.plot(epochs, 100 * np.array(errors), "--", color=COLOUR_OF[name], lw=1, label=f"{name}, training")
                epochs, errors = zip(*net["test"], strict=True)
                axis.plot(epochs, 100 * np.array(errors), color=COLOUR_OF[name], lw=2, label=f"{name}, test")
        axis.set(xlabel="epoch", ylim=(0, 40), title=f"{kind} nets")
        axis.legend(frameon=False)
    axes[0].set_ylabel("error, %")
    save_picture(figure, "depth.svg")


def draw_responses(nets: dict[str, dict[str, Any]]) -> None:
    """Draw the answers of the layers in their order, and sorted."""
    figure, axes = new_picture(2)
    for name, net in nets.items():
        found = np.array(net["responses"])
        for axis, values in zip(axes, (found, -np.sort(-found)), strict=True):
            line = "--" if name.startswith("plain") else "-"
            axis.plot(range(1, len(values) + 1), values, line, color=COLOUR_OF[name], lw=1.5, label=name)
    axes[0].set(xlabel="layer", ylabel="standard deviation of the answer", title="in order")
    axes[1].set(xlabel="layer, by size", title="sorted")
    axes[1].legend(frameon=False)
    save_picture(figure, "responses.svg")


def main() -> None:
    """Train what is not trained yet, and draw it."""
    data = load_dataset("cifar10")
    assert isinstance(data, ArrayDataset)
    longest_first = [NETS[name] for name in ("ResNet-56", "plain-56", "plain-20", "ResNet-20")]
    runs = recorded(RESULT, RECIPE, longest_first, lambda training: figures_of(training, data))
    nets = {name: runs[training.folder] for name, training in NETS.items()}
    shown = ("final_train_error", "final_train_loss", "final_test_error", "params")
    ends = {name: {key: net[key] for key in shown} for name, net in nets.items()}
    said = {"command": "python benchmarks/depth.py"}
    differences = {
        f"{kind}-56 against {kind}-20, {which}": ends[f"{kind}-56"][f"final_{which}_error"]
        - ends[f"{kind}-20"][f"final_{which}_error"]
        for kind in ("plain", "ResNet")
        for which in ("train", "test")
    }
    about = {"data_sha256": data.sha256, "provenance": provenance() | said}
    write_json(RESULT, read_json(RESULT) | {"depth": ends, "differences": differences} | about)
    draw_errors(nets)
    draw_responses(nets)
    print(json.dumps(ends, indent=1))


if __name__ == "__main__":
    main()
