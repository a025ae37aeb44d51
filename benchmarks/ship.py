"""Put trained nets into the package, and measure what users get: confidences, int8, and what `verify` says of it all.

run: python benchmarks/ship.py      writes src/resnetkit/shipped/ and results/shipped.json; about 5 minutes
needs: CIFAR-10 (resnetkit data cifar10); a net whose file is not there is trained first, which takes two hours

The weights are those of seed 0, whatever the other seeds reached.  Their temperature is that of a twin by the same
recipe on 45,000 images, fitted to the other 5,000: images that a net was itself trained on would tell nothing.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from fast_resnet20 import RECIPE, training_of
from resnetkit import checkpoint, load_dataset, load_model
from resnetkit.artefact import ENDINGS
from resnetkit.confidence import fitted
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.evaluate import logits_of
from resnetkit.export import files_of
from resnetkit.feed import train_and_val
from resnetkit.home import write_json
from resnetkit.provenance import provenance
from resnetkit.shipped_weights import FOLDER
from resnetkit.ways import Format
from trainings import Training, train_all

RESULT = Path(__file__).parents[1] / "results" / "shipped.json"
FORMATS: tuple[Format, ...] = ("onnx", "openvino")
DATA = "cifar10"
EPOCHS = 40  # set before anything was measured
# What is shipped, and the twin that its temperature is of.
NETS = {"resnet20": (training_of(EPOCHS), training_of(EPOCHS, held_out=True))}


def say(*words: str) -> Any:
    """Run a command of ours that prints JSON, and return it."""
    print(shlex.join(["resnetkit", *words]), file=sys.stderr)
    done = subprocess.run([sys.executable, "-m", "resnetkit", *words], check=False, capture_output=True, text=True)
    if done.returncode > (words[0] == "verify"):  # which ends with 1 where a claim fails, and says so
        raise SystemExit(done.stderr)
    return json.loads(done.stdout) if "--json" in words else done.stdout


def file_of(name: str) -> Path:
    """Return where a net's weights are in the package."""
    return FOLDER / f"{name}.safetensors"


def ship(name: str, training: Training, twin: Training) -> None:
    """Write a net's file, without figures."""
    tensors, said = checkpoint.read_weights(training.run / checkpoint.WEIGHTS)
    assert said
    metadata = {key: value for key, value in said.items() if key != "tensors_sha256"} | {
        "license": "apache-2.0",
        "origin": {"command": training.command(), "commit": training.commits()[0], "seed": training.seed,
                   "epochs": training.events("train")[-1]["epoch"], "seconds": training.evaluation()["seconds"],
                   "weights_sha256": training.evaluation()["weights_sha256"]},
        "temperature": temperature_by(twin),
    }  # fmt: skip
    FOLDER.mkdir(exist_ok=True)
    checkpoint.save_weights(file_of(name), tensors, metadata | {"metrics": {}})


def keep_figures(target: Path) -> None:
    """Put into a net's file the figures that `evaluate` finds with its temperature."""
    tensors, said = checkpoint.read_weights(target)
    assert said
    found = say("evaluate", str(target), "--data", DATA, "--json")
    figures = {key: found[key] for key in ("images", "top1", "top5", "loss", "ece", "ece_at_temperature_1")}
    metadata = {key: value for key, value in said.items() if key != "tensors_sha256"}
    checkpoint.save_weights(target, tensors, metadata | {"metrics": {f"{DATA} test": figures}})


def temperature_by(twin: Training) -> dict[str, Any]:
    """Fit a temperature to the images that a twin was not trained on."""
    recipe, loaded = checkpoint.run_recipe(twin.run), load_model(twin.run)
    _, held_out = train_and_val(recipe, load_dataset(recipe.data))
    assert held_out is not None
    found = fitted(*logits_of(TorchEngine(loaded.model, loaded.preprocess), held_out))
    assert found
    return found | {"command": twin.command(), "commit": twin.commits()[0]}


def figures_of(model: str) -> dict[str, Any]:
    """Return what `evaluate` finds of a model."""
    found = say("evaluate", model, "--data", DATA, "--json")
    names = ("images", "correct", "top1", "loss", "temperature", "ece", "ece_at_temperature_1", "engine")
    return {key: found[key] for key in names}


def quantised(name: str, form: Format, folder: Path) -> dict[str, Any]:
    """Export a shipped net in int8 behind the gate; returns what was found of it."""
    target = folder / f"{name}{ENDINGS[form]}"
    say("export", name, "--format", form, "--int8", "--data", DATA, "--calibration", DATA, "--out", str(target))
    checks = say("verify", str(target), "--json")
    size = sum(file.stat().st_size for file in files_of(target, form))
    return figures_of(str(target)) | {"bytes": size, "failed": failed(checks), "checks": len(checks)}


def failed(checks: list[dict[str, Any]]) -> list[str]:
    """Return what `verify` found to be wrong."""
    return [check["what"] for check in checks if check["passed"] is False]


def main() -> None:
    """Ship, measure, verify."""
    missing = {name: pair for name, pair in NETS.items() if not file_of(name).is_file()}
    train_all([training for pair in missing.values() for training in pair])
    for name, pair in missing.items():
        ship(name, *pair)
    shipped: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in NETS:
            target = file_of(name)
            keep_figures(target)
            checks = say("verify", name, "--json")
            found = say("evaluate", name, "--data", DATA, "--json")
            found["model"] = found["model"].removeprefix(f"{FOLDER}/")
            write_json(RESULT.with_name(f"shipped-{name}.json"), found)
            about = load_model(target).about
            shipped[name] = {"bytes": target.stat().st_size, "float": figures_of(name), "recipe": RECIPE,
                             "origin": about["origin"], "temperature": about["temperature"],
                             "failed": failed(checks), "checks": len(checks)}  # fmt: skip
            shipped[name] |= {f"int8, {form}": quantised(name, form, Path(scratch)) for form in FORMATS}
    said = {"command": "python benchmarks/ship.py"}
    write_json(RESULT, {"shipped": shipped, "provenance": provenance() | said})
    print(json.dumps(shipped, indent=1))


if __name__ == "__main__":
    main()
