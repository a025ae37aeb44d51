"""The command `bench`: every way of running a model, timed and judged; the fastest is remembered."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.artefact import is_artefact, open_artefact
from resnetkit.bench import (
    Candidate,
    Measured,
    exported_candidates,
    judged,
    own_candidates,
    running,
    size_of,
    time_candidates,
)
from resnetkit.bench_worker import Side
from resnetkit.classifier import Said, classifier_of, classifier_of_artefact, refuse_said
from resnetkit.data.spec import DATASETS
from resnetkit.engine_store import key_of, know_file, remember, renewed
from resnetkit.errors import BadRequest
from resnetkit.export import files_of
from resnetkit.gate import Bounds
from resnetkit.gated import Judge, calibrated, data_of, judge_of
from resnetkit.load import LoadedModel, drawn_model, find_model, load_model
from resnetkit.models import ResNet, find_architecture
from resnetkit.models.counting import count
from resnetkit.models.resnet import Architecture
from resnetkit.printing import ERR, print_bench
from resnetkit.provenance import provenance
from resnetkit.quantize import Calibration
from resnetkit.ways import ways_of_file
from resnetkit.zoo import ZOO

GENERATED = 8  # images to quantise by where nobody looks at the answers


def bench(
    model: str,
    said: Said,
    data: str | None,
    min_agreement: float,
    max_drop: float,
    calibration: str | None,
    images: int,
    no_gate: bool,
    as_json: bool,
) -> int:
    """Time every way of running a model on this machine's CPU, and remember the fastest that passes the gate."""
    if no_gate and data:
        raise BadRequest("--no-gate: no images are looked at", f"got --data {data}")
    bounds = Bounds(min_agreement / 100, max_drop / 100)
    if is_artefact(Path(model)):
        refuse_said(model, said)
        if calibration:
            raise BadRequest(f"{model} is an exported model", "--calibration: it is quantised or float for good")
        outcome = bench_artefact(Path(model), data, bounds, no_gate)
    else:
        outcome = bench_weights(model, said, data, bounds, calibration, images, no_gate)
    if as_json:
        print(json.dumps(outcome.to_json() | {"provenance": provenance()}, indent=1))
    else:
        print_bench(outcome.origin, outcome.notes, outcome.measured)
    return 0


@dataclass(frozen=True)
class Outcome:
    """What is told of a run."""

    origin: str
    notes: tuple[str, ...]
    measured: Measured

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return {"model": self.origin, "notes": self.notes} | self.measured.to_json()


def bench_weights(
    model: str, said: Said, data: str | None, bounds: Bounds, calibration: str | None, images: int, no_gate: bool
) -> Outcome:
    """Export weights in every form, and time each way of running them."""
    drawn = no_gate and model in ZOO and not Path(model).exists()
    loaded = drawn_model(model) if drawn else load_model(model, **said)
    if loaded.model.arch.in_channels != 3:
        raise BadRequest(f"images have 3 channels, the model takes {loaded.model.arch.in_channels}", loaded.origin)
    classifier = classifier_of(loaded)
    judge = None if no_gate else judge_of(classifier, data_of(classifier, data))
    shown = calibration_for(loaded, judge, calibration, images)
    told = tuple((name, value) for name, value in said.items() if value)
    side = Side("torch", drawn=model) if drawn else Side("torch", weights=model, said=told)
    candidates = own_candidates(side, None if drawn else weights_bytes(model))
    with forms_folder(loaded, judge) as folder:
        candidates += exported_candidates(loaded, folder, judge, bounds, shown, ERR.print)
        measured = time_candidates(candidates, macs_of(loaded.model.arch, loaded.preprocess.image_size), ERR.print)
    if judge:
        know_file(model, said, loaded)
    notes = [f"judged on {judge.place}" if judge else "no gate, as asked: what is not torch was never compared with it"]
    notes += ["weights drawn at random: it is about speed alone"] if drawn else []
    return Outcome(loaded.origin, (*notes, remembering(key_of(loaded), measured, judge)), measured)


def bench_artefact(path: Path, data: str | None, bounds: Bounds, no_gate: bool) -> Outcome:
    """Time every way of running an exported model."""
    artefact = open_artefact(path)
    facts, classifier = artefact.facts, classifier_of_artefact(artefact)
    own, *others = ways_of_file(facts.format, facts.quantized is not None)
    size = size_of(files_of(path, facts.format))
    candidates = [Candidate(own.name, running(own, path), "the model itself", passed=True, file_bytes=size)]
    judge = judge_of(classifier, data_of(classifier, data)) if others and not no_gate else None
    candidates += [judged(way, path, judge, bounds) for way in others]
    try:
        arch = replace(find_architecture(facts.net), num_classes=len(facts.class_names))
        macs = macs_of(arch, facts.preprocess.image_size)
    except BadRequest:  # a net without a name
        macs = None
    measured = time_candidates(candidates, macs, ERR.print)
    if not others:
        notes: tuple[str, ...] = ("nothing else here runs it: there is nothing to choose",)
    else:
        notes = (*((f"judged on {judge.place}",) if judge else ()), remembering(artefact.sha256, measured, judge))
    return Outcome(artefact.origin(), notes, measured)


def calibration_for(loaded: LoadedModel, judge: Judge | None, place: str | None, most: int) -> Calibration | None:
    """Return the images to quantise by: those named, or a data set's training images, or where none counts any."""
    if place is None and judge and judge.place in DATASETS:
        place = judge.place
    if place:
        return calibrated(loaded, place, most, judge, ERR.print)
    if judge:
        return None
    side = loaded.preprocess.image_size
    return Calibration(np.random.default_rng(0).integers(0, 256, (GENERATED, side, side, 3), np.uint8), "generated")


@contextmanager
def forms_folder(loaded: LoadedModel, judge: Judge | None) -> Iterator[Path]:
    """Give the folder for a model's forms: they are kept only if they were judged."""
    if judge:
        with renewed(key_of(loaded)) as folder:
            yield folder
    else:
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)


def remembering(key: str, measured: Measured, judge: Judge | None) -> str:
    """Remember the fastest way, if it was judged; say what was done."""
    fastest = measured.fastest
    if judge is None or fastest is None:
        return "nothing is remembered: " + ("no gate" if judge is None else "no way passed")
    name = fastest.candidate.name
    remember(key, name, measured.to_json())
    return f"the fastest that passes: {name}; remembered for this machine, and what predict uses (--engine auto)"


def weights_bytes(model: str) -> int:
    """Return the size of a weights file, or of those in a folder."""
    _, path = find_model(model)
    return size_of([file for file in path.iterdir() if file.is_file()] if path.is_dir() else [path])


def macs_of(arch: Architecture, image_size: int) -> int:
    """Count the multiply-adds of an image."""
    return count(lambda: ResNet(arch), image_size).macs
