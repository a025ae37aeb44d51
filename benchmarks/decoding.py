"""How fast are JPEGs decoded by simplejpeg, and how fast by Pillow, in one thread and in as many as there are cores?

run: python benchmarks/decoding.py PHOTOS      writes results/decoding.json; about a minute
PHOTOS   a folder with JPEG files

Both go through the program's own `decode`, in turns; the bytes are held in memory.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch

from resnetkit.data import decode as decoding
from resnetkit.home import write_json
from resnetkit.provenance import provenance, usable_cores

RESULT = Path(__file__).parents[1] / "results" / "decoding.json"
REPEATS = 7


def seconds(photos: dict[str, bytes], threads: int) -> float:
    """Decode all photos once; returns how long it took."""
    with ThreadPoolExecutor(threads) as pool:
        started = time.perf_counter()
        for _ in pool.map(decoding.decode, photos.values(), photos):
            pass
        return time.perf_counter() - started


def main() -> None:
    """Measure in turns and write down medians."""
    files = sorted(file for file in Path(sys.argv[1]).rglob("*") if file.suffix.lower() in {".jpg", ".jpeg"})
    photos = {file.name: file.read_bytes() for file in files}
    without = patch.object(decoding, "jpeg_pixels", lambda image, data: None)
    same = {name: decoding.decode(data, name).tobytes() for name, data in photos.items()}
    with without:
        equal = all(decoding.decode(data, name).tobytes() == same[name] for name, data in photos.items())
    taken: dict[str, list[float]] = {}
    for _ in range(REPEATS):
        for threads in sorted({1, usable_cores()}):
            taken.setdefault(f"simplejpeg, {threads} threads", []).append(seconds(photos, threads))
            with without:
                taken.setdefault(f"pillow, {threads} threads", []).append(seconds(photos, threads))
    found = {name: 1000 * statistics.median(times) / len(photos) for name, times in taken.items()}
    result = {
        "photos": len(photos),
        "photos_sha256": hashlib.sha256(b"".join(photos.values())).hexdigest(),
        "equal_bytes": equal,
        "milliseconds_a_photo": found,
        "ratio": {f"{threads} threads": found[f"simplejpeg, {threads} threads"] / found[f"pillow, {threads} threads"]
                  for threads in sorted({1, usable_cores()})},
    }  # fmt: skip
    write_json(RESULT, result | {"provenance": provenance() | {"command": "python benchmarks/decoding.py PHOTOS"}})
    print(json.dumps(result))


if __name__ == "__main__":
    main()
