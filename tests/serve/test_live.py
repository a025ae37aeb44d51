"""A real process: signals, clients that leave, restarts, many forms of trouble."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from resnetkit.cli import main
from services import png, service, wait_for
from test_export import loaded, photos, weights  # fixtures

__all__ = ["loaded", "photos", "weights"]


def test_a_service_answers_reloads_and_ends_well(weights: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.safetensors"
    model.write_bytes(weights.read_bytes())
    with service(model) as running:
        status, said = running.ask("POST", "/v1/predict", png())
        assert status == 200 and said["engine"] == "torch"
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: any("reloaded: " in line for line in running.lines))
        model.write_bytes(b"broken")
        running.process.send_signal(signal.SIGHUP)
        wait_for(lambda: any("not reloaded" in line for line in running.lines))
        assert running.ask("POST", "/v1/predict", png())[0] == 200
        assert b"resnetkit_model_loads 2.0" in running.ask("GET", "/metrics")[1]
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(20) == 143
    assert not any("Traceback" in line for line in running.lines)


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_an_exported_model_is_served_and_explained_without_torch(
    form: str, weights: Path, photos: Path, tmp_path: Path
) -> None:
    target = tmp_path / f"net.{'xml' if form == 'openvino' else 'onnx'}"
    words = ["export", str(weights), "--format", form, "--data", str(photos), "--out", str(target), "--last-map"]
    assert main(words) == 0
    with service(target) as running:
        status, said = running.ask("POST", "/v1/predict", png())
        assert status == 200 and said["engine"] == {"onnx": "onnxruntime", "openvino": "openvino"}[form]
        status, said = running.ask("POST", "/v1/explain", png())
        assert status == 200 and said["explained"] == said["classes"][0]
        assert "libtorch" not in Path(f"/proc/{running.process.pid}/maps").read_text()


def test_no_request_is_dropped_while_the_model_is_opened_anew(weights: Path) -> None:
    with service(weights) as running:
        statuses: list[int] = []
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                statuses.append(running.ask("POST", "/v1/predict", png())[0])

        threads = [threading.Thread(target=ask) for _ in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(3):
            count = sum("reloaded: " in line for line in running.lines)
            running.process.send_signal(signal.SIGHUP)
            wait_for(lambda count=count: sum("reloaded: " in line for line in running.lines) > count)
        wait_for(lambda: len(statuses) > 20)
        stop.set()
        for thread in threads:
            thread.join()
        assert set(statuses) == {200}


def test_what_is_in_flight_is_finished_at_the_end(weights: Path) -> None:
    with service(weights) as running:
        connection = socket.create_connection(("127.0.0.1", running.port))
        body = png(size=(2000, 1500))
        head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
        connection.sendall(head + body[:100])
        time.sleep(0.3)
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        connection.sendall(body[100:])
        answer = b""
        while part := connection.recv(65536):
            answer += part
        assert b"200 OK" in answer and b"predictions" in answer
        connection.close()
        assert running.process.wait(20) == 143
        with pytest.raises(OSError, match="refused"):
            running.ask("GET", "/healthz")


def test_clients_that_leave_free_their_places(weights: Path) -> None:
    with service(weights, "--queue", "16", "--seconds", "5") as running:
        body = png(size=(1200, 900))
        for cut in (0, 50, len(body)):  # while it sends, and while it waits
            for _ in range(40):
                connection = socket.create_connection(("127.0.0.1", running.port))
                head = f"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n".encode()
                connection.sendall(head + body[:cut])
                connection.close()
        wait_for(lambda: running.waiting() == 0)
        assert running.ask("POST", "/v1/predict", png())[0] == 200


def test_a_body_that_does_not_come_is_given_up(weights: Path) -> None:
    with service(weights, "--seconds", "1") as running:
        connection = socket.create_connection(("127.0.0.1", running.port))
        connection.sendall(b"POST /v1/predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nabc")
        assert b"408" in connection.recv(1000).split(b"\r\n")[0]
        connection.close()
        assert running.ask("POST", "/v1/predict", png())[0] == 200


def test_a_killed_service_is_back_within_ten_seconds(weights: Path) -> None:
    with service(weights) as running:
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                try:
                    running.ask("POST", "/v1/predict", png(), timeout=2)
                except (OSError, http.client.HTTPException):  # killed before or within its answer
                    time.sleep(0.01)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.5)
        os.kill(running.process.pid, signal.SIGKILL)
        running.process.wait()
        started = time.monotonic()
        with service(weights, port=running.port) as again:
            assert again.ask("POST", "/v1/predict", png())[0] == 200
            assert time.monotonic() - started < 10
            stop.set()
            for thread in threads:
                thread.join()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "99999"], "--port: expected 0 to 65535"),
        (["--host", "203.0.113.7"], "cannot be listened on"),
        (["--max-images", "65"], "more than may wait"),
        (["--api-key-file", "nowhere"], "cannot be read"),
        (["--seconds", "0"], "expected a number above 0"),
    ],
)
def test_what_cannot_be_served_is_refused_before_the_model_is_loaded(
    weights: Path, words: list[str], said: str
) -> None:
    command = [sys.executable, "-m", "resnetkit", "serve", str(weights), *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and said in done.stderr


def test_a_port_that_is_taken_is_told(weights: Path) -> None:
    with service(weights) as running:
        command = [sys.executable, "-m", "resnetkit", "serve", str(weights), "--port", str(running.port)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and "next: --port N" in done.stderr
