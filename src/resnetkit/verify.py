"""Recompute what is claimed: costs, accuracy, hashes of data and weights, and what a results file says of itself."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

from resnetkit import checkpoint
from resnetkit.artefact import is_artefact
from resnetkit.classifier import artefact_on, classifier_of_artefact, classifier_on
from resnetkit.data.opening import EvaluationData, open_evaluation_data
from resnetkit.data.sources import kept_folder
from resnetkit.data.spec import DATASETS
from resnetkit.engines import Engine
from resnetkit.errors import BadRequest, EngineRefused, ResnetkitError, did_you_mean
from resnetkit.evaluate import class_row, evaluate
from resnetkit.fitting import fitting
from resnetkit.home import file_sha256, read_json
from resnetkit.load import LoadedModel, load_model
from resnetkit.metrics import wilson_interval
from resnetkit.published import PUBLISHED, kept_file, of_page
from resnetkit.recipes import RECIPES
from resnetkit.statements import EXACT, STATEMENTS
from resnetkit.ways import WAYS
from resnetkit.zoo import MISPRINTED, PAPER_CIFAR_PARAMS, ZOO, ZooEntry

PRINTED_TOLERANCE = 0.0051  # of 10^6 parameters and 10^9 multiply-adds: the page rounds and cuts to two digits
ROUNDED_TOLERANCE = 0.005  # of the images, where numbers are rounded to bytes or bfloat16
IMAGES_TOLERANCE = 0.0002  # of the images: another machine's kernels round otherwise; one image at least
LOSS_TOLERANCE = 1e-4  # of the loss
NOT_REPEATED = {
    "--quarantine",
    "--plain",
    "--raw",
    "--stride-style",
    "--class-names",
}  # of `evaluate`, to be given by the user again


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
    engine: str = ""  # that answered, where images were evaluated


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
    device: str | None = "cpu"  # None: the GPU where there is one
    engine: str | None = None  # None: the model itself
    photos_only: bool = False  # data is in place of photos, but not of data that has a name here

    def open_data(
        self, name: str | None, trained_on: str | None = None, quarantine: str | None = None
    ) -> EvaluationData | str:
        """Return the test images of a claim's data, or why not; nothing is fetched."""
        place = name if self.photos_only and name in DATASETS else self.data or name
        if not place:
            return "it does not say of which data; next: --data DIR"
        if place in DATASETS and not kept_folder(place).is_dir():
            return f"{place} is not on this machine; next: resnetkit data {place}"
        try:
            return open_evaluation_data(place, trained_on, quarantine)
        except ResnetkitError as error:
            return "; ".join((error.what, *error.details))

    def find_weights(self, sha256: str) -> Path | None:
        """Return the file of this SHA-256."""
        return hashes_in(self.weights).get(sha256) if self.weights else None


@cache
def hashes_in(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their SHA-256."""
    return {file_sha256(file): file for file in sorted(folder.iterdir()) if file.is_file()}


def verify(name: str, machine: Machine) -> list[Check]:
    """Check a net of the zoo, a run directory, a weights file of ours, an exported model, or a results file.

    BadRequest for all else.
    """
    path = Path(name)
    run = path.parent if path.name == checkpoint.WEIGHTS else path
    if run.is_dir() and (run / checkpoint.RECIPE).is_file():
        if not (run / checkpoint.EVALUATION).is_file():
            raise BadRequest(f"{run} is not finished", f"next: resnetkit train --resume --out {run}")
        return whole(run.name, check_run(run, machine))
    if path.is_file() and path.suffix == ".json":
        return whole(path.name, check_result(path, machine))
    if is_artefact(path):
        return whole(path.name, check_artefact(path, machine))
    if path.is_file():
        return whole(path.name, check_file(path, machine))
    if name in ZOO:
        return whole(name, check_zoo(ZOO[name], machine))
    raise BadRequest(f"nothing to verify is named {name!r}{did_you_mean(name, ZOO)}",
                     "expected a net of the zoo, a run directory, a weights file, or a results file")  # fmt: skip


def verify_all(results: Path, machine: Machine) -> list[Check]:
    """Check every results file and every net of the zoo."""
    files = sorted(results.glob("*.json"))
    if not files:
        raise BadRequest(f"{results} has no results files", "next: --results DIR, or run it from the checkout")
    machine = replace(machine, photos_only=True)
    return [*(check for file in files for check in whole(file.name, check_result(file, machine))),
            *(check for entry in ZOO.values() for check in whole(entry.name, check_zoo(entry, machine)))]  # fmt: skip


def whole(subject: str, checks: Iterator[Check]) -> list[Check]:
    """Return the checks; what cannot be read to its end fails, and does not keep others from being checked."""
    found: list[Check] = []
    try:
        found.extend(checks)
    except EngineRefused:
        raise
    except (ResnetkitError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, OSError) as error:
        found.append(Check(subject, "content", "all that it should have", f"{error!r}", passed=False))
    return found


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
        loaded = load_model(entry.name, weights=None if entry.name in PUBLISHED else "openmmlab")
        data = machine.open_data(RECIPES[entry.name].data if entry.name in RECIPES else None)
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
        claimed = (metadata or {}).get("tensors_sha256")
        if claimed is None:
            yield unchecked(subject, "tensors sha256", None, "the file claims none")
        else:
            yield compared(subject, "tensors sha256", claimed, checkpoint.tensors_sha256(tensors))
    loaded = load_model(path)
    said = loaded.about["data"] or {}
    if not loaded.about["metrics"]:
        yield unchecked(subject, "accuracy", None, "the file claims no figures")
    for name, claims in loaded.about["metrics"].items():
        of_data = said.get("name") if name == f"{said.get('name')} test" else None
        data = machine.open_data(of_data, said.get("sha256"))
        if isinstance(data, str):
            yield unchecked(subject, f"accuracy on {name}", claims.get("top1"), data)
            continue
        yield from check_data(subject, said, data)
        yield from check_accuracy(subject, loaded, data, claims, machine)


def check_artefact(path: Path, machine: Machine) -> Iterator[Check]:
    """Check what an exported model says of its gate: that the figures follow from the counts, and are found again."""
    artefact = artefact_on(path, machine.engine)
    subject, gate = path.name, artefact.facts.gate
    if gate is None:
        yield unchecked(subject, "gate", None, "it was exported without one")
        return
    counts = {"agreement": "agree", "top1": "correct", "model_top1": "model_correct"}
    for what, count in counts.items():
        if gate.get(count) is not None:
            yield compared(subject, f"gate, {what}", gate[what], gate[count] / gate["images"], EXACT)
    data = machine.open_data(gate.get("data"))
    if isinstance(data, str) or gate.get("correct") is None:
        yield unchecked(subject, "accuracy", gate.get("top1"), data if isinstance(data, str) else "it claims none")
        return
    try:
        split, _ = fitting(classifier_of_artefact(artefact), data.split, data.class_names, str(gate["data"]))
    except BadRequest as error:
        yield unchecked(subject, "accuracy", gate["top1"], "; ".join((error.what, *error.details)))
        return
    claims = {name: gate[name] for name in ("images", "correct", "top1")}
    share = ROUNDED_TOLERANCE if WAYS[artefact.engine.name].is_rounded else IMAGES_TOLERANCE
    own = replace(data, split=split, class_names=artefact.facts.class_names)
    yield from check_figures(subject, artefact.engine, len(own.class_names), own, claims, share)


def check_data(subject: str, said: Mapping[str, Any], data: EvaluationData) -> Iterator[Check]:
    """Check the hash of the data, which of a folder's test images alone is not known."""
    if data.sha256 is None:
        yield unchecked(subject, "data sha256", said.get("sha256"), "a folder's hash is that of all its splits")
    elif said.get("sha256") is None:
        yield unchecked(subject, "data sha256", None, "none is claimed")
    else:
        yield compared(subject, "data sha256", said["sha256"], data.sha256)


def check_accuracy(
    subject: str, loaded: LoadedModel, data: EvaluationData, claims: Mapping[str, Any], machine: Machine
) -> Iterator[Check]:
    """Evaluate weights, and compare each figure that is claimed."""
    classifier = classifier_on(loaded, machine.device, machine.engine, subject)
    share = ROUNDED_TOLERANCE if WAYS[classifier.engine.name].is_rounded else IMAGES_TOLERANCE
    yield from check_figures(subject, classifier.engine, len(loaded.class_names), data, claims, share,
                             classifier.temperature)  # fmt: skip


def check_figures(
    subject: str,
    engine: Engine,
    num_classes: int,
    data: EvaluationData,
    claims: Mapping[str, Any],
    share: float = IMAGES_TOLERANCE,  # of the images, by which counts may differ
    temperature: float = 1.0,
) -> Iterator[Check]:
    """Evaluate an engine, and compare each figure that is claimed."""
    if len(data.class_names) != num_classes:
        reason = f"the images have {len(data.class_names)} classes, the net {num_classes}"
        yield unchecked(subject, "accuracy", claims.get("top1"), reason)
        return
    outcome = evaluate(engine, data.split, temperature=temperature)
    images = max(share * outcome.images, 1) + EXACT
    found = {"images": outcome.images, "correct": outcome.correct, "top1": outcome.top1, "top5": outcome.top5,
             "loss": outcome.loss, "temperature": outcome.temperature, "ece": outcome.ece}  # fmt: skip
    tolerances = {"correct": images, "top1": images / outcome.images, "top5": images / outcome.images,
                  "loss": LOSS_TOLERANCE * abs(outcome.loss) if isfinite(outcome.loss) else 0,
                  "temperature": EXACT, "ece": 2 * images / outcome.images}  # fmt: skip
    for what, value in found.items():
        if claims.get(what) is not None:
            yield replace(compared(subject, what, claims[what], value, tolerances.get(what, 0)), engine=engine.name)


def check_run(run: Path, machine: Machine) -> Iterator[Check]:
    """Check what a run says of its weights in evaluation.json, metrics.jsonl and the weights file."""
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
    data = machine.open_data(recipe.data, said["data"]["sha256"], recipe.quarantine)
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
    if "correct" in said or "confusion" in said:
        yield from check_consistency(subject, said)
        yield from check_again(subject, said, machine)
        return
    for key, holds in STATEMENTS.items():
        if key in said:
            yield compared(subject, key, True, holds(said))
    command = said.get("provenance", {}).get("command", "")
    yield unchecked(subject, "its figures", None, f"computed by its own command, in minutes or more: {command}")


def check_consistency(subject: str, said: Mapping[str, Any]) -> Iterator[Check]:
    """Check that an evaluation's figures follow from each other."""
    images, correct, cells = said["images"], said["correct"], counts_of(said["confusion"])
    yield compared(subject, "top1 = correct / images", said["top1"], correct / images, EXACT)
    yield compared(subject, "images of the confusion", images, sum(count for _, _, count in cells))
    right = sum(count for label, prediction, count in cells if label == prediction)
    yield compared(subject, "correct of the confusion", correct, right)
    hits = round(said["top5"] * images)
    yield compared(subject, "top5, of whole images", said["top5"], max(hits, correct) / images, EXACT)
    for name, number in (("top1", correct), ("top5", hits)):
        low, high = wilson_interval(number, images)
        yield compared(subject, f"{name}_interval, low", said[f"{name}_interval"][0], low, EXACT)
        yield compared(subject, f"{name}_interval, high", said[f"{name}_interval"][1], high, EXACT)
    yield compared(subject, "classes of the confusion", [], list(differing_classes(said["classes"], cells)))


def differing_classes(rows: Sequence[Mapping[str, Any]], cells: Sequence[tuple[int, int, int]]) -> Iterator[str]:
    """Yield the names of classes whose figures are not those of the confusion."""
    images, predicted, correct = Counter[int](), Counter[int](), Counter[int]()
    for label, prediction, count in cells:
        images[label] += count
        predicted[prediction] += count
        correct[label] += count * (label == prediction)
    for number, row in enumerate(rows):
        found = class_row(row["class"], images[number], correct[number], predicted[number])
        if not all(row[name] == value or near(row[name], value) for name, value in found.items()):
            yield row["class"]


def near(claimed: Any, found: Any) -> bool:
    """Say whether numbers, or lists of them, are equal but for rounding."""
    if isinstance(claimed, list | tuple) and isinstance(found, list | tuple):
        return len(claimed) == len(found) and all(map(near, claimed, found))
    numbers = all(isinstance(value, int | float) for value in (claimed, found))
    return numbers and abs(claimed - found) <= EXACT


def counts_of(confusion: Sequence[Sequence[int]]) -> list[tuple[int, int, int]]:
    """Return label, prediction and count of a confusion matrix, kept whole or by its cells."""
    if len(confusion) == len(confusion[0]) != 3:  # files of the first version
        return [(row, column, count) for row, counts in enumerate(confusion) for column, count in enumerate(counts)]
    return [(label, prediction, count) for label, prediction, count in confusion]


def check_again(subject: str, said: Mapping[str, Any], machine: Machine) -> Iterator[Check]:
    """Evaluate anew, where weights with the claimed hash and the data are here."""
    words = shlex.split(said["provenance"]["command"])
    path = machine.find_weights(said["weights_sha256"])
    reason = None
    if path is None:
        reason = "weights of this sha256 are not at hand; next: --weights DIR"
    elif said["data"]["name"] not in DATASETS or NOT_REPEATED & set(words):
        reason = f"next: its own command: {said['provenance']['command']}"
    data = machine.open_data(said["data"]["name"], said["data"]["sha256"]) if reason is None else reason
    if isinstance(data, str) or path is None:
        yield unchecked(subject, "accuracy", said["top1"], str(data))
        return
    loaded = load_model(path, mean=floats_after(words, "--mean"), std=floats_after(words, "--std"))
    yield from check_data(subject, said["data"], data)
    yield from check_accuracy(subject, loaded, data, said, machine)


def floats_after(words: Sequence[str], option: str) -> list[float] | None:
    """Return the three numbers that follow an option of a command."""
    place = words.index(option) if option in words else -1
    return [float(word) for word in words[place + 1 : place + 4]] if place >= 0 else None
