"""Data by whatever it is called: a name that can be fetched, or a folder of photos."""

from __future__ import annotations

from pathlib import Path

from resnetkit.data.folder import PhotoDataset, PhotoSplit, read_eval_photos, read_photos
from resnetkit.data.sources import load_dataset
from resnetkit.data.spec import DATASETS, OFFICIAL_SIZES, ArrayDataset, Split
from resnetkit.errors import BadRequest, did_you_mean


def open_data(name: str) -> ArrayDataset | PhotoDataset:
    """Return the data set of a name, fetched when absent, or of a folder with train and val below it.

    Raises BadRequest for a name that is neither, or that only a folder can be given for.
    """
    refuse_unknown(name)
    return load_dataset(name) if name in DATASETS else read_photos(Path(name))


def open_evaluation_data(name: str) -> tuple[Split | PhotoSplit, tuple[str, ...], str | None]:
    """Return the images to evaluate on, their class names, and the SHA-256 of the whole data set where it has one.

    A folder may hold val (or test) with a folder for each class, or be such a folder itself.
    """
    refuse_unknown(name)
    if name in DATASETS:
        dataset = load_dataset(name)
        return dataset.test, dataset.class_names, dataset.sha256
    split, class_names = read_eval_photos(Path(name))
    return split, class_names, None


def refuse_unknown(name: str) -> None:
    """Refuse what is neither a name nor a folder, and the names of data that is not fetched."""
    if name in DATASETS or Path(name).is_dir():
        return
    if name in OFFICIAL_SIZES:
        raise BadRequest(
            f"{name} cannot be fetched", "next: --data DIR, with DIR/train/CLASS/... and DIR/val/CLASS/..."
        )
    near = did_you_mean(name, OFFICIAL_SIZES)
    raise BadRequest(f"no data {name!r}{near}", f"expected a folder of photos or one of {', '.join(OFFICIAL_SIZES)}")
