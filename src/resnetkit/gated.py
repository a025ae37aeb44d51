"""From a model to files for other engines that are proven to answer like it: the way of `export` and of `bench`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from resnetkit.artefact import Artefact, Facts
from resnetkit.classifier import Classifier
from resnetkit.data.opening import (
    has_training_images,
    open_data,
    open_evaluation_data,
    open_unlabelled,
    refuse_unknown,
)
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.spec import DATASETS, Split
from resnetkit.engines import Engine
from resnetkit.errors import BadRequest, GateFailed
from resnetkit.export import Deployed, draft_of, write_facts
from resnetkit.fitting import fitting
from resnetkit.gate import Bounds, Figures, Remembering, measure
from resnetkit.load import LoadedModel
from resnetkit.progress import StepProgress
from resnetkit.quantize import Calibration, Int8, calibration_of, layers_that_hurt

REFUSED = "the exported model does not answer like the model; nothing was written"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Judge:
    """A model, and the images that others are compared with it on."""

    model: Engine
    split: Split | PhotoSplit
    place: str  # where the images are from
    labelled: bool = True

    def compare(self, engine: Engine, bounds: Bounds, has_map: bool = False) -> tuple[Figures, list[str]]:
        """Compare an engine with the model on every image; returns the figures, and what is out of bounds."""
        with StepProgress(f"gate {engine.name}", len(self.split)) as progress:
            return measure(engine, self.model, self.split, bounds, labelled=self.labelled, has_map=has_map,
                           on_batch=progress.count_images)  # fmt: skip


def data_of(classifier: Classifier, data: str | None) -> str:
    """Return the images to compare on: those that are named, or those that the weights were trained on."""
    place = data or (classifier.about["data"] or {}).get("name")
    if not place:
        says = f"{classifier.origin}: it does not say of which data"
        raise BadRequest("no images to compare the exported model on", says,
                         "next: --data DIR, or --no-gate to know nothing")  # fmt: skip
    refuse_unknown(str(place))
    return str(place)


def judge_of(classifier: Classifier, place: str) -> Judge:
    """Open the images of a place, for others to be compared with a model on them: by labels too, where it has any."""
    unlabelled = open_unlabelled(place)
    if unlabelled:
        return Judge(Remembering(classifier.engine), unlabelled, place, labelled=False)
    given = open_evaluation_data(place, (classifier.about["data"] or {}).get("sha256"))
    split, _ = fitting(classifier, given.split, given.class_names, place)
    return Judge(Remembering(classifier.engine), split, place)


def calibrated(loaded: LoadedModel, place: str, most: int, judge: Judge | None, say: Say) -> Calibration:
    """Return images to calibrate with: those to train with, where data has such apart from those to evaluate on."""
    refuse_unknown(place)
    split: Split | PhotoSplit
    if has_training_images(place):
        split = open_data(place).train
    else:
        split = open_unlabelled(place) or open_evaluation_data(place).split
        if judge and place == judge.place:
            say(f"note: {place} has no images apart: the gate looks at those that were calibrated on, too")
    found = calibration_of(split, loaded.preprocess, named(place), most)
    say(f"calibrated on {len(found.images)} images of {place}")
    return found


def named(place: str) -> str:
    """Return what a file for others says of where images are from: of a folder its name, not where it lies here."""
    return place if place in DATASETS else Path(place).name


def write_gated(
    loaded: LoadedModel, facts: Facts, draft: Path, judge: Judge | None, bounds: Bounds, int8: Int8 | None, say: Say
) -> Artefact:
    """Write a draft that passes its gate, of a quantised net with as few layers in float as it takes.

    Without a judge it is written unseen.  Raises GateFailed with the figures, and of a quantised net the layers that
    hurt.
    """
    ranking, count = list[tuple[int, str, float]](), 0
    while True:
        artefact = draft_of(loaded, facts, draft, int8)
        if judge is None:
            return artefact
        figures, problems = judge.compare(artefact.engine, bounds, facts.has_map)
        for line in figures.lines(judge.place):
            say(line)
        if not problems:
            passed = replace(artefact.facts, gate=figures.to_json() | {"data": named(judge.place)})
            write_facts(draft, passed)
            return replace(artefact, facts=passed)
        if int8 is None:
            raise GateFailed(REFUSED, *problems)
        if not ranking:
            module = Deployed(loaded.model, loaded.preprocess, has_map=False).eval()
            ranking = layers_that_hurt(module, int8.calibration.images)
        worst = ", ".join(f"{name.removeprefix('model.')} {change:.2g}" for _, name, change in ranking[:5])
        hurt = f"layers that hurt, by the change of the logits' squares: {worst}"
        count = max(1, 2 * count)
        if count > len(ranking) // 2:
            kept = f"{len(int8.in_float)} of {len(ranking)} layers were kept in float"
            raise GateFailed(REFUSED, *problems, kept, hurt)
        say(f"out of bounds: {'; '.join(problems)}\n{hurt}; {count} of them stay in float")
        int8 = replace(int8, in_float=tuple((number, name) for number, name, _ in ranking[:count]))
