"""Whether a file of torch.export holds a net and nothing else: torch runs code that such a file may name.

`torch.export.load` unpickles sample inputs and constants, evaluates symbolic sizes and guards, and calls whatever
operators the graph names (its documentation: never load from an untrusted source).  So a file is read here first, as
a zip with JSON, and refused unless each of these is as our own exports have it.  What torch then reads is a new zip of
the very bytes that were checked: two readers may see different files in one archive.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from resnetkit.errors import DamagedFile

MEMBERS = re.compile(
    r"models/model\.json|data/weights/(weight_\d+|model_weights_config\.json)|data/constants/model_constants_config\.json"
    r"|data/sample_inputs/model\.pt|extra/resnetkit\.json|archive_format|archive_version|byteorder"
    r"|\.data/(version|serialization_id)"
)
OPERATORS = {
    f"torch.ops.aten.{name}"
    for name in (
        *("_assert_tensor_metadata.default", "add_.Tensor", "avg_pool2d.default"),
        *("conv2d.default", "div.Tensor", "linear.default", "max_pool2d.default", "pad.default"),
        *(
            "mean.dim",
            "permute.default",
            "relu_.default",
            "slice.Tensor",
            "sub.Tensor",
            "to.dtype",
            "unsqueeze.default",
        ),
    )
}
SIZE = re.compile(r"Symbol\('s\d+', positive=True, integer=True\)")  # of the batch
ARGUMENTS = {f"as_{kind}" for kind in ("bool", "device", "expr", "int", "ints", "layout", "scalar_type", "tensor")}
LEAF = '{"type": null, "context": null, "children_spec": []}'
SPECS = {
    f"[1, {LEAF}]",
    f'[1, {{"type": "builtins.tuple", "context": "null", "children_spec": [{LEAF}, {LEAF}, {LEAF}]}}]',
    f'[1, {{"type": "builtins.tuple", "context": "null", "children_spec": [{{"type": "builtins.tuple", "context": '
    f'"null", "children_spec": [{LEAF}]}}, {{"type": "builtins.dict", "context": "[]", "children_spec": []}}]}}]',
}
WORD = re.compile(r"[\w.+-]{0,200}")  # names of tensors and modules, versions
MAX_JSON = 50_000_000  # bytes
MAX_BYTES = 2**31  # of all members: more than the largest net, less than would fill a memory


def checked_copy(path: Path) -> io.BytesIO:
    """Return a file that holds a net and nothing else; DamagedFile, with what is odd, for any other."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = read_members(archive)
        odd = list(odd_members(members))
    except (zipfile.BadZipFile, ValueError, KeyError, RecursionError, OSError, NotImplementedError) as error:
        raise DamagedFile(f"{path} is no program of torch.export", f"got {error}") from error
    if odd:
        raise DamagedFile(f"{path} may hold code: it is not what this version exports", f"got {', '.join(odd[:3])}",
                          "next: export the model again")  # fmt: skip
    copy = io.BytesIO()
    with zipfile.ZipFile(copy, "w", zipfile.ZIP_STORED) as clean:
        for name, content in members.items():
            clean.writestr(name, content)
    copy.seek(0)
    return copy


def read_members(archive: zipfile.ZipFile) -> dict[str, bytes]:
    """Read an archive whole; ValueError for one that has a name twice, or more bytes than any net."""
    infos = archive.infolist()
    if sum(info.file_size for info in infos) > MAX_BYTES:
        raise ValueError(f"more than {MAX_BYTES:,} bytes")
    members = {info.filename: archive.read(info) for info in infos}
    if len(members) != len(infos):
        raise ValueError("a member twice")
    return members


def odd_members(members: Mapping[str, bytes]) -> Iterator[str]:
    """Yield what is not expected in an archive."""
    for whole_name, data in members.items():
        _, _, name = whole_name.partition("/")
        if not MEMBERS.fullmatch(name):
            yield f"the member {ascii(whole_name)[:80]}"
        elif name.startswith("data/sample_inputs/") and data:
            yield "pickled images"
        elif name.endswith(".json") and not name.startswith("extra/"):
            if len(data) > MAX_JSON:
                yield f"{len(data):,} bytes of {name}"
                continue
            content = json.loads(data)
            if name.startswith("data/constants/") and content != {"config": {}}:
                yield "constants"
            elif name.startswith("data/weights/") and any(each["use_pickle"] for each in content["config"].values()):
                yield "pickled weights"
            else:
                yield from odd_values(content)


def odd_values(value: Any, key: str = "") -> Iterator[str]:
    """Yield what is not expected in the JSON of a graph, at whatever depth."""
    if isinstance(value, dict):
        if key == "custom_obj_values" and value:
            yield "objects"
        for name, item in value.items():
            if not WORD.fullmatch(name) or (name.startswith("as_") and name not in ARGUMENTS):
                yield f"the key {ascii(name)[:60]}"
            yield from odd_values(item, name)
    elif isinstance(value, list):
        if key == "guards_code" and value:
            yield "code of guards"
        for item in value:
            yield from odd_values(item, key)
    elif isinstance(value, str) and not is_expected(value, key):
        yield f"{key} {ascii(value)[:60]}"


def is_expected(value: str, key: str) -> bool:
    """Say whether a text at this key is one that our exports have."""
    if key == "target":
        return value in OPERATORS
    if key == "expr_str":
        return SIZE.fullmatch(value) is not None
    if key in ("in_spec", "out_spec"):
        return value in SPECS
    return WORD.fullmatch(value) is not None
