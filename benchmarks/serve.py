"""Does the service hold at twice what it can do, and how much of the engine's rate comes out?

run: python benchmarks/serve.py PHOTOS MODEL        writes results/serve.json; about 8 minutes
PHOTOS  JPEGs; MODEL  weights that `resnetkit bench` knows here, or an exported model
needs: an idle machine, wrk

1. A loop in one process decodes the photos and infers them in batches, on the same engine, beside the generator, which
   sends the same requests at the same rate to a server that reads and drops them.
2. The same generator at the same rate, at least twice what is answered, at the service, for five minutes.
Latency of answers with classes is the service's own, from its histogram; wrk's is of all answers, refusals too.
The exit code is 1 where a request had no answer, an error other than the full queue's, or the goal is missed.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.classifier import open_classifier
from resnetkit.home import write_json
from resnetkit.predict import shown
from resnetkit.provenance import provenance
from resnetkit.serve.limits import Limits

RESULT = Path(__file__).parents[1] / "results" / "serve.json"
LUA = Path(__file__).parent / "load.lua"
CONNECTIONS = 512
LATENCY_MS = 250  # of an answer, about: a connection waits for it, and pauses then
BATCH = Limits().batch_size
LOOP_SECONDS, LOAD_SECONDS = 30, 300
TIMES = 2.4  # of the loop's rate are sent: at least twice what the service answers
GOAL = 0.85  # of the loop's rate


def loop(photos: list[Path], model: str, seconds: float) -> float:
    """Decode and infer in batches for so long; returns images a second."""
    engine = open_classifier(model, engine_name="auto").engine
    contents = itertools.cycle([file.read_bytes() for file in photos])
    done, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        engine.logits(np.stack([shown(next(contents), "photo", engine.preprocess) for _ in range(BATCH)]))
        done += BATCH
    return done / (time.monotonic() - started)


def drop_all(port: int) -> None:
    """Read requests and drop them."""

    class Dropping(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            self.transport, self.left, self.head = transport, 0, b""

        def data_received(self, data: bytes) -> None:
            while data:
                if not self.left:
                    self.head += data
                    head, found, data = self.head.partition(b"\r\n\r\n")
                    if not found:
                        return
                    length = re.search(rb"(?i)content-length: (\d+)", head)
                    self.left, self.head = int(length[1]) if length else 0, b""
                taken = min(self.left, len(data))
                self.left -= taken
                data = data[taken:]
                if not self.left:
                    self.transport.write(b"HTTP/1.1 503 x\r\nContent-Length: 0\r\n\r\n")

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Dropping, "127.0.0.1", port)
        await server.serve_forever()

    asyncio.run(serve())


def generator(port: int, listed: Path, seconds: int, rate: float) -> subprocess.Popen[str]:
    """Start wrk: so many connections, each with a pause that makes the rate."""
    pause = 1000 * CONNECTIONS / rate - LATENCY_MS
    facts = os.environ | {"PHOTOS": str(listed), "PAUSE_MS": f"{pause:.0f}"}
    words = ["wrk", "--threads", "1", "--connections", str(CONNECTIONS), "--duration", f"{seconds}s",
             "--timeout", "60s", "--script", str(LUA), f"http://127.0.0.1:{port}"]  # fmt: skip
    return subprocess.Popen(words, env=facts, stdout=subprocess.PIPE, text=True)


def told(text: str) -> dict[str, Any]:
    """Read what wrk says."""
    said = {}
    for name in ("STATUSES", "SUMMARY", "LATENCY"):
        line = next(line for line in text.splitlines() if line.startswith(name))
        said[name.lower()] = {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", line)}
    return said


def metrics(port: int) -> dict[str, float]:
    """Return the service's counters."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def percentile(counted: dict[str, float], share: float) -> float:
    """Return what so many percent of the answers with classes took in the service, at most: the bucket's upper end."""
    pattern = re.compile(r'resnetkit_request_seconds_bucket\{le="([^"]+)",route="predict",status="200"\}')
    buckets = sorted((float(found[1]), count) for name, count in counted.items() if (found := pattern.fullmatch(name)))
    return next(end for end, count in buckets if count >= share / 100 * buckets[-1][1])


def memory(pid: int) -> int:
    """Return the bytes that a process has in memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def cpu_seconds(pid: int) -> float:
    """Return the CPU seconds of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def load_run(photos: list[Path], model: str) -> dict[str, Any]:
    """Do both parts."""
    with tempfile.TemporaryDirectory() as scratch:
        listed = Path(scratch) / "photos"
        listed.write_text("".join(f"{file}\n" for file in photos))
        alone = loop(photos, model, LOOP_SECONDS)
        rate = TIMES * alone
        print(f"loop alone {alone:.1f} images/s", flush=True)
        dropping = subprocess.Popen([sys.executable, __file__, "drop", "8099"])
        time.sleep(1)
        sending = generator(8099, listed, LOOP_SECONDS + 5, rate)
        time.sleep(2)
        beside = loop(photos, model, LOOP_SECONDS)
        sent = told(sending.communicate()[0])
        dropping.kill()
        dropping.wait()
        print(f"loop beside the generator {beside:.1f} images/s", flush=True)
        words = [sys.executable, "-m", "resnetkit", "serve", model, "--port", "8098"]
        service = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
        assert service.stderr
        engine = ""
        for line in service.stderr:
            engine = line.rpartition("engine ")[2].strip() or engine if "engine" in line else engine
            if line.startswith("serving"):
                break
        before, started_at = memory(service.pid), cpu_seconds(service.pid)
        sending = generator(8098, listed, LOAD_SECONDS, rate)
        time.sleep(LOAD_SECONDS / 2)
        middle = memory(service.pid)
        found = told(sending.communicate()[0])
        after, spent = memory(service.pid), cpu_seconds(service.pid) - started_at
        counted = metrics(8098)
        service.terminate()
        service.wait()
    seconds = found["summary"]["duration_us"] / 1e6
    answered = found["statuses"].get("200", 0) / seconds
    batches = counted["resnetkit_batch_images_count"]
    return {
        "engine": engine, "photos": len(photos), "connections": CONNECTIONS, "asked_a_second": rate,
        "loop_alone": alone, "loop_beside": beside,
        "sent_beside_loop_a_second": sent["summary"]["requests"] / (LOOP_SECONDS + 5),
        "sent_a_second": found["summary"]["requests"] / seconds, "answered_a_second": answered,
        "share_of_loop": answered / beside, "goal": GOAL,
        "statuses": found["statuses"], "errors": found["summary"], "latency_us": found["latency"],
        "images_a_batch": counted["resnetkit_batch_images_sum"] / batches,
        "engine_busy": counted["resnetkit_batch_seconds_sum"] / seconds,
        "seconds_of_answers": {f"p{share}": percentile(counted, share) for share in (50, 99)},
        "cpu_of_service": spent / seconds, "memory": {"before": before, "middle": middle, "after": after},
    }  # fmt: skip


def main() -> None:
    """Measure and write it down."""
    photos = sorted(Path(sys.argv[1]).rglob("*.JPEG"))
    found = load_run(photos, sys.argv[2])
    facts = provenance() | {"command": "python benchmarks/serve.py PHOTOS MODEL"}
    write_json(RESULT, {"load": found, "provenance": facts})
    print(json.dumps(found, indent=1))
    errors = {name: found["errors"][name] for name in ("connect", "read", "write", "timeout")}
    held = set(found["statuses"]) <= {"200", "503"} and not any(errors.values())
    raise SystemExit(
        not (held and found["share_of_loop"] >= GOAL and found["sent_a_second"] >= 2 * found["answered_a_second"])
    )


if __name__ == "__main__":
    drop_all(int(sys.argv[2])) if sys.argv[1] == "drop" else main()
