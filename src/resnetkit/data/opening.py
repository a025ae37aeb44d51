"""Data by whatever it is called: a name that can be fetched, a folder of photos, or a list of them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from resnetkit.data.packs import is_packed, read_packed
from resnetkit.data.photos import PhotoDataset, PhotoSplit, is_image
from resnetkit.data.sources import load_dataset
from resnetkit.data.spec import DATASETS, OFFICIAL_SIZES, ArrayDataset, Split
from resnetkit.data.trees import read_all_photos, read_eval_photos, read_photos
from resnetkit.errors import BadRequest, did_you_mean


@dataclass(frozen=True)
class EvaluationData:
    """The images to evaluate on."""

    split: Split | PhotoSplit
    class_names: tuple[str, ...]
    sha256: str | None  # of the whole data set, where it has one
    notes: tuple[str, ...] = ()  # how it differs from what is official


def open_data(name: str, quarantine: str | None = None) -> ArrayDataset | PhotoDataset:
    """Return the data set of a name, fetched when absent, or that of a folder, list or pack (docs/data.md).

    Photos of a quarantine list are left out.  Raises BadRequest for a name that is neither, or that only a folder can
    be given for.
    """
    refuse_unknown(name)
    if name in DATASETS or is_packed(name):
        refuse_quarantine(name, quarantine)
        return load_dataset(name) if name in DATASETS else read_packed(name)
    return read_photos(Path(name), Path(quarantine) if quarantine else None)


def open_all_data(name: str) -> ArrayDataset | PhotoDataset:
    """Return the data set of a name, folder or list as it is, to look at: a split may be empty."""
    refuse_unknown(name)
    if is_packed(name):
        return read_packed(name)
    return load_dataset(name) if name in DATASETS else read_all_photos(Path(name))


def open_evaluation_data(name: str, trained_on: str | None = None, quarantine: str | None = None) -> EvaluationData:
    """Return the images to evaluate on: the test images of a data set, or the held-out photos of a folder or list.

    A folder of class folders alone, or a list without a column for the split, is evaluated on whole, but for what a
    model has seen of it: `trained_on` is the SHA-256 of the data that it was trained on.  Photos of a quarantine list
    are left out.
    """
    refuse_unknown(name)
    if is_packed(name):
        refuse_quarantine(name, quarantine)
        packed = read_packed(name)
        return EvaluationData(packed.test, packed.class_names, packed.sha256, packed.notes)
    if name in DATASETS:
        refuse_quarantine(name, quarantine)
        dataset = load_dataset(name)
        return EvaluationData(dataset.test, dataset.class_names, dataset.sha256)
    split, class_names, notes = read_eval_photos(Path(name), trained_on, Path(quarantine) if quarantine else None)
    return EvaluationData(split, class_names, None, notes)


def open_unlabelled(name: str) -> PhotoSplit | None:
    """Return the photos that lie in a folder itself, which have no classes; None for any other data."""
    folder = Path(name)
    if name in DATASETS or is_packed(name) or not folder.is_dir():
        return None
    files = sorted(file.name for file in folder.iterdir() if is_image(file, folder))
    if not files or any(inner.is_dir() and not inner.name.startswith(".") for inner in folder.iterdir()):
        return None
    return PhotoSplit(folder, np.array([os.fsencode(name) for name in files]), np.zeros(len(files), np.int64))


def has_training_images(name: str) -> bool:
    """Say whether data has images to train with apart from those to evaluate on."""
    return name in DATASETS or is_packed(name) or (Path(name) / "train").is_dir()


def refuse_quarantine(name: str, quarantine: str | None) -> None:
    """Refuse a quarantine list for data that is verified whole."""
    if quarantine:
        next_step = "next: give the list when it is packed" if is_packed(name) else f"{name} is verified whole"
        raise BadRequest(
            f"{name}: single photos cannot be left out", f"got the quarantine list {quarantine}", next_step
        )


def is_known(name: str) -> bool:
    """Say whether a name means data that is here, that can be fetched, or that is in a store."""
    return name in DATASETS or is_packed(name) or Path(name).is_dir() or Path(name).is_file()


def refuse_unknown(name: str) -> None:
    """Refuse what is neither a name nor a folder nor a file, and the names of data that is not fetched."""
    if is_known(name):
        return
    if name in OFFICIAL_SIZES:
        next_step = (
            "next: --data DIR, with DIR/train/CLASS/... and DIR/val/CLASS/..., or another layout of docs/data.md"
        )
        raise BadRequest(f"{name} cannot be fetched", next_step)
    near = did_you_mean(name, OFFICIAL_SIZES)
    known = ", ".join(OFFICIAL_SIZES)
    raise BadRequest(f"no data {name!r}{near}", f"expected a folder of photos, a list of them, or one of {known}")
