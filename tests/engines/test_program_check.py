"""A file of torch.export that may hold code is refused before torch sees it."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from resnetkit.artefact import open_artefact
from resnetkit.data.transforms import Preprocess
from resnetkit.engines.program_check import checked_copy
from resnetkit.errors import DamagedFile
from resnetkit.export import Deployed, write_program
from resnetkit.models import ResNet, find_architecture

MODEL, WEIGHTS = "models/model.json", "data/weights/model_weights_config.json"
CONSTANTS, SAMPLES = "data/constants/model_constants_config.json", "data/sample_inputs/model.pt"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("programs") / "net.pt2"
    preprocess = Preprocess(16, np.zeros(3, np.float32), np.ones(3, np.float32))
    module = Deployed(ResNet(find_architecture("resnet4_tiny")), preprocess, has_map=True).eval()
    write_program(module, torch.zeros(2, 16, 16, 3, dtype=torch.uint8), path, None)
    return path


def changed(program: Path, target: Path, name: str, change: Callable[[bytes], bytes]) -> Path:
    """Write a program's archive with one member changed, or added."""
    with zipfile.ZipFile(program) as source, zipfile.ZipFile(target, "w") as archive:
        root = source.namelist()[0].partition("/")[0]
        for member in source.infolist():
            data = source.read(member)
            archive.writestr(member.filename, change(data) if member.filename == f"{root}/{name}" else data)
        if f"{root}/{name}" not in source.namelist():
            archive.writestr(f"{root}/{name}", change(b""))
    return target


def in_json(edit: Callable[[Any], None]) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        content = json.loads(data)
        edit(content)
        return json.dumps(content).encode()

    return change


def first_node(content: Any) -> Any:
    return content["graph_module"]["graph"]["nodes"][0]


def test_our_own_is_let_through(program: Path) -> None:
    checked_copy(program)


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        (SAMPLES, lambda data: b"\x80\x02cos\nsystem\n.", "pickled images"),
        (CONSTANTS, lambda data: b'{"config": {"c": {"path_name": "opaque_obj_0"}}}', "constants"),
        (WEIGHTS, in_json(lambda content: content["config"]["mean"].update(use_pickle=True)), "pickled weights"),
        ("data/constants/opaque_obj_0", lambda data: b"x", "the member"),
        ("data/weights/model.pt", lambda data: b"x", "the member"),
        (MODEL, in_json(lambda content: first_node(content).update(target="torch.hub.load")), "'torch.hub.load'"),
        (MODEL, in_json(lambda content: content.update(guards_code=["exit()"])), "code of guards"),
        (MODEL, in_json(lambda content: first_node(content).update(as_custom_obj={"name": "x"})), "'as_custom_obj'"),
        (MODEL, in_json(lambda content: first_node(content).update(name="x): exit(")), "name 'x): exit('"),
        (MODEL, in_json(lambda content: content.update(size={"expr_str": "exit()"})), "expr_str 'exit()'"),
        (MODEL, in_json(lambda content: content.update(in_spec='[1, {"type": "os.system"}]')), "in_spec"),
    ],
)  # fmt: skip
def test_what_may_run_is_refused(
    program: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes], said: str
) -> None:
    bad = changed(program, tmp_path / "bad.pt2", name, change)
    with pytest.raises(DamagedFile, match="may hold code") as raised:
        open_artefact(bad)
    assert said in str(raised.value)


def test_torch_reads_the_very_bytes_that_were_checked(tmp_path: Path) -> None:
    """Python's reader takes the directory before the end record, torch's the one at the offset that is recorded."""
    bodies, directories = [], []
    for samples in (b"EVIL PICKLE", b""):
        whole = io.BytesIO()
        with zipfile.ZipFile(whole, "w") as archive:
            archive.writestr(f"a/{SAMPLES}", samples)
            archive.writestr("a/.data/version", b"3\n")
        start = int.from_bytes(whole.getvalue()[-6:-2], "little")
        bodies.append(whole.getvalue()[:start])
        directories.append(bytearray(whole.getvalue()[start:-22]))
    evil, good = directories
    shift = len(bodies[1]) + len(good)  # Python adds to each offset what lies before the directory unaccounted for
    place = 0
    while place < len(good):
        name_size, extra_size, comment_size = (int.from_bytes(good[place + at : place + at + 2], "little")
                                               for at in (28, 30, 32))  # fmt: skip
        offset = int.from_bytes(good[place + 42 : place + 46], "little") + len(bodies[0]) + len(evil) - shift
        good[place + 42 : place + 46] = (offset % 2**32).to_bytes(4, "little")
        place += 46 + name_size + extra_size + comment_size
    end = b"PK\5\6" + bytes(4) + (2).to_bytes(2, "little") * 2 + len(evil).to_bytes(4, "little")
    end += len(bodies[0]).to_bytes(4, "little") + bytes(2)
    path = tmp_path / "two.pt2"
    path.write_bytes(bodies[0] + evil + bodies[1] + good + end)
    assert torch._C.PyTorchFileReader(str(path)).get_record(SAMPLES) == b"EVIL PICKLE"
    try:
        copy = checked_copy(path)
    except DamagedFile:
        return  # not the same file to Python either
    assert torch._C.PyTorchFileReader(copy).get_record(SAMPLES) == b""


def test_what_is_no_archive_is_refused(program: Path, tmp_path: Path) -> None:
    (tmp_path / "text.pt2").write_text("no zip")
    with pytest.raises(DamagedFile, match="no program"):
        checked_copy(tmp_path / "text.pt2")
    shutil.copy(program, tmp_path / "cut.pt2")
    with (tmp_path / "cut.pt2").open("r+b") as file:
        file.truncate(5_000)
    with pytest.raises(DamagedFile, match="no program"):
        checked_copy(tmp_path / "cut.pt2")
    bad = changed(program, tmp_path / "bad.pt2", MODEL, lambda data: b"[" * 100_000)
    with pytest.raises(DamagedFile, match="no program"):
        checked_copy(bad)
