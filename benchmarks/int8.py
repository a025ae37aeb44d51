"""What does int8 cost, in accuracy, on real nets and all of their test images?

run: python benchmarks/int8.py WEIGHTS PHOTOS CALIBRATION      writes results/int8.json; about 25 minutes
WEIGHTS      a folder with akamaster's ResNet-20 and 56 for CIFAR-10 and an ImageNet ResNet-18
PHOTOS       ImageNet photos in folders named by synset
CALIBRATION  other photos, to quantise the ResNet-18 by
needs: CIFAR-10 (resnetkit data cifar10)

Each net is exported with the gate's own bounds, as `resnetkit export --int8` comes: the akamaster nets and that of the
quickstart, which is trained first, calibrated on training images of CIFAR-10, and the ResNet-18.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from resnetkit.artefact import ENDINGS, open_artefact
from resnetkit.export import files_of
from resnetkit.home import write_json
from resnetkit.provenance import provenance
from resnetkit.ways import Format
from resnetkit.weights_file import read_weights_file

RESULT = Path(__file__).parents[1] / "results" / "int8.json"
FORMATS: tuple[Format, ...] = ("onnx", "openvino")
CIFAR = ("--class-names", "cifar10", "--mean", "0.485", "0.456", "0.406", "--std", "0.229", "0.224", "0.225")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours, and keep what it prints."""
    print(shlex.join(["resnetkit", *words]), file=sys.stderr)
    return subprocess.run([sys.executable, "-m", "resnetkit", *words], check=False, capture_output=True, text=True)


def exported(model: Path, form: Format, folder: Path, *words: str) -> dict[str, Any]:
    """Export a net in int8; returns what its gate found, or why it was refused."""
    target = folder / f"{model.stem}{ENDINGS[form]}"
    done = run("export", str(model), "--format", form, "--int8", "--out", str(target), *words)
    said: dict[str, Any] = {"format": form, "exit_code": done.returncode}
    if done.returncode:
        return said | {"error": done.stderr.strip().splitlines()[-6:]}
    artefact = open_artefact(target)
    sizes = sum(file.stat().st_size for file in files_of(target, form))
    return said | {"gate": artefact.facts.gate, "quantized": artefact.facts.quantized, "bytes": sizes,
                   "sha256": artefact.sha256, "versions": artefact.facts.versions}  # fmt: skip


def main() -> None:
    """Export every net in both formats."""
    weights, photos, calibration = map(Path, sys.argv[1:4])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        quickstart = folder / "quickstart"
        trained = run("train", "quickstart", "--out", str(quickstart))
        if trained.returncode:
            raise SystemExit(trained.stderr)
        cifar = ("--data", "cifar10", "--calibration", "cifar10")
        nets: dict[str, tuple[Path, tuple[str, ...]]] = {
            "quickstart": (quickstart / "weights.safetensors", cifar),
            **{f"ResNet-{depth}, akamaster": (next(weights.glob(f"akamaster-*resnet{depth}-*")), (*cifar, *CIFAR))
               for depth in (20, 56)},
            "ResNet-18, ImageNet": (next(weights.glob("imagenet-resnet18*")),
                                    ("--data", str(photos), "--calibration", str(calibration))),
        }  # fmt: skip
        found: dict[str, Any] = {name: {"weights_sha256": read_weights_file(model).sha256,
                        "exports": [exported(model, form, folder, *words) for form in FORMATS]}
                 for name, (model, words) in nets.items()}  # fmt: skip
    said = {"command": "python benchmarks/int8.py WEIGHTS PHOTOS CALIBRATION"}
    write_json(RESULT, {"int8": found, "provenance": provenance() | said})
    for name, each in found.items():
        for row in each["exports"]:
            gate = row.get("gate") or {}
            figures = {key: gate.get(key) for key in ("images", "top1", "model_top1", "agreement", "decided_by")}
            print(name, row["format"], row["exit_code"], json.dumps(figures), row.get("quantized", row.get("error")))


if __name__ == "__main__":
    main()
