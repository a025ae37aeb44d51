"""Files that torch.save wrote, read without running anything of them.

`READERS` is the whole list of names that a file may mention, and what becomes of each: a tensor, a plain value,
or a stand-in that keeps only the name.  A file with any other name is refused.
"""

from __future__ import annotations

import struct
import sys
from dataclasses import dataclass
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import IO, Any, Literal

import torch

from resnetkit.errors import DamagedFile, WeightsError
from resnetkit.safe_pickle import PERSISTENT_ID, Inert, read_pickle, stand_ins
from resnetkit.torch_format import values
from resnetkit.torch_format.legacy import is_legacy, read_legacy
from resnetkit.torch_format.tensors import DTYPES, STORAGE_DTYPES, StorageClaim, read_claim, typed
from resnetkit.torch_format.values import Reader, refuse, stand_in
from resnetkit.torch_format.zipped import read_zip

HEAD_BYTES = 512  # enough to tell what a file is
NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")  # the name before and since NumPy 2
BUILTINS = ("builtins", "__builtin__")  # the second in protocol 2
OTHER_STORAGES = ("ComplexFloatStorage", "ComplexDoubleStorage", "QInt8Storage", "QUInt8Storage", "QInt32Storage")
OTHER_DTYPES = ("complex64", "complex128", "float8_e4m3fn", "float8_e5m2", "qint8", "quint8", "qint32")
PATHS = ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
# HistoryBuffer names its own methods; the only use of getattr that is let pass, as a stand-in that nobody calls.
GETATTR = frozenset(f"{module}.getattr" for module in BUILTINS)
HISTORY_BUFFER = "mmengine.logging.history_buffer.HistoryBuffer"


def _names(modules: tuple[str, ...], *names: str) -> list[str]:
    return [f"{module}.{name}" for module in modules for name in names]


READERS: dict[str, Reader] = {
    # tensors
    "torch._utils._rebuild_tensor": values.tensor,
    "torch._utils._rebuild_tensor_v2": values.tensor,
    "torch._utils._rebuild_tensor_v3": values.tensor,
    "torch._utils._rebuild_parameter": values.parameter,
    "torch._utils._rebuild_parameter_with_state": values.parameter,
    "torch._tensor._rebuild_from_type_v2": values.tensor_with_attributes,
    # plain values
    "collections.OrderedDict": values.mapping,
    "collections.defaultdict": values.mapping,
    "collections.Counter": values.mapping,
    "collections.deque": values.sequence,
    "argparse.Namespace": values.mapping,
    "addict.addict.Dict": values.mapping,
    "mmcv.utils.config.ConfigDict": values.mapping,
    "mmengine.config.config.ConfigDict": values.mapping,
    "torch.Size": values.size,
    "torch.device": values.text,
    "torch.torch_version.TorchVersion": values.text,
    **dict.fromkeys((*DTYPES, *_names(("torch",), *OTHER_DTYPES)), values.name_as_text),
    **dict.fromkeys(_names(BUILTINS, "set", "frozenset"), values.value_set),
    **dict.fromkeys(_names(BUILTINS, "complex"), values.complex_number),
    **dict.fromkeys(_names(BUILTINS, "bytearray"), values.byte_array),
    **dict.fromkeys([*_names(BUILTINS, "bytes"), "_codecs.encode"], values.raw_bytes),
    **dict.fromkeys(_names(NUMPY, "scalar"), values.numpy_scalar),
    **dict.fromkeys(_names(NUMPY, "_reconstruct"), values.numpy_array),
    # only a name stays
    **dict.fromkeys(STORAGE_DTYPES, stand_in),
    **dict.fromkeys(("torch.Tensor", "torch.nn.parameter.Parameter", "numpy.ndarray", "numpy.dtype"), stand_in),
    **dict.fromkeys(_names(BUILTINS, "dict", "list", "tuple", "int", "float", "str", "bool"), stand_in),
    **dict.fromkeys(GETATTR, stand_in),
    **dict.fromkeys((HISTORY_BUFFER, "mmengine.config.config.Config", "mmcv.utils.config.Config"), stand_in),
    **dict.fromkeys(_names(("pathlib", "pathlib._local"), *PATHS), stand_in),
    **dict.fromkeys(_names(("datetime",), "datetime", "date", "time", "timedelta", "timezone"), stand_in),
    # known, and refused with the reason
    **dict.fromkeys(("torch._utils._rebuild_qtensor",), refuse("a quantised tensor")),
    **dict.fromkeys(("torch._utils._rebuild_sparse_tensor",), refuse("a sparse tensor")),
    **dict.fromkeys(("torch._utils._rebuild_meta_tensor_no_storage",), refuse("a tensor without data")),
    **dict.fromkeys(_names(("torch",), *OTHER_STORAGES), refuse("complex or quantised numbers")),
    **dict.fromkeys(_names(("torch",), "per_tensor_affine", "per_channel_affine"), refuse("a quantised tensor")),
    "torch.serialization._get_layout": refuse("a sparse tensor"),
}
ALLOWED = frozenset(READERS) | {PERSISTENT_ID}

# What people have under a weights file's name, by its first bytes.
OTHERS = {
    b"<": "a web page or XML file; next: download the file itself",
    b"version https://git-lfs": "a Git LFS pointer; next: git lfs pull",
    b"\xff\xd8\xff": "a JPEG image",
    b"\x89PNG": "a PNG image",
    b"\x89HDF": "an HDF5 file (Keras)",
    b"\x1f\x8b": "a gzip file; next: unpack it",
    b"PK\5\6": "an empty zip archive",
}
# What hostile structure makes the readers raise; no more than these.
UNSOUND = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RuntimeError, struct.error)


# Tensors may share storages (tied weights, a parameter in two lists); many times over, a small file would take any
# amount of memory once they are copied.
MAX_SHARING, SHARING_FREE = 4, 2**26  # times the file's storages, and bytes


@dataclass(frozen=True)
class TorchFile:
    """The content of a file that torch.save wrote.

    `content` is made of dict, list, tuple, set, numbers, str, bytes, None, CPU tensors, NumPy arrays of numbers,
    and `Inert` stand-ins.  Tensors that shared a storage in the file share it here.
    """

    content: Any
    container: Literal["torch zip", "torch legacy"]
    ignored: tuple[str, ...]  # the names of the stand-ins, sorted


def read_torch_file(path: Path) -> TorchFile:
    """Read a file that torch.save wrote, in either container, without running anything of it.

    Raises WeightsError, which names the file and the reason, for a file that is not sound or not torch's, and
    for one that names anything outside `READERS`.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path.stat().st_size)
    except DamagedFile as error:
        raise _unreadable(path, error.what, *error.details) from error
    except OSError as error:
        raise _unreadable(path, error.strerror or type(error).__name__) from error


def _unreadable(path: Path, reason: str, *details: str) -> WeightsError:
    lines = [f"got {reason}", *details]
    if not any(line.startswith("expected") for line in lines):
        lines.append("expected tensors and plain values in torch's format, or .safetensors")
    if not any(line.startswith("next: ") for line in lines):
        lines.append("next: get the file again; or where it was made, torch.save(model.state_dict(), FILE)")
    return WeightsError(f"{path} cannot be read as weights", *sorted(lines, key=lambda line: line.startswith("next: ")))


def _read(file: IO[bytes], size: int) -> TorchFile:
    if not size:
        raise DamagedFile("an empty file")
    head = file.read(HEAD_BYTES)
    if head.startswith(b"PK\3\4"):
        parts = read_zip(file, size)
        value = read_pickle(parts.pickle, ALLOWED, old_strings_are_text=True)
        builder = _Builder(parts.storages, parts.byteorder)
        return TorchFile(builder.content(value), "torch zip", builder.ignored)
    if is_legacy(head):
        file.seek(0)
        older = read_legacy(file, size, ALLOWED)
        builder = _Builder(older.storages, "little")
        return TorchFile(builder.content(older.value), "torch legacy", builder.ignored)
    raise _not_torch(file, head)


def _not_torch(file: IO[bytes], head: bytes) -> DamagedFile:
    """Say what a file is instead."""
    if head[257:262] == b"ustar":
        return DamagedFile(
            "a tar archive; torch before 0.1.10 wrote such files",
            "next: load it with an old torch, and torch.save(state_dict, FILE) again",
        )
    if head[8:9] == b"{":
        return DamagedFile("a safetensors file under another name", "next: let its name end in .safetensors")
    for beginning, what in OTHERS.items():
        if head.lstrip().startswith(beginning):
            kind, _, step = what.partition("; ")
            return DamagedFile(kind, *filter(None, [step]))
    try:
        with mmap(file.fileno(), 0, access=ACCESS_READ) as mapped:
            read_pickle(mapped, ALLOWED)
    except DamagedFile as error:
        return DamagedFile(
            f"no file of torch's: it begins with {head[:12]!r}", f"as a pickle: {error.what}", *error.details
        )
    return DamagedFile("a pickle that torch did not write", "nothing was run", "next: torch.save() what it holds")


def _check_method(call: Inert) -> None:
    owner, name = call.args or (None, None)
    if not (isinstance(owner, Inert) and owner.name == HISTORY_BUFFER and owner.args is None and type(name) is str):
        raise DamagedFile(f"the pickle names {call.name} of something that is no {HISTORY_BUFFER}", "nothing was run")


class _Builder:
    """Makes the content out of a pickle's value and the storages beside it."""

    def __init__(self, storages: dict[str, torch.Tensor], byteorder: str) -> None:
        self.storages = storages  # uint8 [bytes] by key
        self.byteorder = byteorder
        # What each value became, by the id of the value, which is kept so that its id stays its own.
        self.built: dict[int, tuple[Any, Any]] = {}
        self.swapped: dict[str, torch.dtype] = {}  # storages already in this machine's byte order
        self.names: set[str] = set()
        self.left = MAX_SHARING * sum(data.numel() for data in storages.values()) + SHARING_FREE

    @property
    def ignored(self) -> tuple[str, ...]:
        return tuple(sorted(self.names))

    def content(self, value: Any) -> Any:
        for each in stand_ins(value):
            if each.name in GETATTR:
                _check_method(each)
        try:
            return self.build(value)
        except UNSOUND as error:
            reason = str(error).partition("\n")[0][:200]
            raise DamagedFile("a file of unsound structure", f"got: {type(error).__name__}: {reason}") from error

    def build(self, value: Any) -> Any:
        if not isinstance(value, Inert | dict | list | tuple):
            return value
        if id(value) not in self.built:
            self.built[id(value)] = value, self._made(value)
        return self.built[id(value)][1]

    def _made(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self.build(each) for key, each in value.items()}
        if isinstance(value, list | tuple):
            return type(value)([self.build(each) for each in value])
        made = self._storage(value) if value.name == PERSISTENT_ID else READERS[value.name](self.build, value)
        if isinstance(made, Inert):
            self.names.add(made.name)
        elif isinstance(made, torch.Tensor) and value.name != PERSISTENT_ID:
            self.left -= made.numel() * made.element_size()
            if self.left < 0:
                raise DamagedFile("tensors that share their storages many times over, which no net does")
        return made

    def _storage(self, reference: Inert) -> torch.Tensor:
        """Return the storage that a persistent id means, as a tensor [n]."""
        (persistent_id,) = reference.args or ()
        claim = read_claim(persistent_id)
        if claim.key not in self.storages:
            raise DamagedFile(f"a tensor's storage {claim.key[:100]!a} is not in the file")
        storage = typed(self.storages[claim.key], claim)
        if self.byteorder != sys.byteorder:
            self._swap_once(claim)
        return storage

    def _swap_once(self, claim: StorageClaim) -> None:
        """Bring a storage into this machine's byte order, in place."""
        if claim.untyped or self.swapped.get(claim.key, claim.dtype) != claim.dtype:
            raise DamagedFile(f"a {self.byteorder}-endian file with a storage of no dtype of its own")
        if claim.key not in self.swapped:
            self.swapped[claim.key] = claim.dtype
            self.storages[claim.key].numpy().view(f"u{claim.dtype.itemsize}").byteswap(inplace=True)
