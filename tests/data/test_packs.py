"""Packs: what comes out is what went in, from a disk, a store or foreign tars; a stopped packing goes on."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
import simplejpeg
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from resnetkit.data import packing, shards
from resnetkit.data.opening import is_known, open_data, open_evaluation_data
from resnetkit.data.packing import Packing, pack, smaller
from resnetkit.data.packs import PACK, is_packed, read_packed
from resnetkit.data.photos import PhotoDataset, PhotoSplit
from resnetkit.data.sampler import block_order
from resnetkit.data.shards import PackedSplit, Store
from resnetkit.data.trees import read_photos
from resnetkit.errors import BadImage, BadRequest, DamagedFile
from resnetkit.home import read_json

COUNTS = {"train/ant": 20, "train/bee": 14, "val/ant": 3, "val/bee": 2}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> PhotoDataset:
    root, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for place, count in COUNTS.items():
        (root / place).mkdir(parents=True)
        for number in range(count):
            height, width = rng.integers(20, 60, 2)
            small = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((width, height))
            ending = ("jpg", "png", "JPEG")[number % 3]
            small.save(root / place / f"photo {number}.{ending}")
    return read_photos(root)


def packed(photos: PhotoDataset, out: Path, how: Packing) -> PhotoDataset:
    found = pack(photos, out, how)
    assert found.photos == sum(COUNTS.values()) and found.again == 0
    return read_packed(str(out))


def by_path(split: object) -> dict[str, tuple[int, NDArray[np.uint8]]]:
    return {split.path(i): (int(split.labels[i]), split.read(i)) for i in range(len(split))}  # type: ignore[attr-defined, arg-type]


SMALL_SHARDS = Packing(shard_bytes=8_000)


def test_originals_come_back_byte_for_byte(photos: PhotoDataset, tmp_path: Path) -> None:
    data = packed(photos, tmp_path / "pack", SMALL_SHARDS)
    assert len(list((tmp_path / "pack").glob("train-*.tar"))) > 2
    assert data.class_names == photos.class_names and is_packed(str(tmp_path / "pack"))
    for ours, theirs in ((data.train, photos.train), (data.test, photos.test)):
        assert sorted(map(ours.path, range(len(ours)))) == sorted(map(theirs.path, range(len(theirs))))
        wanted = {theirs.path(i): (int(theirs.labels[i]), theirs.data(i)) for i in range(len(theirs))}
        for i in range(len(ours)):
            assert (int(ours.labels[i]), bytes(ours.data(i))) == wanted[ours.path(i)]
    assert [data.test.path(i) for i in range(5)] == [photos.test.path(i) for i in range(5)]  # in their order
    assert len({int(label) for label in data.train.labels[:8]}) == 2  # neighbours are of different classes


def test_smaller_jpegs_and_pixels_are_what_they_say(photos: PhotoDataset, tmp_path: Path) -> None:
    originals = by_path(photos.train)
    raw = packed(photos, tmp_path / "raw", Packing("raw", side=24))
    for path, (label, pixels) in by_path(raw.train).items():
        np.testing.assert_array_equal(pixels, smaller(originals[path][1], 24))
        assert label == originals[path][0]
    jpeg = packed(photos, tmp_path / "jpeg", Packing("jpeg", side=24, quality=95))
    kept = 0
    for i in range(len(jpeg.train)):
        path, content = jpeg.train.path(i), bytes(jpeg.train.data(i))
        original = originals[path][1]
        if min(original.shape[:2]) <= 24 and path.lower().endswith(("jpg", "jpeg")):
            kept += content == next(photos.train.data(k) for k in range(34) if photos.train.path(k) == path)
        wanted = smaller(original, 24).astype(int)
        assert np.abs(jpeg.train.read(i).astype(int) - wanted).mean() < 12
        assert simplejpeg.decode_jpeg_header(content)[0] == wanted.shape[0]
    assert kept > 0


def test_webdataset_and_tar_tools_read_our_shards(photos: PhotoDataset, tmp_path: Path) -> None:
    data = packed(photos, tmp_path / "pack", SMALL_SHARDS)
    found = []
    for file in sorted((tmp_path / "pack").glob("train-*.tar")):
        with tarfile.open(file) as tar:
            names = tar.getnames()
            found += [int(tar.extractfile(name).read()) for name in names if name.endswith(".cls")]  # type: ignore[union-attr]
            assert [name.partition(".")[0] for name in names[::2]] == [name.partition(".")[0] for name in names[1::2]]
    assert found == data.train.labels.tolist()


def test_the_same_photos_make_the_same_pack(photos: PhotoDataset, tmp_path: Path) -> None:
    first, second = (packed(photos, tmp_path / name, SMALL_SHARDS) for name in ("a", "b"))
    assert first.sha256 == second.sha256 != photos.sha256
    for file in (tmp_path / "a").glob("*.tar"):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes()
    assert packed(photos, tmp_path / "c", Packing("raw", side=24)).sha256 != first.sha256


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_stopped_packing_goes_on(
    after: int, photos: PhotoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, written = packing.write_shard, 0

    def stopping(*arguments: object) -> object:
        nonlocal written
        if written == after:
            raise KeyboardInterrupt
        written += 1
        return whole(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(packing, "write_shard", stopping)
    with pytest.raises(KeyboardInterrupt):
        pack(photos, tmp_path / "pack", SMALL_SHARDS)
    monkeypatch.setattr(packing, "write_shard", whole)
    assert not (tmp_path / "pack").exists()
    with pytest.raises(BadRequest, match="another packing"):
        pack(photos, tmp_path / "pack", replace(SMALL_SHARDS, content="raw"))
    assert pack(photos, tmp_path / "pack", SMALL_SHARDS).again == after
    pack(photos, tmp_path / "other", SMALL_SHARDS)
    assert read_json(tmp_path / "pack" / PACK) == read_json(tmp_path / "other" / PACK)
    assert {path.suffix for path in (tmp_path / "pack").iterdir()} == {".tar", ".npz", ".json"}


def test_photos_that_cannot_be_read_are_all_named(tmp_path: Path, photos: PhotoDataset) -> None:
    for place in ("train/ant", "train/bee", "val/ant", "val/bee"):
        (tmp_path / "photos" / place).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (30, 30)).save(tmp_path / "photos" / place / f"{number}.png")
    for bad in ("train/ant/1.png", "val/bee/0.png"):
        (tmp_path / "photos" / bad).write_bytes(b"no image")
    with pytest.raises(BadRequest, match="2 photos cannot be read") as caught:
        pack(read_photos(tmp_path / "photos"), tmp_path / "pack")
    assert "train/ant/1.png" in str(caught.value) and "val/bee/0.png" in str(caught.value)
    assert not (tmp_path / "pack").exists()
    with pytest.raises(BadRequest, match="exists already"):
        pack(photos, tmp_path / "photos")


def test_damage_is_told(photos: PhotoDataset, tmp_path: Path) -> None:
    packed(photos, tmp_path / "pack", SMALL_SHARDS)
    folder = tmp_path / "pack"
    index = folder / "train-00000.npz"
    content = index.read_bytes()
    index.write_bytes(content[:-20] + b"x" * 20)
    with pytest.raises(DamagedFile, match=r"train-00000\.npz is damaged"):
        read_packed(str(folder))
    index.write_bytes(content)
    shard = folder / "train-00000.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    data = read_packed(str(folder))
    with pytest.raises(BadImage, match=r"train-00000\.tar: .*the shard ends before"):
        data.train.read(len(data.train.part(np.flatnonzero(first_shard(data.train)))) - 1)
    (folder / PACK).write_text("{}")
    with pytest.raises(DamagedFile, match="is damaged"):
        read_packed(str(folder))


def first_shard(split: PhotoSplit) -> NDArray[np.bool_]:
    assert isinstance(split, PackedSplit)
    return np.asarray(split.index.shards == 0)


def test_parts_of_a_pack_are_parts_of_its_photos(photos: PhotoDataset, tmp_path: Path) -> None:
    data = packed(photos, tmp_path / "pack", SMALL_SHARDS)
    chosen = np.array([9, 2, 30])
    part = data.train.part(chosen)
    for place, index in enumerate(chosen.tolist()):
        assert part.path(place) == data.train.path(index) and part.labels[place] == data.train.labels[index]
        np.testing.assert_array_equal(part.read(place), data.train.read(index))
    assert part.blocks() is None and data.train.part(np.array([2, 9, 30])).blocks() is not None
    again = reopened(data.train)
    np.testing.assert_array_equal(again.read(3), data.train.read(3))


def reopened(split: PhotoSplit) -> PackedSplit:
    assert isinstance(split, PackedSplit)
    return replace(split, store=Store(split.store.location))


def test_a_store_is_read_in_blocks_and_each_only_once(
    photos: PhotoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "BLOCK_BYTES", 4_000)
    packed(photos, tmp_path / "pack", SMALL_SHARDS)
    memory = fsspec.filesystem("memory")
    for file in (tmp_path / "pack").iterdir():
        memory.pipe_file(f"/bucket/pack/{file.name}", file.read_bytes())
    assert is_known("memory://bucket/pack")
    local, remote = read_packed(str(tmp_path / "pack")), open_data("memory://bucket/pack")
    assert isinstance(remote, PhotoDataset) and remote.sha256 == local.sha256
    asked: list[tuple[str, int, int]] = []
    fetch = Store.fetch

    def counted(self: Store, name: str, start: int, end: int) -> bytes:
        asked.append((name, start, end))
        return fetch(self, name, start, end)

    monkeypatch.setattr(Store, "fetch", counted)
    for index in range(len(local.train)):
        np.testing.assert_array_equal(remote.train.read(index), local.train.read(index))
    assert len(asked) == len(set(asked)) == len(remote.train.blocks()) < len(local.train)  # type: ignore[arg-type]
    found = open_evaluation_data("memory://bucket/pack")
    assert len(found.split) == 5 and found.sha256 == local.sha256


def test_a_store_that_fails_is_tried_again(
    photos: PhotoDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed(photos, tmp_path / "pack", SMALL_SHARDS)
    memory = fsspec.filesystem("memory")
    for file in (tmp_path / "pack").iterdir():
        memory.pipe_file(f"/bucket/flaky/{file.name}", file.read_bytes())
    data = read_packed("memory://bucket/flaky")
    fetch = Store.fetch

    def failing(self: Store, *arguments: object) -> bytes:
        raise OSError("connection reset")

    monkeypatch.setattr(Store, "fetch", failing)
    with pytest.raises(BadImage, match="connection reset"):
        data.train.read(0)
    monkeypatch.setattr(Store, "fetch", fetch)
    assert data.train.read(0).shape[2] == 3


def foreign(folder: Path, label_of: Callable[[int], tuple[str, bytes]], splits: tuple[str, ...]) -> list[bytes]:
    """Write tars as WebDataset's tools do: several members a key, other members between."""
    contents = []
    folder.mkdir()
    for split in splits:
        with tarfile.open(folder / f"{split}-0000.tar", "w") as tar:
            for number in range(6):
                file = io.BytesIO()
                Image.new("RGB", (40 + number, 30), (number * 40, 0, 0)).save(file, "JPEG")
                ending, label = label_of(number % 2)
                for name, content in ((f"a/{number:03d}.{ending}", label), (f"a/{number:03d}.jpg", file.getvalue()),
                                      (f"a/{number:03d}.txt", b"a caption")):  # fmt: skip
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
                contents.append(file.getvalue())
    return contents


@pytest.mark.parametrize("kind", ["cls", "json"])
def test_tars_of_webdataset_are_data(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    label = {"cls": lambda n: ("cls", str(n).encode()), "json": lambda n: ("json", json.dumps({"label": n}).encode())}
    contents = foreign(tmp_path / "tars", label[kind], ("train", "val"))
    for name in (str(tmp_path / "tars"), str(tmp_path / "tars" / "*.tar")):
        data = read_packed(name)
        assert (len(data.train), len(data.test), data.class_names) == (6, 6, ("class 0", "class 1"))
        assert [bytes(data.train.data(i)) for i in range(6)] == contents[:6]
        assert data.train.labels.tolist() == [0, 1] * 3 and data.layout == "tars of WebDataset"
    assert len(list((tmp_path / "home" / "indexes").iterdir())) == 2
    (tmp_path / "tars" / "classes.txt").write_text("ant\nbee\n")
    assert read_packed(str(tmp_path / "tars")).class_names == ("ant", "bee")
    (tmp_path / "tars" / "classes.txt").write_text("ant\n")
    with pytest.raises(BadRequest, match="label 1 for the 1 classes"):
        read_packed(str(tmp_path / "tars"))


def test_tars_without_labels_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    foreign(tmp_path / "tars", lambda number: ("cls", b"x"), ("train", "val"))
    with pytest.raises(BadRequest, match=r"a/000\.jpg has no label"):
        read_packed(str(tmp_path / "tars"))
    (tmp_path / "none").mkdir()
    with pytest.raises(BadRequest, match=r"no pack\.json and no tars"):
        read_packed(f"{tmp_path}/none/*.tar")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "train-0.tar").write_bytes(b"\x1f\x8b no tar" * 100)
    with pytest.raises(DamagedFile, match="not an uncompressed tar"):
        read_packed(str(tmp_path / "bad"))


@given(st.lists(st.integers(1, 9), min_size=1, max_size=30), st.integers(1, 5), st.integers(0, 9), st.integers(1, 4))
def test_an_order_by_blocks_shows_all_and_keeps_lanes_apart(
    sizes: list[int], lanes: int, seed: int, mixed: int
) -> None:
    count, starts = sum(sizes), np.cumsum([0, *sizes[:-1]])
    order = block_order(seed, 3, count, starts, lanes, mixed)
    assert sorted(order.tolist()) == list(range(count))
    np.testing.assert_array_equal(order, block_order(seed, 3, count, starts, lanes, mixed))
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    lanes_of = [set(block_of[order[lane::lanes]].tolist()) for lane in range(lanes)]
    shared = sum(map(len, lanes_of)) - len(sizes)
    assert shared <= lanes - 1  # a block is cut only where one lane ends and the next begins
    if count > 60 and lanes == 1:
        assert not np.array_equal(order, block_order(seed, 4, count, starts, lanes, mixed))
