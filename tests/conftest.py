"""Fixtures: the real CIFAR-10, and small generated data in every layout that CIFAR comes in."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

from resnetkit.data.sources import DATASETS, ArrayDataset, DatasetSpec, load_dataset
from resnetkit.data.spec import ARRAYS, dataset_sha256
from resnetkit.errors import SourceError

# No deadline: the machine may be busy. The same examples in every run.
settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("suite")

Arrays = dict[str, np.ndarray]


@pytest.fixture(scope="session")
def cifar10() -> ArrayDataset:
    """The real data set, from the ordinary cache; fetched once a machine."""
    try:
        return load_dataset("cifar10")
    except SourceError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Tiny:
    """Generated data with a spec of its own, and writers of the layouts."""

    spec: DatasetSpec
    arrays: Arrays

    @property
    def sha256(self) -> str:
        return dataset_sha256({array: hashlib.sha256(self.arrays[array].tobytes()).hexdigest() for array in ARRAYS})

    def write(self, kind: str, folder: Path) -> Path:
        """Write the data as `kind`, like "python tar.gz" or "png folder"; return the file or folder."""
        return write_layout(kind, self.spec, self.arrays, folder)


@pytest.fixture(scope="session")
def tiny_archive() -> Tiny:
    """Ten training images in five files, six test images, 4 x 4 pixels, three classes."""
    random = np.random.default_rng(0)
    arrays = {
        "train_images": random.integers(0, 256, (10, 4, 4, 3), np.uint8),
        "train_labels": random.integers(0, 3, 10).astype(np.uint8),
        "test_images": random.integers(0, 256, (6, 4, 4, 3), np.uint8),
        "test_labels": np.array([2, 0, 1, 0, 2, 2], np.uint8),
    }
    sha256 = {array: hashlib.sha256(arrays[array].tobytes()).hexdigest() for array in ARRAYS}
    nowhere = "http://127.0.0.1:9/nothing.tar.gz"  # the discard port: refused at once
    return Tiny(DatasetSpec("tiny", ("ant", "bee", "cow"), 4, 10, 6, 5, nowhere, "tiny-pixels@1.0.0", sha256), arrays)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_archive: Tiny) -> Path:
    """An empty home, the data set `tiny` known by name, and no npm."""
    monkeypatch.setitem(DATASETS, "tiny", tiny_archive.spec)
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", "/usr/bin/nowhere")
    return tmp_path / "home"


def arrays_of(dataset: ArrayDataset) -> Arrays:
    train, test = dataset.train, dataset.test
    return dict(zip(ARRAYS, (train.images, train.labels, test.images, test.labels), strict=True))


def assert_equal(dataset: ArrayDataset, tiny: Tiny) -> None:
    assert (dataset.name, dataset.class_names, dataset.sha256) == ("tiny", ("ant", "bee", "cow"), tiny.sha256)
    for array, values in arrays_of(dataset).items():
        np.testing.assert_array_equal(values, tiny.arrays[array])


def assert_whole(home: Path) -> None:
    """The home holds the four arrays and nothing else but the lock."""
    assert sorted(path.name for path in (home / "data").iterdir()) == [".tiny.lock", "tiny"]
    assert sorted(path.name for path in (home / "data/tiny").iterdir()) == sorted(f"{a}.npy" for a in ARRAYS)


def write_layout(kind: str, spec: DatasetSpec, arrays: Arrays, folder: Path) -> Path:
    layout, form = kind.split()
    files = {"readme.html": b"<html>"} | layout_contents(layout, spec, arrays)
    inside = {"python": "cifar-10-batches-py", "binary": "cifar-10-batches-bin", "png": "package"}[layout]
    if form == "folder":
        (folder / inside).mkdir(parents=True)
        for name, content in files.items():
            (folder / inside / name).write_bytes(content)
        return folder / inside
    folder.mkdir(parents=True, exist_ok=True)
    return write_tar(folder / f"{layout}.{form}", {f"{inside}/{name}": content for name, content in files.items()})


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    packed = path.suffix != ".tar"
    with tarfile.open(path, "w:gz", compresslevel=1) if packed else tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def layout_contents(layout: str, spec: DatasetSpec, arrays: Arrays) -> dict[str, bytes]:
    """Return the files of a layout; each batch is (images uint8 [n, side, side, 3], labels uint8 [n])."""
    images = np.split(arrays["train_images"], spec.train_files)
    labels = np.split(arrays["train_labels"], spec.train_files)
    batches = {f"data_batch_{n}": batch for n, batch in enumerate(zip(images, labels, strict=True), 1)}
    batches["test_batch"] = arrays["test_images"], arrays["test_labels"]
    if layout == "python":
        return {name: python_2_batch(*batch) for name, batch in batches.items()}
    if layout == "binary":
        return {f"{name}.bin": binary_batch(*batch) for name, batch in batches.items()}
    lists = {
        f"{split}_lables.json": json.dumps(arrays[f"{split}_labels"].tolist()).encode() for split in ("train", "test")
    }
    return {f"{name}.png": png_batch(batch[0]) for name, batch in batches.items()} | lists


def planes(images: np.ndarray) -> np.ndarray:
    return images.transpose(0, 3, 1, 2).reshape(len(images), -1)  # [n, s, s, 3] -> [n, 3*s*s]


def binary_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    return np.concatenate([labels[:, None], planes(images)], axis=1).tobytes()


def png_batch(images: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(images.reshape(len(images), -1, 3)).save(file, "PNG", compress_level=1)
    return file.getvalue()


def python_2_batch(images: np.ndarray, labels: np.ndarray) -> bytes:
    """Write a batch as Python 2 and its NumPy did: protocol 2, every string a byte string."""
    pixels = planes(images)
    dtype = b"cnumpy\ndtype\nq\x05U\x02u1K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    array = b"".join(
        (
            b"cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\nq\x03K\x00\x85U\x01bq\x04\x87R",
            b"(K\x01J%sJ%s\x86" % (struct.pack("<i", len(pixels)), struct.pack("<i", pixels.shape[1])),
            dtype + b"\x89T%s" % struct.pack("<i", pixels.size) + pixels.tobytes() + b"tb",
        )
    )
    numbers = b"".join(b"K%c" % label for label in labels.tolist())
    names = b"".join(b"U\x0epicture_%06d" % number for number in range(len(labels)))
    return b"".join(
        (
            b"\x80\x02}q\x01(U\x0bbatch_labelU\x15training batch 1 of 5U\x06labels]q\x06(" + numbers + b"e",
            b"U\x04data" + array + b"U\x09filenames]q\x07(" + names + b"eu.",
        )
    )
