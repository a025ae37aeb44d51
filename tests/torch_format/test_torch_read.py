"""Files of torch.save are read as torch reads them, and nothing of a hostile one runs."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import types
from collections import Counter, OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from resnetkit.errors import WeightsError
from resnetkit.torch_format.read import ALLOWED, HISTORY_BUFFER, read_torch_file
from torch_files import (
    CONTAINERS,
    FLOATS,
    NEWER,
    WHOLE,
    call,
    legacy_of,
    name,
    plain,
    read,
    refused,
    same,
    saved,
    sharing,
    small,
    storage,
    tensors_of,
    zip_of,
)

SHARED = Path(__file__).parents[3] / "shared" / "weights"
REAL = ("akamaster-cifar10-resnet20-12fca82f.th", "akamaster-cifar10-resnet56-4bfd9763.th",
        "distiller-cifar10-resnet20-full-state.pth.tar", "imagenet-resnet18-torchvision-layout-fp16.pth")  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "w.pth"


@st.composite
def views(draw: st.DrawFn, dtypes: list[torch.dtype]) -> list[Tensor]:
    """Draw some tensors that share one storage."""
    dtype = draw(st.sampled_from(dtypes))
    base = torch.frombuffer(bytearray(os.urandom(24 * dtype.itemsize)), dtype=torch.uint8)
    if dtype == torch.bool:
        base = base % 2
    base = base.view(dtype)
    shapes = [base.view(2, 3, 4).transpose(0, 2), base[5:17], base[3::7], base.view(4, 6)[1:, 2:4].t(),
              base[7], base[9:9], base.view(2, 1, 12).permute(1, 2, 0), base[:0].view(0, 5)]  # fmt: skip
    return draw(st.lists(st.sampled_from(shapes), min_size=1, max_size=4))


TEXT = st.text(max_size=3)
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.binary(min_size=1, max_size=5)
OTHER = st.sampled_from([torch.Size([2, 0]), torch.device("cuda", 1), torch.device("cpu"), torch.float16, torch.int64,
                         {1, "a"}, 2j, Counter("abb"), bytearray(b"\xff"), bytearray()])  # fmt: skip
PARAMETERS = st.floats(width=32).map(lambda number: torch.nn.Parameter(torch.tensor(number)))


def states(dtypes: list[torch.dtype]) -> st.SearchStrategy[Any]:
    return st.recursive(
        views(dtypes) | SCALARS | OTHER | PARAMETERS,
        lambda x: (
            st.lists(x, max_size=3)
            | st.dictionaries(TEXT | st.integers(), x, max_size=3)
            | st.dictionaries(TEXT, x, max_size=3).map(OrderedDict)
            | st.lists(x, max_size=3).map(tuple)
        ),
        max_leaves=6,
    )


# What torch itself can read back: it refuses the name that b"" has, and newer dtypes in older files.
STATES = {True: states(FLOATS + WHOLE + NEWER), False: states(FLOATS + WHOLE)}


@pytest.mark.parametrize("zipped", CONTAINERS)
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_what_torch_reads_is_read_alike(zipped: bool, path: Path, data: st.DataObject) -> None:
    state = data.draw(STATES[zipped])
    ours = read(saved(state, zipped), path)
    theirs = torch.load(path, weights_only=True)
    assert same(ours.content, theirs)
    assert sharing(ours.content) == sharing(theirs)
    assert (ours.container, ours.ignored) == ("torch zip" if zipped else "torch legacy", ())


@pytest.mark.parametrize("zipped", CONTAINERS)
@pytest.mark.parametrize("dtype", FLOATS + WHOLE + NEWER, ids=str)
def test_every_dtype(dtype: torch.dtype, zipped: bool, path: Path) -> None:
    value = torch.tensor([0, 1, 1, 0]).to(dtype)
    one = read(saved({"a": value, "0-dim": value[1], "none": value[:0]}, zipped), path).content
    assert same(one, {"a": value, "0-dim": value[1], "none": value[:0]})
    one["a"].zero_()
    assert one["0-dim"] == 0  # one storage, and one that can be written to


@pytest.mark.parametrize("zipped", CONTAINERS)
def test_a_model_with_its_optimizer(zipped: bool, path: Path) -> None:
    linear = torch.nn.Linear(3, 4)
    model = torch.nn.Sequential(linear, torch.nn.BatchNorm1d(4))
    vars(linear.weight)["note"] = "attributes of a parameter are dropped"
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(5, 3)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5])
    attributed = torch.zeros(2)
    vars(attributed)["note"] = 1
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        "parameters": list(model.parameters()),
        "attributed": attributed,
        "version": torch.__version__,
    }
    ours = read(saved(state, zipped), path).content
    assert ours.pop("version") == str(state.pop("version"))
    path.write_bytes(saved(state, zipped))
    assert same(ours, torch.load(path, weights_only=True))


def test_a_storage_by_itself_is_a_tensor(path: Path) -> None:
    value = torch.tensor([1, 2], dtype=torch.uint8)
    for zipped in CONTAINERS:
        ours = read(saved([value.untyped_storage(), value], zipped), path).content
        assert ours[0].dtype == torch.uint8 and same(ours[1], value)
        assert sharing(ours) == [(0, 0), (0, 0)]


@pytest.mark.parametrize("file", REAL)
def test_real_files(file: str) -> None:
    if not (SHARED / file).is_file():
        pytest.skip("the shared weights are not here")
    ours = read_torch_file(SHARED / file)
    assert ours.ignored == ()
    assert same(ours.content, torch.load(SHARED / file, map_location="cpu", weights_only=True))
    assert len(tensors_of(ours.content)) >= 97


# hostile files


class Attack:
    """Pickles to a call of `function`; never to be unpickled."""

    def __init__(self, function: Callable[..., Any], *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def hidden(attack: Attack) -> Any:
    """Hide an attack where a state_dict keeps the versions of its modules."""
    state = OrderedDict(w=torch.zeros(1))
    state._metadata = OrderedDict({"": {"version": attack}})  # type: ignore[attr-defined]
    return state


def attacks(command: str, code: str) -> dict[str, tuple[Any, str]]:
    system = Attack(os.system, command)
    return {
        "system": (system, f"{os.name}.system"),
        "eval": ({"w": torch.zeros(1), "x": Attack(eval, code)}, "__builtin__.eval"),
        "nested": ({"meta": [1, (Attack(print, system),)]}, "__builtin__.print"),
        "inner": ([Attack(OrderedDict, [("a", system)])], f"{os.name}.system"),
        "metadata": (hidden(system), f"{os.name}.system"),
        "in a stand-in": (Attack(Path, system), f"{os.name}.system"),
        "getattr": (Attack(getattr, Path, "unlink"), "getattr"),
        "getattr of a module": (Attack(getattr, Attack(__import__, "os"), "system"), "__builtin__.__import__"),
        "a whole model": (torch.nn.Linear(1, 1), "torch.nn.modules.linear.Linear"),
        "partial": (Attack(types.SimpleNamespace, 1), "types.SimpleNamespace"),
    }


@pytest.mark.parametrize("container", ["zip", "older", "raw"])
@pytest.mark.parametrize("kind", attacks("", ""))
def test_nothing_of_a_hostile_file_runs(kind: str, container: str, path: Path) -> None:
    canary = path.with_name("it-ran")
    content, culprit = attacks(f"touch {canary}", f"open({str(canary)!r}, 'w')")[kind]
    data = pickle.dumps(content, 2) if container == "raw" else saved(content, container == "zip")
    error = refused(data, path, "nothing was run")
    assert culprit in str(error) or container == "raw"  # a raw one may name something else before
    assert not canary.exists()


def test_hand_written_attacks(path: Path) -> None:
    canary = path.with_name("it-ran")
    attack = call("os.system", plain(f"touch {canary}"))
    method = call(HISTORY_BUFFER)
    for data in (
        zip_of(attack),
        legacy_of(attack),
        legacy_of(b"N", keys=[Attack(os.system, f"touch {canary}")]),
        pickle.dumps(Attack(os.system, f"touch {canary}"), 0),
        pickle.dumps(Attack(os.system, f"touch {canary}"), 4),
        b"cos\nsystem\n(S'touch " + str(canary).encode() + b"'\ntR.",
        zip_of(call("__builtin__.getattr", name(HISTORY_BUFFER) + plain("mean")) + plain("x") + b"\x85R"),
        zip_of(call("__builtin__.getattr", method, plain("mean"))),
        zip_of(call("__builtin__.getattr", name("collections.OrderedDict"), plain("mean"))),
        zip_of(name("__builtin__.getattr")),
        zip_of(storage(kind="os.system")),
        zip_of(call("torch._tensor._rebuild_from_type_v2", name("os.system"), name("torch.Tensor"), b")", b"N")),
    ):
        refused(data, path)
        assert not canary.exists()
    os.system(f"touch {canary}")  # so the command was a real one
    assert canary.exists()


def test_no_name_of_the_list_can_do_harm() -> None:
    modules = {dotted.partition(".")[0] for dotted in ALLOWED}
    assert modules == {"torch", "collections", "argparse", "addict", "mmcv", "mmengine", "builtins", "__builtin__",
                       "_codecs", "numpy", "pathlib", "datetime", "persistent id"}  # fmt: skip
    builtins = {dotted.rpartition(".")[2] for dotted in ALLOWED if "builtin" in dotted}
    assert builtins == {"set", "frozenset", "complex", "bytearray", "bytes", "dict", "list", "tuple", "int", "float",
                        "str", "bool", "getattr"}  # fmt: skip


# other files


@pytest.mark.parametrize("zipped", CONTAINERS)
def test_a_file_that_is_cut_anywhere(zipped: bool, path: Path) -> None:
    data = small(zipped)
    assert read(data, path).content["epoch"] == 3
    for length in range(0, len(data), 3):
        refused(data[:length], path)
    refused(data[:-1], path)


def tar_of() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("sys_info"))
    return file.getvalue()


OTHER_FILES = {
    "empty": (b"", "got an empty file"),
    "a web page": (b"\n<!DOCTYPE html><html>404 Not Found</html>", "got a web page"),
    "jpeg": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "a JPEG image"),
    "gzip": (b"\x1f\x8b\x08\x00", "next: unpack it"),
    "git lfs": (b"version https://git-lfs.github.com/spec/v1\noid", "next: git lfs pull"),
    "safetensors": (struct.pack("<Q", 2) + b"{}", "next: let its name end in .safetensors"),
    "tar": (tar_of(), "a tar archive"),
    "raw pickle": (pickle.dumps({"state_dict": [1, 2]}), "a pickle that torch did not write"),
    "text": (b"hello there", "it begins with b'hello there'"),
    "zeros": (bytes(4096), "no file of torch's"),
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_files_that_torch_did_not_write(kind: str, path: Path) -> None:
    data, said = OTHER_FILES[kind]
    refused(data, path, said)


def test_no_file_at_all(path: Path) -> None:
    for missing in (path, path.parent):
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            read_torch_file(missing)
