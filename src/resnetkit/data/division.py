"""Which photos are trained on, which decide, and which the figures are of: drawn once, written down, used again."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.lists import read_list
from resnetkit.data.transforms import random_stream
from resnetkit.home import atomic_write

FOLDS_STREAM, DIVISION = 5_000_000, 6_000_000  # random streams; those of training have other numbers
UNKNOWN = -1  # the place of a photo that is yet to be placed


def divide(
    labels: NDArray[np.int64],  # [N]
    groups: NDArray[np.int64],  # [N]; photos of one group go to one place
    shares: Sequence[float],  # of the places; they sum to 1
    seed: int,
    known: NDArray[np.int64] | None = None,  # [N]; places that stay, UNKNOWN of the others
) -> NDArray[np.int64]:
    """Return the place of each photo [N], so that each class is spread over the places by their shares.

    Groups are placed in random order, each where its class lacks most; a group of which a photo is placed already
    goes there too.  A class of one photo goes to the first place, of two to the first and the last.
    """
    places = np.full(len(labels), UNKNOWN, np.int64) if known is None else known.copy()
    classes = int(labels.max(initial=-1)) + 1
    wanted = np.bincount(labels, minlength=classes)[:, None] * np.asarray(shares)  # [classes, places]
    filled = np.zeros((classes, len(shares)), np.int64)
    placed = places != UNKNOWN
    np.add.at(filled, (labels[placed], places[placed]), 1)
    members: dict[int, list[int]] = {}
    for index in random_stream(seed, DIVISION).permutation(len(labels)).tolist():
        members.setdefault(int(groups[index]), []).append(index)
    for indices in members.values():
        left = [index for index in indices if places[index] == UNKNOWN]
        if not left:
            continue
        already = [int(places[index]) for index in indices if places[index] != UNKNOWN]
        label = int(labels[left[0]])
        place = already[0] if already else lacking(wanted[label], filled[label])
        places[left] = place
        filled[:, place] += np.bincount(labels[left], minlength=classes)
    return places


def lacking(wanted: NDArray[np.float64], filled: NDArray[np.int64]) -> int:
    """Return the place that a class lacks most photos in: the first until it has one, then by what is missing."""
    if not filled[0]:
        return 0
    if not filled[-1]:
        return len(filled) - 1  # the figures are of these: a class without any would count for nothing
    return int(np.argmax(wanted - filled))


def folds_of(labels: NDArray[np.int64], groups: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """Return the fold of each image [N]: classes spread evenly, a group in one fold.

    Groups are dealt out in random order, the class of a group being that of its first image; a large group counts
    with all its images.
    """
    result = np.zeros(len(labels), np.int64)
    order = random_stream(seed, FOLDS_STREAM).permutation(len(labels))
    members: dict[int, list[int]] = {}
    for index in order.tolist():
        members.setdefault(int(groups[index]), []).append(index)
    filled = np.zeros((int(labels.max(initial=0)) + 1, folds), np.int64)
    for indices in members.values():
        label = labels[indices[0]]
        # the fold with the fewest of this class; of equal ones that with the fewest images
        fold = min(range(folds), key=lambda place: (filled[label, place], filled[:, place].sum(), place))
        result[indices] = fold
        filled[:, fold] += np.bincount(labels[indices], minlength=len(filled))
    return result


def write_division(file: Path, names: Sequence[str], rows: Mapping[Path, tuple[str, int]]) -> None:
    """Write a list of photos by whole path, with their labels and places by name: a data set to train on."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("path", "label", "split"))
    for path, (label, place) in rows.items():
        writer.writerow((str(path), label, names[place]))
    with atomic_write(file) as opened:
        opened.write(text.getvalue().encode("utf-8", "surrogateescape"))


def read_division(file: Path, names: Sequence[str]) -> dict[str, int]:
    """Return the places of photos by whole path, as `write_division` wrote them; other splits are passed over."""
    places = {name: place for place, name in enumerate(names)}
    return {row.path: places[row.split] for row in read_list(file) if row.split in places}
