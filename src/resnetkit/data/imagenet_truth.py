"""The labels of ImageNet's validation images where these lie in one folder, from whichever official list is there.

ILSVRC2012_validation_ground_truth.txt      of the devkit: a number a line, in the order of the images
imagenet_2012_validation_synset_labels.txt  a synset a line, in the same order
LOC_val_solution.csv                        of Kaggle: the image's name, and synset and boxes
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from resnetkit.data import imagenet
from resnetkit.data.lists import read_text
from resnetkit.data.parts import Part, arrays_of, images_below
from resnetkit.data.photos import some_of
from resnetkit.errors import BadRequest

NUMBERS, SYNSETS = "ILSVRC2012_validation_ground_truth.txt", "imagenet_2012_validation_synset_labels.txt"
KAGGLE = "LOC_val_solution.csv"
PLACES = ("", "meta", "data", "devkit/data", "ILSVRC2012_devkit_t12/data", "val")  # below the data set's folder
EXPECTED = (
    f"expected beside it {NUMBERS} (or the devkit's folder), {SYNSETS}, {KAGGLE}, or val.txt with PATH LABEL a line"
)


def truth_file(root: Path) -> Path | None:
    """Return the list of labels of a tree, if it has one of the three."""
    places = (root / place / name for name in (NUMBERS, SYNSETS, KAGGLE) for place in PLACES)
    return next((file for file in places if file.is_file()), None)


def flat_part(folder: Path, truth: Path) -> Part:
    """Label the images of a folder by an official list."""
    found = sorted(images_below(folder, ""))
    synset_of = read_truth(truth)
    names = [path.decode("utf-8", "replace") for path, _ in found]
    places = {synset: place for place, synset in enumerate(imagenet.synsets())}
    labels = [places.get(synset_of.get(Path(name).stem, ""), -1) for name in names]
    unknown = [name for name, label in zip(names, labels, strict=True) if label < 0]
    problem = f"{truth}: no label for {len(unknown):,} images of {folder}: {some_of(unknown)}"
    problems = (problem,) if unknown else ()
    return Part(truth, folder, *arrays_of(found), np.array(labels, np.int64), imagenet.synsets(), problems)


def read_truth(truth: Path) -> dict[str, str]:
    """Return the synset of each image's name, without its ending."""
    text = read_text(truth)
    if truth.name == KAGGLE:
        rows = list(csv.reader(text.splitlines()))[1:]
        return {row[0]: row[1].split()[0] for row in rows if len(row) > 1 and row[1].strip()}
    lines = text.split()
    return {f"ILSVRC2012_val_{number:08d}": synset for number, synset in enumerate(synsets_of(lines, truth), 1)}


def synsets_of(lines: Sequence[str], truth: Path) -> list[str]:
    """Return the synset that each line means."""
    if truth.name == SYNSETS:
        known = set(imagenet.synsets())
        synsets = [line if line in known else "" for line in lines]
    else:
        numbers = imagenet.synset_numbers()
        synsets = [numbers.get(int(line), "") if line.isdecimal() and len(line) < 5 else "" for line in lines]
    wrong = [f"line {number}" for number, synset in enumerate(synsets, 1) if not synset]
    if wrong:
        raise BadRequest(f"{truth}: {some_of(wrong)}", "expected a number from 1 to 1000, or a synset of ImageNet")
    return synsets
