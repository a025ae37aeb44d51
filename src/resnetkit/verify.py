"""Recompute what is claimed: costs, accuracy, hashes of data and weights, and what a results file says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from resnetkit import checkpoint
from resnetkit.artefact import is_artefact
from resnetkit.checks import (
    IMAGES_TOLERANCE,
    ROUNDED_TOLERANCE,
    Check,
    Machine,
    check_accuracy,
    check_data,
    check_figures,
    compared,
    unchecked,
)
from resnetkit.classifier import artefact_on, classifier_of_artefact
from resnetkit.data.opening import EvaluationData
from resnetkit.errors import BadRequest, EngineRefused, ResnetkitError, did_you_mean
from resnetkit.fitting import fitting
from resnetkit.home import file_sha256, read_json
from resnetkit.load import load_model
from resnetkit.published import PUBLISHED, kept_file, of_page
from resnetkit.recipes import RECIPES
from resnetkit.shipped_weights import SHIPPED
from resnetkit.statements import EXACT
from resnetkit.verify_results import check_consistency, check_result
from resnetkit.ways import WAYS
from resnetkit.zoo import MISPRINTED, PAPER_CIFAR_PARAMS, ZOO, ZooEntry

PRINTED_TOLERANCE = 0.0051  # of 10^6 parameters and 10^9 multiply-adds: the page rounds and cuts to two digits


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
    if entry.name in SHIPPED:
        yield from check_file(SHIPPED[entry.name], machine)
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
