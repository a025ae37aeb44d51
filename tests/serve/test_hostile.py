"""Requests made of the OpenAPI document, and thousands of mutated images: no 5xx, no crash, memory flat."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from resnetkit.home import write_json
from resnetkit.provenance import provenance
from services import Service, png, service
from test_export import loaded, photos, weights  # fixtures

__all__ = ["loaded", "photos", "weights"]

ROOT = Path(__file__).parents[2]
TRICKY = ROOT.parent / "shared" / "data" / "tricky-images.tar"
RESULT = ROOT / "results" / "serve-hostile.json"
MUTATIONS = 10_000
FEW = 300  # in the fast suite
SEED = 20261126


def originals() -> list[bytes]:
    """Small pictures of every kind that is common, to be mutated."""
    rng = np.random.default_rng(SEED)
    picture = Image.fromarray(rng.integers(0, 256, (9, 7, 3), np.uint8)).resize((60, 50))
    found = []
    for kind, options in (("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {}), ("GIF", {}), ("WEBP", {}),
                          ("TIFF", {}), ("BMP", {}), ("PPM", {})):  # fmt: skip
        file = io.BytesIO()
        picture.save(file, kind, **options)
        found.append(file.getvalue())
    return found


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """Cut, overwrite, double or swap parts of a file."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 6)):
        place = int(rng.integers(0, max(1, len(changed))))
        match rng.integers(0, 5):
            case 0:
                del changed[place:]
            case 1:
                changed[place : place + 1] = rng.bytes(1)
            case 2:
                changed[place:place] = rng.bytes(int(rng.integers(1, 50)))
            case 3:
                del changed[place : place + int(rng.integers(1, 50))]
            case _:
                changed[place:place] = changed[place : place + int(rng.integers(1, 200))]
    return bytes(changed)


def memory(running: Service) -> int:
    lines = Path(f"/proc/{running.process.pid}/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def post_mutations(running: Service, count: int) -> dict[str, Any]:
    """Post so many mutated images, one after the other; returns statuses and memory on the way."""
    rng, sources = np.random.default_rng(SEED), originals()
    statuses: dict[int, int] = {}
    resident = []
    for number in range(count):
        status, said = running.ask("POST", "/v1/predict", mutated(sources[number % len(sources)], rng))
        statuses[status] = statuses.get(status, 0) + 1
        assert status < 500, (number, said)
        assert "error" in said if status != 200 else len(said["predictions"]) == 1
        if number % max(1, count // 20) == 0:
            resident.append(memory(running))
    return {"images": count, "statuses": statuses, "resident_bytes": resident}


def test_mutated_images_are_refused_or_answered(weights: Path) -> None:
    with service(weights) as running:
        found = post_mutations(running, FEW)
        assert found["statuses"].get(200, 0) > 10 and found["statuses"].get(422, 0) > 50
        assert running.ask("POST", "/v1/predict", png())[0] == 200
    assert not any("Traceback" in line for line in running.lines)


@pytest.mark.slow
@pytest.mark.skipif(not TRICKY.is_file(), reason="the tricky images are not here")
def test_ten_thousand_mutated_and_every_tricky_image(weights: Path) -> None:
    with service(weights) as running:
        tricky: dict[str, int] = {}
        with tarfile.open(TRICKY) as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file:
                    status, said = running.ask("POST", "/v1/predict", file.read(), timeout=60)
                    assert status < 500, (member.name, said)
                    tricky[str(status)] = tricky.get(str(status), 0) + 1
        found = post_mutations(running, MUTATIONS)
        assert running.ask("POST", "/v1/predict", png())[0] == 200 and running.waiting() == 0
    assert not any("Traceback" in line for line in running.lines)
    start, end = found["resident_bytes"][4], found["resident_bytes"][-1]
    assert end < 1.1 * start
    command = "pytest -m slow tests/serve/test_hostile.py"
    facts = provenance() | {"command": command}
    write_json(RESULT, {"tricky": tricky, "mutated": found, "seed": SEED, "provenance": facts})


@pytest.mark.slow
def test_requests_made_of_the_document(weights: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    with service(weights) as running:
        address = f"http://127.0.0.1:{running.port}"
        program = str(Path(sys.executable).parent / "schemathesis")
        checks = ("not_a_server_error", "status_code_conformance", "content_type_conformance",
                  "response_schema_conformance")  # fmt: skip
        words = [program, "run", f"{address}/openapi.json", "--max-examples", "200", "--seed", "1",
                 "--checks", ",".join(checks)]  # fmt: skip
        done = subprocess.run(words, check=False, capture_output=True, text=True, timeout=1200, cwd=tmp_path)
        assert done.returncode == 0, done.stdout[-4000:]
        assert running.ask("POST", "/v1/predict", png())[0] == 200
    assert not any("Traceback" in line for line in running.lines)
    print(json.dumps({"schemathesis": done.stdout[-1500:]}))
