"""What tests of the service share: a picture, and a process that serves."""

from __future__ import annotations

import http.client
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image


def png(color: tuple[int, int, int] = (10, 200, 60), size: tuple[int, int] = (40, 30)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, color).save(file, "PNG")
    return file.getvalue()


class Service:
    """A process of `resnetkit serve`, and its port."""

    def __init__(self, model: Path, *words: str, port: int = 0) -> None:
        command = [sys.executable, "-m", "resnetkit", "serve", str(model), "--port", str(port), *words]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line)
            if line.startswith("serving on "):
                break
        else:
            raise AssertionError("".join(self.lines))
        self.port = int(line.rsplit(":", 1)[1])
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stderr
        self.lines.extend(self.process.stderr)

    def ask(self, method: str, path: str, body: bytes | None = None, timeout: float = 20) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            data = answer.read()
            return answer.status, json.loads(data) if answer.getheader("content-type") == "application/json" else data
        finally:
            connection.close()

    def waiting(self) -> float:
        _, text = self.ask("GET", "/metrics")
        return float(next(line.split()[1] for line in text.decode().splitlines()
                          if line.startswith("resnetkit_images_waiting ")))  # fmt: skip


@contextmanager
def service(model: Path, *words: str, port: int = 0) -> Iterator[Service]:
    running = Service(model, *words, port=port)
    try:
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
        running.process.wait()
        running.reader.join()
        assert running.process.stderr
        running.process.stderr.close()


def wait_for(condition: Any, seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)
