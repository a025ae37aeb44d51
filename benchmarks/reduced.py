"""What does it change, and save, to decode a camera's many pixels at a smaller size?

run: python benchmarks/reduced.py PHOTOS WEIGHTS      writes results/reduced.json; about 20 minutes
PHOTOS   ImageNet photos in folders named by synset
WEIGHTS  a ResNet-18 for ImageNet

Each photo is enlarged to 12 and to 50 megapixels and kept as a JPEG, as it is and with the noise of a sensor (which no
enlarged photo has, and which is what decoding at a smaller size could treat otherwise), then decoded whole and smaller,
in turns, and resized as evaluation does.
"""

from __future__ import annotations

import io
import json
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from resnetkit.data.decode import decode
from resnetkit.data.resize import least_side, view, view_of
from resnetkit.engines import Engine
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.home import write_json
from resnetkit.load import load_model
from resnetkit.metrics import wilson_interval
from resnetkit.provenance import provenance
from resnetkit.recipe import ResizeFamily

RESULT = Path(__file__).parents[1] / "results" / "reduced.json"
MEGAPIXELS = (12, 50)
NOISES = (0, 8)  # standard deviation, in levels of 256
QUALITY = 92
FAMILIES: tuple[ResizeFamily, ...] = ("pillow-bilinear", "pillow-bicubic", "torch-bilinear")  # the worst one counts
BOUNDS = {"mean_levels": 0.5, "largest_levels": 8, "agreement": 0.98}  # of the worst photo, of any pixel, of top-1


def enlarged(file: Path, megapixels: int, noise: float, rng: np.random.Generator) -> bytes:
    """Return a photo as a camera might have taken it; its sides are multiples of 16, as cameras' are."""
    with Image.open(file) as image:
        rgb = image.convert("RGB")
    scale = (megapixels * 1e6 / (rgb.width * rgb.height)) ** 0.5
    sides = (round(rgb.width * scale / 16) * 16, round(rgb.height * scale / 16) * 16)
    large = rgb.resize(sides, Image.Resampling.BICUBIC)
    if noise:
        grain = rng.standard_normal((sides[1], sides[0], 1), np.float32) * np.float32(noise)
        large = Image.fromarray(np.clip(np.asarray(large) + grain, 0, 255).astype(np.uint8))
    content = io.BytesIO()
    large.save(content, "JPEG", quality=QUALITY)
    return content.getvalue()


def timed_views(data: bytes, engine: Engine, side: int | None) -> tuple[list[NDArray[np.uint8]], float]:
    """Return what the model is shown of a file, in its own family of resizing first, and the seconds that one took."""
    started = time.perf_counter()
    pixels = decode(data, "photo", side)
    views = [view(pixels, **view_of(engine.preprocess))]
    seconds = time.perf_counter() - started
    others = [replace(engine.preprocess, family=family) for family in FAMILIES if family != engine.preprocess.family]
    return [*views, *(view(pixels, **view_of(other)) for other in others)], seconds


def compare(photos: list[Path], engine: Engine, megapixels: int, noise: float) -> dict[str, Any]:
    """Compare both ways on all photos."""
    rng = np.random.default_rng(0)
    side = least_side(engine.preprocess)
    means, largest, whole_seconds, smaller_seconds, same = [], 0, [], [], 0
    for number, file in enumerate(photos):
        data = enlarged(file, megapixels, noise, rng)
        whole, seconds = timed_views(data, engine, None)
        smaller, fewer = timed_views(data, engine, side)
        whole_seconds.append(seconds)
        smaller_seconds.append(fewer)
        apart = [np.abs(one.astype(np.int16) - other) for one, other in zip(whole, smaller, strict=True)]
        means.append(max(float(each.mean()) for each in apart))
        largest = max(largest, *(int(each.max()) for each in apart))
        logits = engine.logits(np.stack((whole[0], smaller[0])))
        same += int(logits[0].argmax() == logits[1].argmax())
        if number % 20 == 0:
            print(megapixels, noise, number, file=sys.stderr, flush=True)
    low, high = wilson_interval(same, len(photos))
    found = {"worst_photo_mean_levels": max(means), "largest_levels": largest, "agreement": same / len(photos)}
    within = (found["worst_photo_mean_levels"] <= BOUNDS["mean_levels"] and largest <= BOUNDS["largest_levels"]
              and found["agreement"] >= BOUNDS["agreement"])  # fmt: skip
    middle = statistics.median(whole_seconds), statistics.median(smaller_seconds)
    return found | {
        "photos": len(photos), "agree": same, "agreement_interval": [low, high], "within_bounds": within,
        "mean_levels": statistics.fmean(means), "seconds_whole": middle[0], "seconds_smaller": middle[1],
        "times_as_fast": statistics.median(a / b for a, b in zip(whole_seconds, smaller_seconds, strict=True)),
    }  # fmt: skip


def main() -> None:
    """Compare at each size, with and without noise."""
    photos = sorted(Path(sys.argv[1]).rglob("*.JPEG"))
    loaded = load_model(sys.argv[2])
    engine = TorchEngine(loaded.model, loaded.preprocess)
    found = [{"megapixels": size, "noise": noise} | compare(photos, engine, size, noise)
             for size in MEGAPIXELS for noise in NOISES]  # fmt: skip
    facts = provenance() | {"command": "python benchmarks/reduced.py PHOTOS WEIGHTS"}
    write_json(RESULT, {"bounds": BOUNDS, "reduced": found, "provenance": facts})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
