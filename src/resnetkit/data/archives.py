"""Read named files from a folder or a tar archive, with every size checked before the bytes are read."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, cast

from resnetkit.errors import DamagedFile

TarErrors = (tarfile.TarError, OSError, EOFError, zlib.error, ValueError, LookupError, ArithmeticError)
GZIP_MAGIC = b"\x1f\x8b"


def read_folder(folder: Path, max_bytes: Mapping[str, int]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the files in `folder` whose names are keys of `max_bytes`.

    Raises DamagedFile for a file above its limit or one that cannot be read.
    """
    for name, limit in max_bytes.items():
        path = folder / name
        if path.is_file():
            _check_size(str(path), path.stat().st_size, limit)
            try:
                content = path.read_bytes()
            except OSError as error:
                raise DamagedFile(f"{path} cannot be read", f"got: {error}") from error
            yield name, content


def read_tar(path: Path, max_bytes: Mapping[str, int], on_read: Callable[[int], None]) -> Iterator[tuple[str, bytes]]:
    """Yield (name, content) of the members of a .tar or .tar.gz whose last path part is a key of `max_bytes`.

    Nothing is extracted to disk, links are passed over, and no more is unpacked than 64 MB above the limits
    together. `on_read` gets the number of compressed bytes read since its last call. Raises DamagedFile for a
    damaged archive, a member above its limit or there twice.
    """
    seen: set[str] = set()
    try:
        with path.open("rb") as file, _unpacked(file) as stream:
            bounded = _Bounded(stream, sum(max_bytes.values()) + 2**26, path, file, on_read)
            with tarfile.open(fileobj=cast(BinaryIO, bounded), mode="r|") as archive:
                for member in archive:
                    name = member.name.rpartition("/")[2]
                    if not member.isreg() or name not in max_bytes:
                        continue
                    if name in seen:
                        raise DamagedFile(f"{path} holds {name} twice")
                    seen.add(name)
                    _check_size(f"{name} in {path}", member.size, max_bytes[name])
                    content = archive.extractfile(member)
                    yield name, content.read() if content else b""
    except TarErrors as error:
        raise DamagedFile(
            f"{path} is not a sound .tar or .tar.gz archive",
            f"got: {type(error).__name__}: {error}",
            "next: fetch it again, or name another file",
        ) from error


def _unpacked(file: BinaryIO) -> io.BufferedIOBase | BinaryIO:
    packed = file.read(2) == GZIP_MAGIC
    file.seek(0)
    return gzip.GzipFile(fileobj=file) if packed else io.BufferedReader(cast(io.RawIOBase, file))


def _check_size(what: str, size: int, limit: int) -> None:
    if size > limit:
        raise DamagedFile(f"{what} is too large", f"got: {size} bytes", f"expected: at most {limit} bytes")


class _Bounded:
    """A stream that ends in an error after `limit` bytes, so that a small archive cannot unpack for ever."""

    def __init__(
        self,
        stream: io.BufferedIOBase | BinaryIO,
        limit: int,
        path: Path,
        file: BinaryIO,
        on_read: Callable[[int], None],
    ) -> None:
        self.stream, self.left, self.path = stream, limit, path
        self.file, self.on_read, self.reported = file, on_read, 0

    def read(self, size: int) -> bytes:
        if size > self.left:
            raise DamagedFile(f"{self.path} unpacks to more than a data set of this name can hold")
        data = self.stream.read(size)
        self.left -= len(data)
        position = self.file.tell()
        self.on_read(position - self.reported)
        self.reported = position
        return data
