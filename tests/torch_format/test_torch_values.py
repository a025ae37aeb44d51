"""Plain values and stand-ins beside the tensors of a torch file."""

from __future__ import annotations

import argparse
import datetime
import io
import struct
import sys
import types
from collections import OrderedDict, defaultdict, deque
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch

from resnetkit.safe_pickle import Inert
from resnetkit.torch_format.read import HISTORY_BUFFER
from torch_files import (
    CONTAINERS,
    call,
    legacy_of,
    name,
    plain,
    read,
    refused,
    same,
    saved,
    storage,
    tensor,
    zip_of,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_plain_values_that_torch_refuses(protocol: int, path: Path) -> None:
    file = io.BytesIO()
    kinds = "?bhilqBHILQefd"
    content: dict[str, Any] = {
        "arrays": [np.arange(6).astype(kind).reshape(2, 3) for kind in kinds],
        "orders": [np.arange(3, dtype=">i4"), np.asfortranarray(np.arange(6.0).reshape(2, 3))],
        "scalars": [np.float64(0.1), np.int32(-3), np.bool_(True), np.float32("nan")],
        "queue": deque([1, [2]], maxlen=5),
        "default": defaultdict(list, a=[1]),
        "args": argparse.Namespace(lr=0.1, names=["a"]),
        "no args": argparse.Namespace(),
    }
    torch.save(content, file, pickle_protocol=protocol)
    ours = read(file.getvalue(), path)
    arrays = [*ours.content["arrays"], *ours.content["orders"]]
    for got, wanted in zip(arrays, [*content["arrays"], *content["orders"]], strict=True):
        assert type(got) is np.ndarray and got.flags.writeable and np.array_equal(got, wanted)
        assert got.dtype == wanted.dtype.newbyteorder("=")
    assert repr(ours.content["scalars"]) == "[0.1, -3, True, nan]"
    assert ours.content["queue"] == [1, [2]] and type(ours.content["default"]) is dict
    assert ours.content["default"] == {"a": [1]}
    assert ours.content["args"] == {"lr": 0.1, "names": ["a"]} and ours.content["no args"] == {}
    assert ours.ignored == ()


@pytest.mark.parametrize("zipped", CONTAINERS)
def test_what_is_no_plain_data_leaves_only_its_name(zipped: bool, path: Path) -> None:
    content = {"path": PurePosixPath("a/b"), "day": datetime.date(2020, 1, 2), "names": np.array(["a"]),
               "objects": np.array([None, {}], object), "text": np.str_("b"), "w": torch.ones(2)}  # fmt: skip
    ours = read(saved(content, zipped), path)
    assert {key: value.name for key, value in ours.content.items() if isinstance(value, Inert)} == {
        "path": "pathlib.PurePosixPath",
        "day": "datetime.date",
        "names": "numpy.ndarray",
        "objects": "numpy.ndarray",
        "text": "numpy._core.multiarray.scalar",
    }
    assert ours.ignored == ("datetime.date", "numpy._core.multiarray.scalar", "numpy.ndarray", "pathlib.PurePosixPath")
    assert all(value.args is value.state is None for value in ours.content.values() if isinstance(value, Inert))
    assert torch.equal(ours.content["w"], torch.ones(2))


class HistoryBuffer:
    """Stands for mmengine's: its state holds arrays and its own methods."""

    def __init__(self) -> None:
        self.log_history = np.array([0.5])
        self.methods = {"mean": HistoryBuffer.mean}

    def mean(self) -> None: ...


class ConfigDict(dict[str, Any]):
    """Stands for mmcv's: a dict that gives itself as its state."""

    def __getnewargs__(self) -> tuple[Any, ...]:
        return tuple(self.items())

    def __getstate__(self) -> ConfigDict:
        return self


@pytest.mark.parametrize("zipped", CONTAINERS)
def test_openmmlab_objects(zipped: bool, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, module in ((HistoryBuffer, HISTORY_BUFFER.rpartition(".")[0]), (ConfigDict, "mmcv.utils.config")):
        monkeypatch.setattr(kind, "__module__", module)
        made = types.ModuleType(module)
        setattr(made, kind.__name__, kind)
        for end in [at for at, letter in enumerate(module) if letter == "."]:
            monkeypatch.setitem(sys.modules, module[:end], types.ModuleType(module[:end]))
        monkeypatch.setitem(sys.modules, module, made)
    config = ConfigDict(model=ConfigDict(depth=50))
    content = {
        "meta": {"config": config, "seed": np.int64(7)},
        "message_hub": {"log": OrderedDict(loss=HistoryBuffer())},
        "state_dict": OrderedDict(w=torch.ones(2)),
    }
    data = saved(content, zipped)
    assert b"getattr" in data
    ours = read(data, path)
    assert ours.content["meta"] == {"config": {"model": {"depth": 50}}, "seed": 7}
    assert ours.content["message_hub"]["log"]["loss"].name == HISTORY_BUFFER
    assert ours.ignored == (HISTORY_BUFFER,)


def test_old_names_and_strings_of_python_2(path: Path) -> None:
    def old(text: str) -> bytes:
        return b"U" + bytes([len(text.encode())]) + text.encode()

    old_storage = b"(" + old("storage") + name("torch.cuda.FloatStorage") + old("0") + old("cuda:0") + plain(4) + b"NtQ"
    weight = call("torch._utils._rebuild_tensor", old_storage, plain(0), plain((2, 2)), plain((2, 1)))
    ordered = call("collections.OrderedDict", b"](](" + old("modèle.w") + weight + b"ee")
    little = b"(" + plain(3) + old("<") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    dtype = call("numpy.dtype", old("f8"), plain(0), plain(1)) + little
    accuracy = call("numpy.core.multiarray.scalar", dtype, b"U\x08" + struct.pack("<d", 0.75))
    data = b"}(" + old("state_dict") + ordered + old("best") + accuracy + b"u"
    ours = read(legacy_of(data), path).content
    assert ours["best"] == 0.75
    assert same(ours["state_dict"], {"modèle.w": torch.tensor([[1.0, 2.0], [3.0, 4.0]])})


OTHER_TENSORS = {
    "quantised": (call("torch._utils._rebuild_qtensor", storage()), "a quantised tensor"),
    "sparse": (call("torch._utils._rebuild_sparse_tensor", b"N"), "a sparse tensor"),
    "meta": (call("torch._utils._rebuild_meta_tensor_no_storage", b"N"), "a tensor without data"),
    "conjugated": (tensor()[:-2] + plain({"conj": True}) + b"tR", "sign or conjugation"),
    "no parameter": (call("torch._utils._rebuild_parameter", b"N", plain(True), b"N"), "no tensor"),
    "no storage": (call("torch._utils._rebuild_tensor_v2", plain([1]), plain(0), plain((1,)), plain((1,))), "unsound"),
    "no arguments": (call("torch._utils._rebuild_tensor_v2"), "unsound"),
    "not called": (name("torch._utils._rebuild_tensor_v2"), "unsound"),
    "subclass": (call("torch._tensor._rebuild_from_type_v2", name("torch._utils._rebuild_tensor_v2"),
                      name("numpy.ndarray"), b")N"), "class of its own"),
    "array": (call("numpy.core.multiarray._reconstruct", name("numpy.ndarray")) + b"(K\x01(K\x09t"
              + call("numpy.dtype", plain("f8")) + plain(False) + b"C\x01atb", "has 1 bytes"),
    "codec": (call("_codecs.encode", plain("a"), plain("rot13")), "unsound"),
    "key": (call("collections.OrderedDict") + plain([1]) + b"Ns", "dict key"),
    "deep": (b"]" * 5000 + b"a" * 4999, "deep"),
    "itself": (b"}q\x07" + plain("a") + b"h\x07s", "contains itself"),
}  # fmt: skip


@pytest.mark.parametrize("kind", OTHER_TENSORS)
def test_what_no_reader_takes(kind: str, path: Path) -> None:
    value, said = OTHER_TENSORS[kind]
    refused(zip_of(value), path, said)
    refused(legacy_of(value), path)
