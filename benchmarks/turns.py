"""Sides of a comparison as processes that take turns: each works only when it is its turn, so that none is timed while
another works, and what the machine does meanwhile meets them all.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any


class Turn:
    """A side's turns: called after each one's steps, it tells the time, waits for the next and returns what is said."""

    def __init__(self) -> None:
        self.started: float | None = None
        self.facts: dict[str, Any] = {}  # more to tell, once

    def __call__(self) -> str:
        if self.started is None:
            print("READY", flush=True)
        else:
            self.tell()
        said = sys.stdin.readline()
        if not said:
            os._exit(0)
        self.started = time.perf_counter()
        return said.strip()

    def tell(self, **more: Any) -> None:
        """Tell of a turn that is over."""
        assert self.started is not None
        facts = {"seconds": time.perf_counter() - self.started, "peak_bytes": peak_bytes()}
        print("TURN", json.dumps(facts | self.facts | more), flush=True)
        self.facts = {}

    def forget(self, **facts: Any) -> None:
        """Begin the turn's time anew: what was done in it so far is not to be timed; tell some facts of it."""
        self.started = time.perf_counter()
        self.facts |= facts


def peak_bytes() -> int:
    """Return the most memory that this process had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


class Side:
    """A side's process."""

    def __init__(self, script: str, *words: str) -> None:
        self.name = " ".join(words)
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - for as long as the process
        self.process = subprocess.Popen(
            [sys.executable, script, *words],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, start_new_session=True,
        )  # fmt: skip
        self.told("READY")  # what it imports and builds is not to run beside another's turn

    def told(self, word: str) -> str:
        """Return what it says after a word that begins a line."""
        assert self.process.stdout
        for line in self.process.stdout:
            if line.startswith(word):
                return line.removeprefix(word)
        code = self.process.wait()
        self.errors.seek(0)
        raise SystemExit(f"{self.errors.read()[-2000:]}\na side ended with exit code {code}: {self.name}")

    def turn(self, say: str = "") -> dict[str, Any]:
        """Let it work, and say something to it; returns its seconds and its peak memory."""
        assert self.process.stdin
        self.process.stdin.write(f"{say}\n")
        self.process.stdin.flush()
        return dict(json.loads(self.told("TURN ")))

    def end(self) -> None:
        """End it and its workers."""
        with suppress(ProcessLookupError):  # it has ended
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
