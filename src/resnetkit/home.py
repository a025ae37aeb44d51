"""Where resnetkit keeps what it fetches, and how files get there whole or not at all."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import platformdirs

from resnetkit.errors import DamagedFile


def home() -> Path:
    """Return the folder for fetched data: RESNETKIT_HOME, else the platform's cache folder. Not created."""
    chosen = os.environ.get("RESNETKIT_HOME")
    return Path(chosen).expanduser().absolute() if chosen else Path(platformdirs.user_cache_dir("resnetkit"))


def sync_folder(folder: Path) -> None:
    """Make the names in `folder` survive a power cut (a rename changes the folder, not the file)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that becomes `path` only when the block ends well; else `path` stays as it was.

    The bytes go to a temporary name in the same folder, are synced, and renamed. Raises OSError.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        with suppress(OSError):  # the first error is the one to show
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and error.filename in {None, str(temporary)}:
            raise type(error)(error.errno, error.strerror, str(path)) from error
        raise
    sync_folder(path.parent)


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Hold the lock file `path`, alone among processes and threads; `on_wait` is called before waiting.

    The system frees the lock when its process dies, however it dies. Raises OSError.
    """
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, data: object) -> None:
    """Write JSON data atomically."""
    with atomic_write(path) as file:
        file.write((json.dumps(data, indent=1, ensure_ascii=False) + "\n").encode())


def read_json(path: Path) -> Any:
    """Read a JSON file; DamagedFile names it when it is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, too long a number, too deep
        raise DamagedFile(f"{path} is not JSON", f"{error}") from error
