from __future__ import annotations

import hashlib
import io
import pickle
import pickletools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import Arrays, Tiny, arrays_of, layout_contents, python_2_batch
from resnetkit.data.layouts import ARRAY_GLOBALS, pickled_array, read_arrays
from resnetkit.data.sources import CIFAR10, ArrayDataset
from resnetkit.errors import DamagedFile
from resnetkit.safe_pickle import read_pickle

LAYOUTS = ("python", "binary", "png")


def assert_same(arrays: Arrays, expected: Arrays) -> None:
    assert arrays.keys() == expected.keys()
    for array, values in arrays.items():
        assert values.dtype == np.uint8 and values.flags.c_contiguous
        np.testing.assert_array_equal(values, expected[array], strict=True)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_layouts_give_the_same_arrays(tiny_archive: Tiny, layout: str) -> None:
    contents = layout_contents(layout, tiny_archive.spec, tiny_archive.arrays)
    assert_same(read_arrays(tiny_archive.spec, contents.items(), "here"), tiny_archive.arrays)
    backwards = list(contents.items())[::-1]  # the order in an archive does not matter
    assert_same(read_arrays(tiny_archive.spec, backwards, "here"), tiny_archive.arrays)


def test_the_written_python_2_batch_is_a_sound_pickle_of_protocol_2() -> None:
    images, labels = np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), np.array([7, 1], np.uint8)
    listing = io.StringIO()
    pickletools.dis(python_2_batch(images, labels), listing)  # checks marks, memo and stack
    assert "highest protocol among opcodes = 2" in listing.getvalue()
    assert listing.getvalue().count("SHORT_BINSTRING 'picture_") == 2


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_every_protocol_and_order(protocol: int, order: str) -> None:
    values = np.random.default_rng(1).integers(0, 256, (5, 12), np.uint8)
    data = pickle.dumps(np.array(values, order="F" if order == "F" else "C"), protocol)
    np.testing.assert_array_equal(pickled_array(read_pickle(data, ARRAY_GLOBALS)), values)
    older = data.replace(b"numpy._core", b"numpy.core")  # as NumPy 1 names it
    if protocol < 4:  # later protocols count the letters
        np.testing.assert_array_equal(pickled_array(read_pickle(older, ARRAY_GLOBALS)), values)


@pytest.mark.parametrize("value", [np.zeros(3), np.zeros(3, object), np.uint8(3), [1, 2], None, np.dtype("u1")])
def test_other_values_are_not_arrays_of_bytes(value: object) -> None:
    allowed = ARRAY_GLOBALS | {"numpy._core.multiarray.scalar"}
    with pytest.raises(DamagedFile, match="not a pickled array"):
        pickled_array(read_pickle(pickle.dumps(value, 2), allowed))


BROKEN: dict[str, tuple[str, str, Callable[[bytes], bytes], str]] = {
    "pickle, cut": ("python", "data_batch_2", lambda content: content[:-20], "damaged"),
    "pickle of a list": ("python", "data_batch_2", lambda content: b"].", "expected: dict"),
    "pickle without labels": (
        "python",
        "data_batch_2",
        lambda content: content.replace(b"U\x06labels", b"U\x06lapels"),
        "a list of 2",
    ),
    "pickle of other labels": (
        "python",
        "data_batch_2",
        lambda content: content.replace(b"]q\x06(", b"]q\x06(K\x01"),
        "got: 3",
    ),
    "pickle with an attack": (
        "python",
        "data_batch_2",
        lambda content: b"cos\nsystem\nU\x04true\x85R" + content,
        "os.system",
    ),
    "pickle of another shape": (
        "python",
        "data_batch_2",
        lambda content: content.replace(b"J\x02\0\0\0J\x30\0\0\0", b"J\x30\0\0\0J\x02\0\0\0"),
        r"got: uint8 \[48, 2\]",
    ),
    "pickle of a wrong shape": (
        "python",
        "data_batch_2",
        lambda content: content.replace(b"J\x02\0\0\0J\x30\0\0\0", b"J\x03\0\0\0J\x30\0\0\0"),
        "96 bytes",
    ),
    "binary, short": ("binary", "test_batch.bin", lambda content: content[:-1], "got: 293 bytes"),
    "png, cut": ("png", "data_batch_3.png", lambda content: content[:80], "not a sound PNG"),
    "png, noise": ("png", "data_batch_3.png", lambda content: b"GIF89a", "not a sound PNG"),
    "json, cut": ("png", "test_lables.json", lambda content: content[:-1], "not a JSON list"),
    "json, deep": ("png", "test_lables.json", lambda content: b"[" * 100_000, "not a JSON list"),
    "json, true": ("png", "test_lables.json", lambda content: b"[1, 1, 1, 1, 1, true]", "whole numbers"),
    "json, negative": ("png", "test_lables.json", lambda content: b"[1, 1, 1, 1, 1, -1]", "whole numbers"),
    "json, short": ("png", "test_lables.json", lambda content: b"[1, 1]", "got: 2 of them"),
}


@pytest.mark.parametrize(("layout", "name", "change", "why"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_named(
    tiny_archive: Tiny, layout: str, name: str, change: Callable[[bytes], bytes], why: str
) -> None:
    contents = layout_contents(layout, tiny_archive.spec, tiny_archive.arrays)
    assert change(contents[name]) != contents[name]
    contents[name] = change(contents[name])
    with pytest.raises(DamagedFile, match=why) as caught:
        read_arrays(tiny_archive.spec, contents.items(), "the archive")
    assert f"{name} in the archive" in caught.value.what


def test_missing_files_are_listed(tiny_archive: Tiny) -> None:
    contents = layout_contents("python", tiny_archive.spec, tiny_archive.arrays)
    del contents["data_batch_4"]
    with pytest.raises(DamagedFile, match="does not hold tiny completely") as caught:
        read_arrays(tiny_archive.spec, contents.items(), "it")
    assert caught.value.details[0] == "got: data_batch_1, data_batch_2, data_batch_3, data_batch_5, test_batch"
    with pytest.raises(DamagedFile, match="none of its files"):
        read_arrays(tiny_archive.spec, [], "it")


@given(
    layout=st.sampled_from(LAYOUTS),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=4),
    data=st.data(),
)
def test_changed_bytes_never_raise_anything_else(
    tiny_archive: Tiny, layout: str, changes: list[tuple[int, int]], data: st.DataObject
) -> None:
    contents = layout_contents(layout, tiny_archive.spec, tiny_archive.arrays)
    name = data.draw(st.sampled_from(sorted(contents)))
    changed = bytearray(contents[name])
    for position, byte in changes:
        changed[position % len(changed)] = byte
    contents[name] = bytes(changed)
    try:
        read_arrays(tiny_archive.spec, contents.items(), "it")
    except DamagedFile as error:
        assert str(error)


# SHA-256 of the files in the official binary archive, as independent projects publish them.
PUBLISHED = {
    "data_batch_1.bin": "cee916563c9f80d84e3cc88e17fdc0941787f1244f00a67874d45b261883ada5",
    "data_batch_2.bin": "a591ca11fa1708a91ee40f54b3da4784ccd871ecf2137de63f51ada8b3fa57ed",
    "data_batch_3.bin": "bbe8596564c0f86427f876058170b84dac6670ddf06d79402899d93ceea26f67",
    "data_batch_4.bin": "014e562d6e23c72197cc727519169a60359f5eccd8945ad5a09d710285ff4e48",
    "data_batch_5.bin": "755304fc0b379caeae8c14f0dac912fbc7d6cd469eb67a1029a08a39453a9add",
    "test_batch.bin": "8e2eb146ae340b09e24670f29cabc6326dba54da8789dab6768acf480273f65b",
}


def test_real_data_equals_the_official_binary_files(cifar10: ArrayDataset) -> None:
    contents = layout_contents("binary", CIFAR10, arrays_of(cifar10))
    assert {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()} == PUBLISHED
