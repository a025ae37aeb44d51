"""Recompute what is claimed: costs, accuracy, hashes of data and weights, and what a results file says of itself."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from resnetkit import checkpoint
from resnetkit.data.opening import EvaluationData, open_evaluation_data
from resnetkit.data.sources import kept_folder
from resnetkit.data.spec import DATASETS
from resnetkit.errors import BadRequest, ResnetkitError, did_you_mean
from resnetkit.evaluate import TOP_K, evaluate
from resnetkit.home import read_json
from resnetkit.load import LoadedModel, load_model
from resnetkit.metrics import wilson_interval
from resnetkit.published import kept_file, of_page
from resnetkit.weights_file import file_sha256
from resnetkit.zoo import MISPRINTED, PAPER_CIFAR_PARAMS, ZOO, ZooEntry

PRINTED_TOLERANCE = 0.0051  # of 10^6 parameters and 10^9 multiply-adds: the page rounds and cuts to two digits
IMAGES_TOLERANCE = 0.0002  # of the images: another machine's kernels round otherwise; one image at least
LOSS_TOLERANCE = 1e-4  # of the loss
EXACT = 1e-9  # of what follows from numbers beside it


@dataclass(frozen=True)
class Check:
    """One claim and what was found."""

    subject: str  # net, file or run
    what: str
    claimed: Any
    found: Any = None
    tolerance: float = 0  # largest difference of a number
    passed: bool | None = None  # None: it could not be checked
    reason: str = ""  # why not


def compared(subject: str, what: str, claimed: Any, found: Any, tolerance: float = 0) -> Check:
    """Compare a claim with what was found: numbers within a tolerance, all else for equality."""
    numbers = all(isinstance(value, int | float) for value in (claimed, found))
    passed = abs(claimed - found) <= tolerance if numbers else claimed == found
    return Check(subject, what, claimed, found, tolerance, bool(passed))


def unchecked(subject: str, what: str, claimed: Any, reason: str) -> Check:
    """Say why a claim was not checked."""
    return Check(subject, what, claimed, reason=reason)


@dataclass(frozen=True)
class Machine:
    """What is at hand to check with."""

    data: str | None = None  # a folder or name, in place of what a claim names
    weights: Path | None = None  # a folder of weights files, found by their SHA-256
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    def open_data(self, name: str, trained_on: str | None = None) -> EvaluationData | str:
        """Return the test images of a claim's data, or why not; nothing is fetched."""
        place = self.data or name
        if self.data is None and name in DATASETS and not kept_folder(name).is_dir():
            return f"{name} is not on this machine; next: resnetkit data {name}"
        try:
            return open_evaluation_data(place, trained_on)
        except ResnetkitError as error:
            return f"{error.what}; next: --data DIR"

    def find_weights(self, sha256: str) -> Path | None:
        """Return the file of this SHA-256."""
        files = sorted(self.weights.iterdir()) if self.weights else []
        return next((file for file in files if file.is_file() and file_sha256(file) == sha256), None)


def verify(name: str, machine: Machine) -> list[Check]:
    """Check a net of the zoo, a run directory, a weights file of ours, or a results file; BadRequest for all else."""
    path = Path(name)
    if name in ZOO:
        return list(check_zoo(ZOO[name], machine))
    if path.is_dir() and (path / checkpoint.RECIPE).is_file():
        return list(check_run(path, machine))
    if path.is_file() and (path.parent / checkpoint.RECIPE).is_file() and path.name == checkpoint.WEIGHTS:
        return list(check_run(path.parent, machine))
    if path.is_file() and path.suffix == ".json":
        return list(check_result(path, machine))
    if path.is_file():
        return list(check_file(path, machine))
    raise BadRequest(f"nothing to verify is named {name!r}{did_you_mean(name, ZOO)}",
                     "expected a net of the zoo, a run directory, a weights file, or a results file")  # fmt: skip


def verify_all(results: Path, machine: Machine) -> list[Check]:
    """Check every results file and every net of the zoo."""
    files = sorted(results.glob("*.json"))
    if not files:
        raise BadRequest(f"{results} has no results files", "next: --results DIR, or run it from the checkout")
    return [*(check for file in files for check in check_result(file, machine)),
            *(check for entry in ZOO.values() for check in check_zoo(entry, machine))]  # fmt: skip


# --- the zoo ---


def check_zoo(entry: ZooEntry, machine: Machine) -> Iterator[Check]:
    """Check a net's printed costs, and its published accuracy where weights and images are here."""
    printed = PAPER_CIFAR_PARAMS.get(entry.name)
    if printed is not None:
        half_digit = 0.5 / 10 ** len(printed.partition(".")[2])
        params = entry.cost().params / 1e6
        yield compared(entry.name, "params, 10^6", float(printed), round(params, 4), half_digit + EXACT)
    elif entry.printed is None:
        yield unchecked(entry.name, "params, MACs", None, "no published figure of them is kept here")
    else:
        cost = entry.cost()
        for what, claimed, found in (("params, 10^6", entry.printed.params, cost.params / 1e6),
                                     ("MACs, 10^9", entry.printed.flops, cost.macs_page / 1e9)):  # fmt: skip
            check = compared(entry.name, what, claimed, round(found, 4), PRINTED_TOLERANCE)
            wrong = "the page prints another net's figure there"
            yield replace(check, passed=None, reason=wrong) if entry.name in MISPRINTED else check
    yield from check_published(entry, machine)


def check_published(entry: ZooEntry, machine: Machine) -> Iterator[Check]:
    """Check a net's published accuracy with the published weights, if they were fetched."""
    if entry.top1 is None:
        return
    if entry.weights is None:
        reason = "no weights of it are published"
    elif not kept_file(of_page(entry)).is_file():
        reason = "its published weights are not on this machine"
    else:
        loaded = load_model(entry.name)
        data = machine.open_data((loaded.about["data"] or {}).get("name") or entry.name.rpartition("_")[2])
        if isinstance(data, EvaluationData):
            claims = {"top1": entry.top1} | ({"top5": entry.top5} if entry.top5 else {})
            yield from check_accuracy(entry.name, loaded, data, claims, machine)
            return
        reason = data
    yield unchecked(entry.name, "top1", entry.top1, reason)


# --- weights and runs ---


def check_file(path: Path, machine: Machine) -> Iterator[Check]:
    """Check the hash and the figures that a weights file has in its metadata."""
    subject = path.name
    if path.suffix == ".safetensors":
        tensors, metadata = checkpoint.read_weights(path)
        if metadata is not None:
            claimed = metadata.get("tensors_sha256")
            yield compared(subject, "tensors sha256", claimed, checkpoint.tensors_sha256(tensors))
    loaded = load_model(path)
    about = loaded.about
    if not about["metrics"]:
        yield unchecked(subject, "accuracy", None, "the file claims no figures")
        return
    said = about["data"] or {}
    data = machine.open_data(said.get("name", ""), said.get("sha256"))
    for name, claims in about["metrics"].items():
        if isinstance(data, str):
            yield unchecked(subject, f"accuracy on {name}", claims.get("top1"), data)
            continue
        yield from check_data(subject, said, data)
        yield from check_accuracy(subject, loaded, data, claims, machine)


def check_data(subject: str, said: Mapping[str, Any], data: EvaluationData) -> Iterator[Check]:
    """Check the hash of the data, which of a folder's test images alone is not known."""
    if data.sha256 is None:
        yield unchecked(subject, "data sha256", said.get("sha256"), "a folder's hash is that of all its splits")
    else:
        yield compared(subject, "data sha256", said.get("sha256"), data.sha256)


def check_accuracy(
    subject: str, loaded: LoadedModel, data: EvaluationData, claims: Mapping[str, Any], machine: Machine
) -> Iterator[Check]:
    """Evaluate, and compare each figure that is claimed."""
    model = loaded.model.to(machine.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    outcome = evaluate(model, data.split, preprocess=loaded.preprocess, device=machine.device)
    images = max(IMAGES_TOLERANCE * outcome.images, 1) + EXACT
    found = {"images": outcome.images, "correct": outcome.correct, "top1": outcome.top1, "top5": outcome.top5,
             "loss": outcome.loss}  # fmt: skip
    tolerances = {"correct": images, "top1": images / outcome.images, "top5": images / outcome.images,
                  "loss": LOSS_TOLERANCE * outcome.loss}  # fmt: skip
    for what, value in found.items():
        if claims.get(what) is not None:
            yield compared(subject, what, claims[what], value, tolerances.get(what, 0))


def check_run(run: Path, machine: Machine) -> Iterator[Check]:
    """Check what a run says of its weights in evaluation.json, metrics.jsonl and the weights file."""
    if not (run / checkpoint.EVALUATION).is_file():
        raise BadRequest(f"{run} is not finished", f"next: resnetkit train --resume --out {run}")
    subject, said = run.name, read_json(run / checkpoint.EVALUATION)
    yield compared(subject, "weights sha256", said["weights_sha256"], file_sha256(run / checkpoint.WEIGHTS))
    told = next((event for event in checkpoint.read_events(run) if event["event"] == "test"), {})
    for name in ("weights_sha256", "images", "top1", "top5", "loss"):
        yield compared(subject, f"{name} in {checkpoint.METRICS}", told.get(name), said[name])
    yield from check_consistency(subject, said)
    try:
        loaded = load_model(run)
    except ResnetkitError as error:
        yield Check(subject, "weights", "a whole file", error.what, passed=False)
        return
    kept = loaded.about["metrics"].get(f"{said['data']['name']} test", {})
    for name in ("images", "top1", "top5", "loss"):
        yield compared(subject, f"{name} in {checkpoint.WEIGHTS}", kept.get(name), said[name])
    recipe = checkpoint.run_recipe(run)
    data = machine.open_data(recipe.data, said["data"]["sha256"])
    if isinstance(data, str):
        yield unchecked(subject, "accuracy", said["top1"], data)
        return
    yield from check_data(subject, said["data"], data)
    yield from check_accuracy(subject, loaded, data, said, machine)


# --- results files ---


def check_result(path: Path, machine: Machine) -> Iterator[Check]:
    """Check a results file: that its figures hold together, and what can be computed here."""
    said = read_json(path)
    subject = path.name
    if not isinstance(said, dict):
        yield Check(subject, "content", "an object", type(said).__name__, passed=False)
        return
    if "correct" in said and "confusion" in said:
        yield from check_consistency(subject, said)
        yield from check_again(subject, said, machine)
        return
    for key, holds in STATEMENTS.items():
        if key in said:
            yield compared(subject, key, True, holds(said))
    command = said.get("provenance", {}).get("command", "")
    yield unchecked(subject, "its figures", None, f"computed by its own command, in minutes or more: {command}")


def bounded(said: Mapping[str, Any]) -> bool:
    """Say whether every figure of a comparison is within its bound, and says so."""
    return all(row["passed"] == (row["error"] <= row["bound"]) and row["passed"] for row in said["figures"])


def hashes_equal(said: Mapping[str, Any]) -> bool:
    """Say whether runs that were killed have the hashes of those that were not."""
    return said["all_weights_equal"] and all(len(set(each["weights_sha256"].values())) == 1 for each in said["rounds"])


def ratios_hold(said: Mapping[str, Any]) -> bool:
    """Say whether the ratios of a benchmark of training follow from its seconds, and reach their goals."""
    for net in (value for value in said.values() if isinstance(value, dict) and "goals" in value):
        ours = net["seconds"]["resnetkit"]
        for name, other in (("times_mmpretrain", "mmpretrain"), ("times_timm", "timm")):
            ratio = median(theirs / own for theirs, own in zip(net["seconds"][other], ours, strict=True))
            if abs(net[name] - ratio) > EXACT:
                return False
        reached = {name: net[name] <= goal if name == "loop_over_bare" else net[name] >= goal
                   for name, goal in net["goals"].items()}  # fmt: skip
        if not all(reached.values()):
            return False
    return True


def forecasts_hold(said: Mapping[str, Any]) -> bool:
    """Say whether forecasts and measured rates differ as is said, and with two processes by no more than the goal."""
    return all(
        abs(row["forecast_images_per_second"] / row["measured_images_per_second"] - 1 - row["error"]) <= EXACT
        and (row["processes"] != 2 or abs(row["error"]) <= said["goal_with_two"])
        for row in said["rows"]
    )


# What other results files say of themselves: by a key of theirs, whether it holds.
STATEMENTS: dict[str, Callable[[Mapping[str, Any]], bool]] = {
    "figures": bounded,
    "all_weights_equal": hashes_equal,
    "most_steps_done_again": lambda said: said["most_steps_done_again"] <= said["save_every_steps"],
    "equal_bytes": lambda said: said["equal_bytes"] is True,
    "resnet18": ratios_hold,
    "goal_with_two": forecasts_hold,
    "failed": lambda said: not said["failed"] and not any(run["exit_code"] for run in said["runs"]),
    "equal_after_every_step": lambda said: said["equal_after_every_step"] is True,
    "from_one_process": lambda said: said["from_one_process"]["largest_difference"] <= said["tolerance"],
}


def check_consistency(subject: str, said: Mapping[str, Any]) -> Iterator[Check]:
    """Check that an evaluation's figures follow from each other."""
    images, correct, cells = said["images"], said["correct"], counts_of(said["confusion"])
    yield compared(subject, "top1 = correct / images", said["top1"], correct / images, EXACT)
    yield compared(subject, "images of the confusion", images, sum(count for _, _, count in cells))
    # Predictions count by the largest logit, `correct` by rank: equal logits may be counted differently.
    right = sum(count for label, prediction, count in cells if label == prediction)
    yield compared(subject, "correct of the confusion", correct, right)
    yield compared(subject, "correct of the classes", correct, sum(row["correct"] for row in said["classes"]))
    for name, hits in (("top1", correct), ("top5", round(said["top5"] * images))):
        low, high = wilson_interval(hits, images)
        yield compared(subject, f"{name}_interval, low", said[f"{name}_interval"][0], low, EXACT)
        yield compared(subject, f"{name}_interval, high", said[f"{name}_interval"][1], high, EXACT)
    assert TOP_K == 5


def counts_of(confusion: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Return label, prediction and count of a confusion matrix, kept whole or by its cells."""
    if len(confusion) == len(confusion[0]) != 3:  # files of the first version
        return [(row, column, count) for row, counts in enumerate(confusion) for column, count in enumerate(counts)]
    return [(label, prediction, count) for label, prediction, count in confusion]


def check_again(subject: str, said: Mapping[str, Any], machine: Machine) -> Iterator[Check]:
    """Evaluate anew, where weights with the claimed hash and the data are here."""
    path = machine.find_weights(said["weights_sha256"])
    if path is None:
        reason = "weights of this sha256 are not at hand; next: --weights DIR"
        yield unchecked(subject, "accuracy", said["top1"], reason)
        return
    data = machine.open_data(said["data"]["name"], said["data"]["sha256"])
    if isinstance(data, str):
        yield unchecked(subject, "accuracy", said["top1"], data)
        return
    words = shlex.split(said["provenance"]["command"])
    loaded = load_model(path, mean=floats_after(words, "--mean"), std=floats_after(words, "--std"))
    yield from check_data(subject, said["data"], data)
    yield from check_accuracy(subject, loaded, data, said, machine)


def floats_after(words: Sequence[str], option: str) -> list[float] | None:
    """Return the three numbers that follow an option of a command."""
    place = words.index(option) if option in words else -1
    return [float(word) for word in words[place + 1 : place + 4]] if place >= 0 else None
