"""Do real checkpoints give what is recorded of them, and stay the same through every layout?

run: python benchmarks/real_weights.py WEIGHTS PHOTOS      writes results/real-weights.json; about 3 minutes on 2 cores
WEIGHTS  a folder with akamaster's ResNet-20 and ResNet-56, Distiller's ResNet-20 and an ImageNet ResNet-18
PHOTOS   a folder of class folders named by synset, of some of ImageNet's classes
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from resnetkit.home import write_json
from resnetkit.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "real-weights.json"
# Each step converts what the step before wrote; the last is the layout of the first again.
LAYOUTS = (
    ("openmmlab", "1.pth"), ("timm", "2.safetensors"), ("huggingface", "3"), ("resnetkit", "4.safetensors"),
    ("timm", "5.pth"), ("openmmlab", "6.pth"), ("resnetkit", "7.safetensors"), ("huggingface", "8"),
    ("torchvision", "9.pth"),
)  # fmt: skip
# Distiller/apputils/data_loaders.py: pixels in [-1, 1]; its best_top1 is of a tenth of the training images, kept apart.
DISTILLER = ("--mean", "0.5", "0.5", "0.5", "--std", "0.5", "0.5", "0.5")


def told(*words: str) -> dict[str, Any]:
    """Run a command with --json and return what it said."""
    print(shlex.join(["resnetkit", *words]), file=sys.stderr)
    command = [sys.executable, "-m", "resnetkit", *words, "--json"]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return answer


def score(model: Path, data: str, *more: str) -> dict[str, Any]:
    """Evaluate, and keep the figures."""
    found = told("evaluate", str(model), "--data", data, *more)
    return {key: found[key] for key in ("images", "correct", "top1", "top1_interval")} | {
        "data": found["data"]["sha256"]
    }


def facts(model: Path) -> dict[str, Any]:
    """Say what a file is, in short."""
    found = told("show", str(model))
    keys = ("container", "layout", "net", "tensors_used", "dtypes", "recorded", "sha256", "tensors_sha256")
    return {key: found[key] for key in keys}


def through_layouts(first: Path, photos: str) -> list[dict[str, Any]]:
    """Convert through every layout and back, and evaluate after each step."""
    steps = [{"to": "as it came"} | facts(first) | score(first, photos)]
    with tempfile.TemporaryDirectory() as folder:
        model = first
        for target, name in LAYOUTS:
            out = Path(folder) / name
            done = told("convert", str(model), str(out), "--to", target)
            found = {"to": target, "largest_difference": done["largest_difference"]} | facts(out) | score(out, photos)
            steps.append(found)
            model = out
    return steps


def main() -> None:
    """Measure and write down."""
    weights, photos = Path(sys.argv[1]), sys.argv[2]
    (distiller,), (resnet18,) = weights.glob("distiller-*"), weights.glob("imagenet-resnet18-*")
    result = {
        "akamaster": {path.name: facts(path) | score(path, "cifar10") for path in sorted(weights.glob("akamaster-*"))},
        "distiller": {distiller.name: facts(distiller) | score(distiller, "cifar10", *DISTILLER)},
        "resnet18_through_layouts": through_layouts(resnet18, photos),
    }
    steps = result["resnet18_through_layouts"]
    same = {(step["correct"], step["tensors_sha256"]) for step in steps}  # type: ignore[index]
    command = {"command": "python benchmarks/real_weights.py WEIGHTS PHOTOS"}
    write_json(RESULT, result | {"equal_after_every_step": len(same) == 1, "provenance": provenance() | command})
    print(f"ResNet-18 after {len(steps) - 1} conversions: {'equal' if len(same) == 1 else 'NOT equal'}; wrote {RESULT}")
    sys.exit(0 if len(same) == 1 else 1)


if __name__ == "__main__":
    main()
