"""The command `explain`: where a model looks for a class, drawn over each image."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnetkit.artefact import is_artefact
from resnetkit.classifier import Classifier, Said, open_classifier
from resnetkit.confidence import softmax
from resnetkit.contact_sheet import sheets
from resnetkit.engines import CLASS_MAPS
from resnetkit.errors import BadImage, BadRequest, did_you_mean
from resnetkit.heat import Heat, overlay
from resnetkit.home import sync_folder
from resnetkit.predict import STDIN, find_images, read_pixels
from resnetkit.printing import ERR, print_origin

Found = tuple[NDArray[np.float32], int, Heat]  # probabilities, the class that is explained, heat
Explain = Callable[[NDArray[np.uint8]], Found]  # of one image [1, side, side, 3]


def explain(
    model: str,
    images: list[str],
    said: Said,
    out: str,
    stage: int | None,
    class_name: str | None,
    as_json: bool,
) -> int:
    """Write an overlay of each image and contact sheets; exit code 1 when an image could not be read."""
    target = Path(out)
    if os.path.lexists(target):
        raise BadRequest(f"{target} exists already", "next: --out another folder, or remove it")
    if not target.absolute().parent.is_dir():
        raise BadRequest(f"no such folder: {target.parent}")
    files = find_images(images)
    classifier, explaining = explained_by(model, said, stage, class_name)
    if classifier.channels != 3:
        raise BadRequest(f"images have 3 channels, the model takes {classifier.channels}", classifier.origin)
    print_origin(classifier, ERR)
    unreadable, pictures, captions = 0, [], []
    with drafted_folder(target) as folder:
        for number, file in enumerate(files, 1):
            try:
                pixels = read_pixels(file, classifier.engine.preprocess)
            except BadImage as error:
                unreadable += 1
                print(f"error: {error}", file=sys.stderr)
                continue
            probs, index, heat = explaining(np.stack([pixels]))
            picture = overlay(pixels, heat)
            name = f"{number:04d}-{plain_name(file)}.png"
            picture.save(folder / name)
            pictures.append(picture)
            captions.append(f"{Path(file).name}\n{classifier.class_names[index]} {100 * probs[index]:.1f} %")
            tell(file, target / name, classifier, probs, index, as_json)
        for number, sheet in enumerate(sheets(pictures, captions), 1):
            sheet.save(folder / f"sheet-{number:02d}.png")
        if not pictures:
            raise BadImage("none of the images could be read; nothing was written")
    if not as_json:
        print(f"{len(pictures)} overlays and their contact sheet in {target}")
    if unreadable:
        print(f"{unreadable} of {len(files)} files could not be read", file=sys.stderr)
    return 1 if unreadable else 0


def tell(
    file: str, written: Path, classifier: Classifier, probs: NDArray[np.float32], index: int, as_json: bool
) -> None:
    """Say what was explained."""
    name, prob = classifier.class_names[index], float(probs[index])
    if as_json:
        facts = {"file": file, "class": name, "index": index, "prob": prob, "overlay": str(written)}
        print(json.dumps(facts, ensure_ascii=False), flush=True)
    else:
        print(f"{file}  {name} {100 * prob:.1f} %  {written}", flush=True)


def explained_by(model: str, said: Said, stage: int | None, class_name: str | None) -> tuple[Classifier, Explain]:
    """Return a model, and what explains an image by it: its own maps if it is an exported one, else gradients."""
    if is_artefact(Path(model)):
        classifier = open_classifier(model, **said)
        if stage is not None:
            raise BadRequest(f"--stage: {model} is an exported model, which has its last map alone")
        if not classifier.engine.has_map:
            raise BadRequest(f"{model} has no map to explain with", "next: export it with --last-map")
        index = class_number(classifier, class_name)

        def by_maps(images: NDArray[np.uint8]) -> Found:
            probs = softmax(classifier.engine.logits(images), classifier.engine.temperature)[0]
            number = int(probs.argmax()) if index is None else index
            return probs, number, classifier.engine.output(CLASS_MAPS, images)[0, number]

        return classifier, by_maps
    from resnetkit.classifier import classifier_of
    from resnetkit.explain import grad_cam
    from resnetkit.load import load_model

    loaded = load_model(model, **said)
    classifier = classifier_of(loaded)
    index = class_number(classifier, class_name)
    if stage is not None and not 1 <= stage <= len(loaded.model.arch.depths):
        raise BadRequest(f"--stage: expected 1 to {len(loaded.model.arch.depths)}, got {stage}")

    def by_gradients(images: NDArray[np.uint8]) -> Found:
        (found,) = grad_cam(loaded.model, loaded.preprocess, images, [index], stage, loaded.temperature)
        return found.probs, found.index, found.heat

    return classifier, by_gradients


def class_number(classifier: Classifier, name: str | None) -> int | None:
    """Return the number of a class that is named, by its name or number; None for none."""
    if name is None:
        return None
    names = classifier.class_names
    if name in names:
        return names.index(name)
    if name.isdecimal() and int(name) < len(names):
        return int(name)
    raise BadRequest(f"--class: no class {name!r}{did_you_mean(name, names)}",
                     f"expected a name of its {len(names)} classes, or 0 to {len(names) - 1}")  # fmt: skip


def plain_name(file: str) -> str:
    """Return a file's name that any file system takes."""
    name = "stdin" if file == STDIN else Path(file).stem
    return re.sub(r"[^\w.-]", "_", name)[:80] or "image"


@contextmanager
def drafted_folder(target: Path) -> Iterator[Path]:
    """Give a folder to write in, that becomes the target when all is written."""
    draft = target.absolute().with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    draft.mkdir()
    try:
        yield draft
        draft.replace(target.absolute())
        sync_folder(target.absolute().parent)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
