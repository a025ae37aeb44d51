"""Whatever a weights file holds, every command answers with one clear error, and nothing of the file runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image

from resnetkit.checkpoint import METADATA_KEY
from resnetkit.cli import main
from resnetkit.models import MODELS, ResNet
from torch_files import call, legacy_of, plain, saved, storage, tensor, zip_of

TINY = MODELS["resnet4_tiny"]
TERABYTE = 2**38  # floats


class Attack:
    """Unpickled, it calls a function."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.call


def state() -> dict[str, Any]:
    return dict(ResNet(TINY).state_dict())


def stem(dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(8, 3, 3, 3, dtype=dtype)


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("w/data.pkl", b"\x80\x02" + tensor(sizes=(10**8,), source=storage(numel=10**8)) + b".")
        archive.writestr("w/data/0", bytes(4 * 10**8))  # 400 kB of file, 400 MB of zeros
    return file.getvalue()


def cut(data: bytes, share: float) -> bytes:
    return data[: int(share * len(data))]


def flipped(data: bytes) -> bytes:
    bent = bytearray(data)
    bent[len(bent) // 2] ^= 1
    return bytes(bent)


def safe(metadata: Any = None, **tensors: Any) -> bytes:
    header = None if metadata is None else {METADATA_KEY: json.dumps(metadata)}
    return safetensors.torch.save(state() | tensors, header)


def tall() -> bytes:
    return tensor(sizes=(TERABYTE,), source=storage(numel=TERABYTE))


def long_header() -> bytes:
    return struct.pack("<Q", 2**62) + b"{}"


def tall_tensor() -> bytes:
    header = json.dumps(
        {"fc.weight": {"dtype": "F32", "shape": [TERABYTE], "data_offsets": [0, 4 * TERABYTE]}}
    ).encode()
    return struct.pack("<Q", len(header)) + header + bytes(64)


def shared() -> dict[str, torch.Tensor]:
    """Return 100 MB of tensors in 1 MB of storage."""
    data = torch.zeros(2**18)
    return {f"extra{number}": data.view(2**18) for number in range(100)}


OWN = {
    "architecture": asdict(TINY), "class_names": [str(number) for number in range(10)], "metrics": {},
    "preprocess": {"image_size": 32, "resize_size": None, "family": "pillow-bilinear", "keep_ratio": True,
                   "mean": [0, 0, 0], "std": [1, 1, 1]},
}  # fmt: skip

File = tuple[str, Callable[[], bytes], str]


def pth(make: Callable[[], bytes], said: str) -> File:
    return "w.pth", make, said


def own(make: Callable[[], bytes], said: str) -> File:
    return "w.safetensors", make, said


def files(canary: Path) -> dict[str, File]:
    """Return a name, what makes the content, and what the error must say, by kind of file."""
    command = f"touch {canary}"
    system, inner = Attack(os.system, command), f"open({str(canary)!r}, 'w')"
    nested = Attack(map, Attack(getattr, Attack(__import__, "os"), "system"), [command])
    return {
        "os.system": pth(lambda: saved({"state_dict": state(), "meta": {"a": system}}), "posix.system"),
        "builtins.eval": pth(lambda: saved({"state_dict": state(), "x": Attack(eval, inner)}), "eval"),
        "nested __reduce__": pth(lambda: saved({"state_dict": state(), "x": [nested]}), "which is not among the names"),
        "legacy container": pth(lambda: saved({"state_dict": state(), "x": system}, zipped=False), "posix.system"),
        "raw pickle": pth(lambda: pickle.dumps({"a": system}), "posix.system"),
        "raw pickle, protocol 0": pth(lambda: b"cos\nsystem\n(S'" + command.encode() + b"'\ntR.", "os.system"),
        "in place of a tensor": pth(lambda: zip_of(call("os.system", plain(command))), "os.system"),
        "a module of their own": pth(lambda: zip_of(call("their.module.Net")), "their.module.Net"),
        "truncated": pth(lambda: cut(saved(state()), 0.6), "damaged or cut short"),
        "truncated legacy": pth(lambda: cut(saved(state(), zipped=False), 0.9), "cut short"),
        "one bit flipped": pth(lambda: flipped(saved(state())), "CRC-32"),
        "empty": pth(lambda: b"", "an empty file"),
        "zip bomb": pth(zip_bomb, "is compressed: "),
        "a terabyte": pth(lambda: zip_of(tall()), f"{4 * TERABYTE} bytes"),
        "a terabyte, expanded": pth(lambda: zip_of(tensor(sizes=(TERABYTE,), strides=(0,))),
                                    f"claims {4 * TERABYTE} bytes"),
        "a terabyte, legacy": pth(lambda: legacy_of(tall(),
                                                  [("0", TERABYTE, b"1234")]), f"{4 * TERABYTE} bytes"),
        "beyond its storage": pth(lambda: zip_of(tensor(offset=2)), "ends at element 6"),
        "whole numbers for weights": pth(lambda: saved(state() | {"conv1.weight": stem(torch.int8)}),
                                      "wrong dtype: conv1.weight int8 instead of floats"),
        "complex weights": pth(lambda: saved(state() | {"conv1.weight": stem(torch.complex64)}),
                            "stored as torch.ComplexFloatStorage"),
        "quantised weights": pth(lambda: saved({"w": torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8)}),
                              "quantised"),
        "sparse weights": pth(lambda: saved({"w": torch.eye(2).to_sparse()}), "sparse"),
        "a web page": pth(lambda: b"<!DOCTYPE html><html>", "a web page"),
        "a picture": pth(lambda: b"\xff\xd8\xff\xe0" + bytes(99), "a JPEG image"),
        "noise": pth(lambda: np.random.default_rng(0).bytes(5000), "no file of torch's"),
        "no tensors": pth(lambda: saved({"epoch": 3}), "no tensors by name"),
        "another net": pth(lambda: saved({"features.0.weight": torch.ones(2, 3, 3, 3)}), "not a residual net"),
        "one tensor too many": pth(lambda: saved(state() | {"extra": torch.ones(1)}), "unexpected: extra"),
        "a block missing": pth(lambda: saved({k: v for k, v in state().items() if k != "layer1.0.bn2.weight"}),
                            "missing: layer1.0.bn2.weight"),
        "another shape": pth(lambda: saved(state() | {"fc.bias": torch.ones(9)}), "fc.bias [9] instead of [10]"),
        "safetensors, empty": own(lambda: b"", "not a whole safetensors file"),
        "safetensors, cut": own(lambda: cut(safe(), 0.7), "not a whole safetensors file"),
        "safetensors, a long header": own(long_header, "not a whole safetensors file"),
        "safetensors, a terabyte": own(tall_tensor, "not a whole safetensors file"),
        "safetensors, a pickle": own(lambda: saved({"x": system}), "not a whole safetensors file"),
        "safetensors, wrong dtype": own(lambda: safe(**{"fc.bias": torch.ones(10, dtype=torch.int64)}),
                                     "wrong dtype: fc.bias int64"),
        "ours, damaged": own(lambda: safe({"architecture": {"block": "x"}}), "metadata is damaged"),
        "ours, endless": own(lambda: safe({"architecture": asdict(TINY) | {"depths": [10**12]}, "class_names": [],
                          "preprocess": {"image_size": 1, "resize_size": None, "family": "pillow-bilinear",
                                         "keep_ratio": True, "mean": [0] * 3, "std": [1] * 3}}), "do not fit"),
        "ours, nested without end": own(lambda: safetensors.torch.save(state(), {METADATA_KEY: "[" * 10**5}),
                                        "not a whole safetensors file"),
        "two nets": pth(lambda: saved({"state_dict": state(), "model": state()}), "more than one net"),
        "an endless number": pth(lambda: saved(state() | {f"layer{'1' * 5000}.0.conv1.weight": torch.ones(1)}),
                                 "too long or cannot be printed"),
        "a name that moves the cursor": pth(lambda: saved(state() | {"\x1b[2Jx": torch.ones(1)}), "cannot be printed"),
        "a name of no letters": own(lambda: safe(None, **{"a\nnote: x": torch.ones(1)}), "cannot be printed"),
        "one storage, many tensors": pth(lambda: saved(state() | shared()), "share their storages"),
        "float8": own(lambda: safe(**{"fc.bias": torch.ones(10).to(torch.float8_e4m3fn)}), "fc.bias float8_e4m3fn"),
        "ours, stages less than empty": own(lambda: safe(OWN | {"architecture": asdict(TINY) | {"depths": [-9, 10]}}),
                                            "metadata is damaged"),
        "ours, no channels": own(lambda: safe(OWN | {"architecture": asdict(TINY) | {"stem_width": 0}}),
                                 "metadata is damaged"),
        "ours, top-1 of 250 %": own(lambda: safe(OWN | {"metrics": {"a": {"top1": 2.5, "images": 3}}}), "metrics of"),
        "ours, images below none": own(lambda: safe(OWN | {"metrics": {"a": {"top1": 0.5, "images": -3}}}),
                                       "metrics of"),
        "ours, data without a hash": own(lambda: safe(OWN | {"data": {"name": "x"}}), "data {'name'"),
        "ours, no JSON": own(lambda: safetensors.torch.save(state(), {METADATA_KEY: "{"}), "safetensors file"),
    }  # fmt: skip


KINDS = list(files(Path("canary")))


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_every_command_refuses_it_by_name_and_runs_nothing(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary, folder = tmp_path / "it-ran", tmp_path / "weights"
    folder.mkdir()
    name, make, said = files(canary)[kind]
    path, content = folder / name, make()
    path.write_bytes(content)
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    for words in (
        ["show", str(path)],
        ["predict", str(path), str(tmp_path / "a.png")],
        ["convert", str(path), str(tmp_path / "out.safetensors"), "--to", "resnetkit"],
    ):
        assert main(words) in {1, 2}
        out = capsys.readouterr()
        assert out.err.startswith("error: ")
        assert str(path) in out.err
        assert said in out.err
        assert "unexpected " not in out.err.splitlines()[0]
        assert out.err.replace("\n", "").isprintable()
        assert len(out.err) < 2000
        assert not out.out
        assert not canary.exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.png", "weights"]
    assert [each.name for each in folder.iterdir()] == [name]  # and it is as it was
    assert path.read_bytes() == content


def test_the_attacks_are_real(tmp_path: Path) -> None:
    canary = tmp_path / "it-ran"
    Attack(os.system, f"touch {canary}").call[0](*Attack(os.system, f"touch {canary}").call[1])
    assert canary.exists()
    assert len(KINDS) == 50


def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "w.pth"
    os.mkfifo(pipe)
    for words in (["show", str(pipe)], ["convert", str(pipe), str(tmp_path / "o.pth"), "--to", "timm"]):
        assert main(words) == 2
        assert f"{pipe} is no ordinary file" in capsys.readouterr().err
