"""Fetch an archive over HTTP or through the npm client, and show how far long work is."""

from __future__ import annotations

import http.client
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from resnetkit.errors import SourceError

CONNECT_SECONDS = 10.0
NPM_SECONDS = 1800.0  # for all of it; the npm client shows no rate to judge by
CHUNK_BYTES = 1 << 18


Advance = Callable[[int], None]  # called with the bytes done since the last call


@contextmanager
def meter(label: str, total_bytes: int | None, show: bool) -> Iterator[Advance]:
    """Show work on stderr: a bar with rate and time left on a terminal, else a line at each tenth of it."""
    if not show:
        yield lambda num_bytes: None
    elif sys.stderr.isatty():
        yield from _bar(label, total_bytes)
    else:
        yield _Lines(label, total_bytes).advance


def _bar(label: str, total_bytes: int | None) -> Iterator[Advance]:
    from rich import progress
    from rich.console import Console

    columns = (
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.DownloadColumn(),
        progress.TransferSpeedColumn(),
        progress.TimeRemainingColumn(),
    )
    with progress.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(label, total=total_bytes)
        yield lambda num_bytes: bar.advance(task, num_bytes)


class _Lines:
    def __init__(self, label: str, total_bytes: int | None) -> None:
        self.label, self.total, self.done, self.tenths = label, total_bytes, 0, 0
        print(label, file=sys.stderr, flush=True)

    def advance(self, num_bytes: int) -> None:
        self.done += num_bytes
        tenths = 10 * self.done // self.total if self.total else 0
        if tenths > self.tenths:
            self.tenths = tenths
            print(f"{self.label}: {10 * tenths} %", file=sys.stderr, flush=True)


def download(url: str, target: Path, max_bytes: int, show: bool) -> None:
    """Fetch `url` into the new file `target`. Raises SourceError with the reason in `what`."""
    try:
        with urllib.request.urlopen(url, timeout=CONNECT_SECONDS) as response, target.open("xb") as file:
            length = response.headers.get("Content-Length", "")
            total = int(length) if length.isdigit() else None
            with meter(f"download {url}", total, show) as advance:
                while chunk := response.read(CHUNK_BYTES):
                    file.write(chunk)
                    advance(len(chunk))
                    if file.tell() > max_bytes:
                        raise SourceError(f"more than {max_bytes} bytes")
            if total is not None and file.tell() != total:
                raise SourceError(f"ended after {file.tell()} of {total} bytes")
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise SourceError(f"{getattr(error, 'reason', None) or error}") from error


def npm_pack(package: str, folder: Path, show: bool) -> Path:
    """Fetch `package` (name@version) with the npm client into `folder` and return the archive's path.

    Raises SourceError with the reason in `what`.
    """
    npm = shutil.which("npm")
    if npm is None:
        raise SourceError("npm is not installed")
    command = [npm, "pack", package, "--pack-destination", str(folder), "--ignore-scripts"]
    command += ["--no-update-notifier", "--fetch-retries=1", "--fetch-retry-mintimeout=1000"]
    with meter(f"download {package} with npm", None, show):
        _run(command, folder)
    archives = list(folder.glob("*.tgz"))
    if len(archives) != 1:
        raise SourceError(f"npm left {len(archives)} archives")
    return archives[0]


def _run(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=NPM_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SourceError(f"npm: {error}") from error
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("npm error", "npm ERR!"))]
        raise SourceError("; ".join([f"npm ended with exit code {done.returncode}", *errors[:3]])[:400])
