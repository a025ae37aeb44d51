"""Threads or processes: which prepares batches of photos faster on all cores, and in how much memory?

run: python benchmarks/workers.py PHOTOS      writes results/workers.json; about 2 minutes
PHOTOS   a folder of class folders with JPEGs of ImageNet's size
needs: an idle machine

The same photos by the same code (a random resized crop of 224 pixels, a mirror): in our threads, which share one
process, and in worker processes of torch's loader, which hand batches over in shared memory.  In turns; the first
round warms up.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnetkit.data.opening import open_evaluation_data
from resnetkit.data.photo_loader import PHOTO, PhotoBatches
from resnetkit.data.photo_transforms import HorizontalFlip, RandomResizedCrop
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.sampler import epoch_order
from resnetkit.data.transforms import random_stream
from resnetkit.home import write_json
from resnetkit.provenance import cores_of_process, provenance

RESULT = Path(__file__).parents[1] / "results" / "workers.json"
ROUNDS, LAPS, BATCH, SIZE = 7, 3, 32, 224
TRANSFORMS = (RandomResizedCrop(SIZE, family="torch-bilinear"), HorizontalFlip())


class Shown(torch.utils.data.Dataset[torch.Tensor]):
    """Photos as training sees them, for torch's loader."""

    def __init__(self, split: PhotoSplit) -> None:
        self.split = split

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, index: int) -> torch.Tensor:
        rng, pixels = random_stream(0, PHOTO, index), self.split.read(index)
        for transform in TRANSFORMS:
            pixels = transform(pixels, rng)
        return torch.from_numpy(pixels)


def in_threads(split: PhotoSplit, threads: int) -> Callable[[int], Iterator[Any]]:
    """Return our batches, prepared by some threads."""
    steps = -(-len(split) // BATCH)
    loader = PhotoBatches(
        read=split.read, labels=split.labels.astype(np.int64), order=lambda epoch: epoch_order(0, epoch, len(split)),
        steps_per_epoch=steps, batch_size=BATCH, transforms=TRANSFORMS, image_size=SIZE,
        normalize=lambda images: images, seed=0, threads=threads)  # fmt: skip
    return lambda lap: (loader.at(lap * steps + step).pixels for step in range(steps))


def in_processes(split: PhotoSplit, workers: int) -> Callable[[int], Iterator[Any]]:
    """Return torch's batches, prepared by worker processes that stay."""
    loader = torch.utils.data.DataLoader(
        Shown(split), BATCH, shuffle=True, num_workers=workers, persistent_workers=True
    )
    return lambda lap: iter(loader)


def main() -> None:
    """Time each way in its turn."""
    torch.set_num_threads(1)
    data = open_evaluation_data(sys.argv[1])
    assert isinstance(data.split, PhotoSplit)
    cores = cores_of_process()
    ways = {"1 thread": in_threads(data.split, 1), f"{cores} threads": in_threads(data.split, cores),
            f"{cores} processes": in_processes(data.split, cores)}  # fmt: skip
    rates: dict[str, list[float]] = {name: [] for name in ways}
    lap = 0
    for turn in range(ROUNDS + 1):
        for name, way in ways.items():
            started, images = time.perf_counter(), 0
            for _ in range(LAPS):
                images += sum(len(batch) for batch in way(lap))
                lap += 1
            if turn:
                rates[name].append(images / (time.perf_counter() - started))
    found = {name: {"images_per_second": statistics.median(each), "rounds": each} for name, each in rates.items()}
    said = {"command": "python benchmarks/workers.py PHOTOS"}
    write_json(RESULT, {"workers": found, "photos": len(data.split), "cores": cores, "provenance": provenance() | said})
    print(json.dumps({name: round(each["images_per_second"]) for name, each in found.items()}, indent=1))  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
