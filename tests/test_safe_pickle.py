from __future__ import annotations

import mmap
import os
import pickle
import struct
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from resnetkit.errors import DamagedFile
from resnetkit.safe_pickle import MAX_DEPTH, PERSISTENT_ID, Inert, checked_key, read_pickle, stand_ins

NOTHING: frozenset[str] = frozenset()
PROTOCOLS = range(pickle.HIGHEST_PROTOCOL + 1)
NUMPY_NAMES = frozenset(
    {"numpy._core.multiarray._reconstruct", "numpy.ndarray", "numpy.dtype", "_codecs.encode"}
    | {"numpy._core.numeric._frombuffer"}
)

SCALARS = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
KEYS = SCALARS | st.tuples(SCALARS, SCALARS)
PLAIN = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner) | st.lists(inner).map(tuple),
    max_leaves=15,
)


def restored(value: Any) -> Any:
    """Undo the one detour of plain data: protocols 0 to 2 write bytes as a call of _codecs.encode."""
    if isinstance(value, Inert):
        if value.name == "__builtin__.bytes":
            return b""
        assert value.name == "_codecs.encode" and value.args is not None
        return value.args[0].encode(value.args[1])
    if isinstance(value, dict):
        return {key: restored(each) for key, each in value.items()}
    return type(value)(map(restored, value)) if isinstance(value, list | tuple) else value


@pytest.mark.parametrize("protocol", [3, 4, 5])
@given(value=PLAIN)
def test_plain_data_comes_back_equal(protocol: int, value: Any) -> None:
    read = read_pickle(pickle.dumps(value, protocol), NOTHING)
    assert read == value and repr(read) == repr(value)  # repr tells 1 from True and 1.0


@pytest.mark.parametrize("protocol", [0, 1, 2])
@given(value=st.recursive(SCALARS, lambda x: st.lists(x) | st.dictionaries(st.text(), x), max_leaves=15))
def test_plain_data_of_old_protocols_comes_back_equal(protocol: int, value: Any) -> None:
    allowed = frozenset({"_codecs.encode", "__builtin__.bytes"})
    read = restored(read_pickle(pickle.dumps(value, protocol), allowed))
    assert read == value and repr(read) == repr(value)


def test_python_2_strings_are_bytes() -> None:
    assert read_pickle(b"\x80\x02}U\x04dataT\x03\x00\x00\x00\xff\x00as.", NOTHING) == {b"data": b"\xff\x00a"}
    assert read_pickle(b"(dp0\nS'labels'\np1\n(lp2\nI3\naI01\nas.", NOTHING) == {b"labels": [3, True]}


def test_python_2_strings_are_text_where_they_can_be() -> None:
    data = b"(U\x02\xc3\xa9T\x01\x00\x00\x00\xffS'a'\nt."
    assert read_pickle(data, NOTHING, old_strings_are_text=True) == ("\u00e9", b"\xff", "a")
    assert read_pickle(data, NOTHING) == (b"\xc3\xa9", b"\xff", b"a")


def test_pickles_one_after_another_in_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "two"
    path.write_bytes(pickle.dumps([1], 2) + pickle.dumps("b", 4) + b"raw" + b"\x80\x02X\xff\xff\xff\x7fx.")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        assert [read_pickle(mapped, NOTHING) for _ in range(2)] == [[1], "b"]
        assert mapped.read(3) == b"raw"
        with pytest.raises(DamagedFile, match="damaged"):  # a text of 2 GB in a file of a few bytes
            read_pickle(mapped, NOTHING)


def test_a_stand_in_that_is_its_own_state() -> None:
    data = b"ccollections\nOrderedDict\n)R\x94K\x01K\x02sh\x00b."
    read = read_pickle(data, frozenset({"collections.OrderedDict"}))
    assert (read.items, read.state) == ([(1, 2)], None)


def test_every_stand_in_is_found_once() -> None:
    shared = OrderedDict(a=1)
    value = [shared, {"x": (shared, [OrderedDict(b=OrderedDict())])}, np.float64]
    read = read_pickle(pickle.dumps(value, 2), frozenset({"collections.OrderedDict", "numpy.float64"}))
    assert sorted(each.name for each in stand_ins(read)) == [*["collections.OrderedDict"] * 3, "numpy.float64"]
    assert list(stand_ins({"a": [1, (2,)]})) == list(stand_ins(1)) == []


def test_keys() -> None:
    assert checked_key(("a", 1, None)) == ("a", 1, None)
    for wrong in ([1], (1, (2,)), Inert("a"), 1j):
        with pytest.raises(DamagedFile, match="key"):
            checked_key(wrong)


def test_a_long_list_of_names_is_only_counted() -> None:
    with pytest.raises(DamagedFile, match="one of 9 harmless names"):
        read_pickle(b"cos\nsystem\n.", frozenset("abcdefghi"))


def test_cifar_100_style_batch() -> None:
    batch = {"fine_labels": [19, 29], "coarse_labels": [11, 15], "data": np.arange(6, dtype=np.uint8)}
    for protocol in PROTOCOLS:
        read = read_pickle(pickle.dumps(batch, protocol), NUMPY_NAMES)
        assert read["fine_labels"] == [19, 29] and read["coarse_labels"] == [11, 15]
        assert isinstance(read["data"], Inert) and read["data"].name in NUMPY_NAMES


def test_calls_items_and_state_are_only_recorded() -> None:
    read = read_pickle(pickle.dumps(OrderedDict(a=1, b=[2]), 2), frozenset({"collections.OrderedDict"}))
    assert (read.name, read.args, read.items) == ("collections.OrderedDict", (), [("a", 1), ("b", [2])])
    read = read_pickle(pickle.dumps(Holder(), 2), frozenset({f"{__name__}.Holder"}))
    assert (read.name, read.args, read.state) == (f"{__name__}.Holder", (), {"answer": 42})


class Holder:
    def __init__(self) -> None:
        self.answer = 42


def test_persistent_ids_need_leave() -> None:
    data = b"\x80\x02(U\x07storageK\x07tQ."
    assert read_pickle(data, frozenset({PERSISTENT_ID})).args == ((b"storage", 7),)
    with pytest.raises(DamagedFile, match=PERSISTENT_ID):
        read_pickle(data, NOTHING)


class Attack:
    """Pickles to a call of `function`; loading it with the standard library would run it."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def attacks(target: Path) -> dict[str, tuple[Any, str]]:
    command = f"touch {target}"
    code = f"open({str(target)!r}, 'w')"
    return {
        "system": (Attack(os.system, command), f"{os.name}.system"),
        "eval": (Attack(eval, code), ".eval"),
        "exec": (Attack(exec, code), ".exec"),
        "import": (Attack(__import__, "antigravity"), ".__import__"),
        "nested": ({"data": [1, (2, Attack(os.system, command))]}, f"{os.name}.system"),
        "argument": (Attack(print, Attack(os.system, command)), ".print"),
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("kind", attacks(Path()))
def test_attacks_are_named_and_do_not_run(tmp_path: Path, kind: str, protocol: int) -> None:
    target = tmp_path / "ran"
    value, name = attacks(target)[kind]
    data = pickle.dumps(value, protocol)
    with pytest.raises(DamagedFile, match=name.replace(".", r"\.")) as caught:
        read_pickle(data, NUMPY_NAMES)
    assert "nothing was run" in str(caught.value)
    assert not target.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_attacks_do_not_run_even_when_the_name_is_allowed(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "ran"
    data = pickle.dumps(Attack(os.system, f"touch {target}"), protocol)
    read = read_pickle(data, frozenset({f"{os.name}.system"}))
    assert (read.name, read.args) == (f"{os.name}.system", (f"touch {target}",))
    assert not target.exists()
    os.system(*read.args)
    assert target.exists()  # so the recorded call would have been a real attack


def test_written_by_hand_attacks() -> None:
    for data, shown in {
        b"cos\nsystem\n(S'true'\ntR.": "os.system",
        b"(S'true'\nios\nsystem\n.": "os system",  # INST
        b"(cos\nsystem\nS'true'\no.": "os.system",  # OBJ
        b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R.": "os.system",
        b"\x80\x02\x82\x01.": "EXT1",
        b"\x80\x05\x97.": "NEXT_BUFFER",
    }.items():
        with pytest.raises(DamagedFile, match=shown):
            read_pickle(data, NOTHING)
    long_name = b"c" + b"m" * 5000 + b"\nx\x1b\n."
    with pytest.raises(DamagedFile) as caught:
        read_pickle(long_name, NOTHING)
    assert len(str(caught.value)) < 500 and "\x1b" not in str(caught.value)


def laughs(levels: int) -> bytes:
    """Lists of ten references to the list below: small in memory, 10**levels values when walked."""
    rows = [b"](" + b"h%c" % level * 10 + b"e\x94" for level in range(levels)]
    return b"\x80\x04]\x94" + b"".join(rows) + b"."


DAMAGED = {
    "empty": (b"", "pickle"),
    "no end": (b"\x80\x02K\x01", "exhausted"),
    "nothing on the stack": (b"\x80\x02.", "IndexError"),
    "cut": (pickle.dumps({"data": b"x" * 100, "labels": [1, 2]}, 3)[:60], "damaged"),
    "missing memo": (b"\x80\x02h\x07.", "memo"),
    "no mark": (b"K\x01t.", "IndexError"),
    "odd pairs": (b"}(K\x01u.", "ValueError"),
    "append to a number": (b"K\x01K\x02a.", "appends to int"),
    "items of a list": (b"]K\x01K\x02s.", "sets items of list"),
    "state of a list": (b"]}b.", "state"),
    "call of a text": (b"X\x02\x00\x00\x00os)R.", "calls"),
    "list as key": (b"}]K\x01s.", "scalar"),
    "own item": (b"]\x94h\x00a.", "contains itself"),
    "own value": (b"}\x94K\x01h\x00s.", "contains itself"),
    "own grandchild": (b"]\x94]h\x00aa.", "contains itself"),
    "deep lists": (b"]" * 100_000 + b"a" * 99_999 + b".", "deep"),
    "deep tuples": (b")" + b"\x85" * 100_000 + b".", "deep"),
    "deep keys": (b"})" + b"\x85" * 5 + b"K\x01s.", "scalar"),
    "laughs": (laughs(60), "share"),
    "unknown opcode": (b"\xfe.", "ValueError"),
    "long count": (b"\x8e" + struct.pack("<Q", 2**62) + b"x.", "ValueError"),
}


@pytest.mark.parametrize(("data", "why"), DAMAGED.values(), ids=DAMAGED)
def test_damaged_pickles(data: bytes, why: str) -> None:
    with pytest.raises(DamagedFile, match=why):
        read_pickle(data, NOTHING)


def test_depth_up_to_the_limit_is_read() -> None:
    assert read_pickle(b")" + b"\x85" * (MAX_DEPTH - 1) + b".", NOTHING)
    with pytest.raises(DamagedFile):
        read_pickle(b")" + b"\x85" * MAX_DEPTH + b".", NOTHING)


@given(st.sampled_from(PROTOCOLS), PLAIN, st.lists(st.tuples(st.integers(0), st.integers(0, 255)), max_size=6))
def test_changed_bytes_never_raise_anything_else(protocol: int, value: Any, changes: list[tuple[int, int]]) -> None:
    data = bytearray(pickle.dumps([value, np.arange(3), OrderedDict(a=value)], protocol))
    for position, byte in changes:
        data[position % len(data)] = byte
    try:
        repr(read_pickle(bytes(data), NUMPY_NAMES | {"collections.OrderedDict"}))
    except DamagedFile as error:
        assert str(error)


@given(st.binary(max_size=60))
def test_noise_never_raises_anything_else(noise: bytes) -> None:
    for data in (noise, noise + b".", b"\x80\x04" + noise + b"."):
        try:
            repr(read_pickle(data, NUMPY_NAMES))
        except DamagedFile as error:
            assert str(error)
