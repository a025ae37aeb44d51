"""A claim beside what was found: what every kind of verification is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

from resnetkit.classifier import classifier_on
from resnetkit.data.opening import EvaluationData, open_evaluation_data
from resnetkit.data.sources import kept_folder
from resnetkit.data.spec import DATASETS
from resnetkit.engines import Engine
from resnetkit.errors import ResnetkitError
from resnetkit.evaluate import evaluate
from resnetkit.home import file_sha256
from resnetkit.load import LoadedModel
from resnetkit.shipped_weights import FOLDER
from resnetkit.statements import EXACT
from resnetkit.ways import WAYS

ROUNDED_TOLERANCE = 0.005  # of the images, where numbers are rounded to bytes or bfloat16
IMAGES_TOLERANCE = 0.0002  # of the images: another machine's kernels round otherwise; one image at least
LOSS_TOLERANCE = 1e-4  # of the loss
ECE_TOLERANCE = 0.001  # of confidences; images that change sides, or bins, come on top


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
        """Return the file of this SHA-256, of the weights at hand or of those that come with the package."""
        here = hashes_in(self.weights) if self.weights else {}
        return here.get(sha256) or hashes_in(FOLDER).get(sha256)


@cache
def hashes_in(folder: Path) -> dict[str, Path]:
    """Return the files of a folder by their SHA-256."""
    return {file_sha256(file): file for file in sorted(folder.iterdir()) if file.is_file()}


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
    yield from check_figures(subject, classifier.engine, len(loaded.class_names), data, claims, share)


def check_figures(
    subject: str,
    engine: Engine,
    num_classes: int,
    data: EvaluationData,
    claims: Mapping[str, Any],
    share: float = IMAGES_TOLERANCE,  # of the images, by which counts may differ
) -> Iterator[Check]:
    """Evaluate an engine, and compare each figure that is claimed."""
    if len(data.class_names) != num_classes:
        reason = f"the images have {len(data.class_names)} classes, the net {num_classes}"
        yield unchecked(subject, "accuracy", claims.get("top1"), reason)
        return
    outcome = evaluate(engine, data.split)
    images = max(share * outcome.images, 1) + EXACT
    ece = ECE_TOLERANCE + images / outcome.images
    found = {"images": outcome.images, "correct": outcome.correct, "top1": outcome.top1, "top5": outcome.top5,
             "loss": outcome.loss, "ece": outcome.ece, "ece_at_temperature_1": outcome.raw_ece}  # fmt: skip
    tolerances = {"correct": images, "top1": images / outcome.images, "top5": images / outcome.images,
                  "loss": LOSS_TOLERANCE * abs(outcome.loss) if isfinite(outcome.loss) else 0,
                  "ece": ece, "ece_at_temperature_1": ece}  # fmt: skip
    for what, value in found.items():
        if claims.get(what) is not None:
            yield replace(compared(subject, what, claims[what], value, tolerances.get(what, 0)), engine=engine.name)
