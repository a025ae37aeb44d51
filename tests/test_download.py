from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from resnetkit.data.download import download, meter, npm_pack
from resnetkit.errors import SourceError

CONTENT = bytes(range(256)) * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        if self.path != "/unsized":
            self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:5000] if self.path == "/short" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/whole", "/unsized"])
def test_a_download_is_the_served_bytes(
    server: str, tmp_path: Path, path: str, capsys: pytest.CaptureFixture[str]
) -> None:
    download(server + path, tmp_path / "file", 2**21, show=True)
    assert (tmp_path / "file").read_bytes() == CONTENT
    shown = capsys.readouterr()
    assert shown.out == "" and f"download {server}{path}" in shown.err
    assert ("100 %" in shown.err) == (path == "/whole")


@pytest.mark.parametrize(
    ("path", "limit", "why"),
    [
        ("/missing", 2**21, "Not Found"),
        ("/short", 2**21, f"ended after 5000 of {len(CONTENT)} bytes"),
        ("/whole", 1000, "more than 1000 bytes"),
    ],
)
def test_failed_downloads_say_why(server: str, tmp_path: Path, path: str, limit: int, why: str) -> None:
    with pytest.raises(SourceError, match=why):
        download(server + path, tmp_path / "file", limit, show=False)


def test_a_refused_connection_and_a_wrong_address_say_why(tmp_path: Path) -> None:
    for url, why in {"http://127.0.0.1:9/x": "refused", "nonsense": "unknown url", "http://[/": "Invalid"}.items():
        with pytest.raises(SourceError, match=why):
            download(url, tmp_path / "file", 1, show=False)


def write_npm(folder: Path, script: str) -> Path:
    """Put an executable named npm into `folder` that runs `script` with pack's destination in $4."""
    folder.mkdir()
    (folder / "npm").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "npm").chmod(0o755)
    return folder


def test_npm_is_asked_for_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = 'echo "$@" > asked; echo packed > "$4/tiny-pixels-1.0.0.tgz"'
    monkeypatch.setenv("PATH", f"{write_npm(tmp_path / 'bin', script)}:/usr/bin:/bin")
    folder = tmp_path / "here"
    folder.mkdir()
    assert npm_pack("tiny-pixels@1.0.0", folder, show=False).read_text() == "packed\n"
    assert (folder / "asked").read_text().startswith(f"pack tiny-pixels@1.0.0 --pack-destination {folder}")


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'npm warn old' >&2; echo 'npm error code E404' >&2; exit 3", "exit code 3; npm error code E404$"),
        ("exit 0", "npm left 0 archives"),
    ],
)
def test_npm_failures_say_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, why: str) -> None:
    monkeypatch.setenv("PATH", f"{write_npm(tmp_path / 'bin', script)}:/usr/bin:/bin")
    with pytest.raises(SourceError, match=why):
        npm_pack("tiny-pixels@1.0.0", tmp_path, show=False)


def test_a_machine_without_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="npm is not installed"):
        npm_pack("tiny-pixels@1.0.0", tmp_path, show=False)


def test_the_meter_is_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with meter("unpack it", 2000, show=True) as advance:
        advance(2000)
    shown = capsys.readouterr()
    assert shown.out == "" and "unpack it" in shown.err and "2.0/2.0 kB" in shown.err
    with meter("unpack it", 2000, show=False) as advance:
        advance(2000)
    assert capsys.readouterr().err == ""


def test_the_meter_writes_a_line_at_each_tenth_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    with meter("unpack it", 1000, show=True) as advance:
        for _ in range(100):
            advance(10)
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["unpack it", *(f"unpack it: {percent} %" for percent in range(10, 101, 10))]
