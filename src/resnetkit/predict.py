"""Predictions for image files: each is decoded, preprocessed as the weights say, and named."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnetkit.confidence import softmax
from resnetkit.data.decode import decode
from resnetkit.data.photos import ENDINGS, is_image
from resnetkit.data.resize import least_side, view, view_of
from resnetkit.data.transforms import Preprocess
from resnetkit.engines import Engine
from resnetkit.errors import BadImage, BadRequest

STDIN = "-"
BATCH_SIZE = 32


@dataclass(frozen=True)
class Prediction:
    """What the model says of one image: classes and their probabilities, the most likely first."""

    file: str
    classes: tuple[int, ...]
    probs: tuple[float, ...]


@dataclass(frozen=True)
class Unreadable:
    """A file that could not be read, and why."""

    file: str
    reason: str


def find_images(paths: Sequence[str]) -> list[str]:
    """Return the files to predict: those named, and every image below a folder, in the order of their names.

    Hidden files and what lies in hidden folders are passed over, unless named.

    `-` is an image on standard input.  Raises BadRequest with every path that does not exist.
    """
    missing = [path for path in paths if path != STDIN and not Path(path).exists()]
    if missing:
        raise BadRequest("no such file or folder", *missing)
    found: list[str] = []
    for path in paths:
        inside = sorted(Path(path).rglob("*")) if path != STDIN and Path(path).is_dir() else None
        if inside is None:
            found.append(path)
        else:
            found += [str(file) for file in inside if is_image(file, Path(path))]
    if not found:
        raise BadRequest("no images found", f"looked in {', '.join(paths)}", f"for {', '.join(sorted(ENDINGS))}")
    return found


def read_pixels(file: str, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Read one image to uint8 [image_size, image_size, 3]; BadImage names the file."""
    try:
        data = sys.stdin.buffer.read() if file == STDIN else Path(file).read_bytes()
    except OSError as error:
        raise BadImage(f"{file}: {error.strerror}") from error
    return shown(data, file, preprocess)


def shown(data: bytes, name: str, preprocess: Preprocess) -> NDArray[np.uint8]:
    """Return what a model is shown of an image file's bytes: uint8 [image_size, image_size, 3]; BadImage names it.

    A camera's many pixels are not all decoded (docs/images.md); all other images are as in evaluation in every byte.
    """
    return view(decode(data, name, least_side(preprocess)), **view_of(preprocess))


def predict(engine: Engine, files: Iterable[str], *, top_k: int = 5) -> Iterator[Prediction | Unreadable]:
    """Yield the outcome for each file, in order; one that cannot be read does not stop the rest."""
    waiting: list[tuple[str, NDArray[np.uint8] | str]] = []
    for file in files:
        try:
            waiting.append((file, read_pixels(file, engine.preprocess)))
        except BadImage as error:
            waiting.append((file, "; ".join((error.what.removeprefix(f"{file}: "), *error.details))))
        if len(waiting) == BATCH_SIZE:
            yield from predict_batch(engine, waiting, top_k)
            waiting = []
    if waiting:
        yield from predict_batch(engine, waiting, top_k)


def predict_batch(
    engine: Engine, waiting: list[tuple[str, NDArray[np.uint8] | str]], top_k: int
) -> list[Prediction | Unreadable]:
    """Predict the readable ones of a batch of files in one forward pass."""
    pixels = [item for _, item in waiting if not isinstance(item, str)]
    rows: Iterator[Prediction | Unreadable] = iter(())
    if pixels:
        logits = engine.logits(np.stack(pixels))
        probs = softmax(logits, engine.temperature)
        classes = np.argsort(-logits, axis=1, kind="stable")[:, :top_k]  # of equal ones the first
        readable = [file for file, item in waiting if not isinstance(item, str)]
        columns = zip(readable, classes.tolist(), np.take_along_axis(probs, classes, 1).tolist(), strict=True)
        rows = (Prediction(file, tuple(best), tuple(chances)) for file, best, chances in columns)
    return [Unreadable(file, item) if isinstance(item, str) else next(rows) for file, item in waiting]
