"""How fast do photos become training batches, here and with other libraries, on one core?

run: .venv-parity/bin/python benchmarks/input.py PHOTOS WEIGHTS     writes results/input.json; about 10 minutes
PHOTOS   a folder of class folders, named by synset, with JPEGs of ImageNet's size
WEIGHTS  an ImageNet net, which is evaluated on PHOTOS through each of our ways
needs: an idle machine, make parity (the peers' environment), CIFAR-10 (resnetkit data cifar10)

Every way makes batches of 32 as ImageNet is trained with: a random resized crop of 224 pixels, a mirror, normalisation
to float32.  Each is a process of its own with one thread, that works only when it is its turn; the first round warms
up.  Rates are images by the CPU time that they took, of all threads.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from resnetkit.assemble import assemble
from resnetkit.classifier import classifier_of
from resnetkit.data.opening import open_data
from resnetkit.data.packing import Packing, pack
from resnetkit.data.packs import read_packed
from resnetkit.data.photo_loader import PhotoBatches
from resnetkit.data.photo_transforms import HorizontalFlip, RandomResizedCrop
from resnetkit.data.photos import PhotoDataset, PhotoSplit
from resnetkit.data.resize import view
from resnetkit.data.sampler import block_order, epoch_order
from resnetkit.data.transforms import Preprocess
from resnetkit.engines.of_torch import TorchEngine
from resnetkit.evaluate import evaluate
from resnetkit.fitting import fitting
from resnetkit.home import write_json
from resnetkit.load import LoadedModel, load_model
from resnetkit.memory import keep_freed_memory
from resnetkit.provenance import provenance
from resnetkit.recipe import ResizeFamily
from resnetkit.recipes import load_recipe
from resnetkit.step import train_step

RESULT = Path(__file__).parents[1] / "results" / "input.json"
ROUNDS = 7
LAPS = 2  # times through all photos, of a turn
BATCH, SIZE = 32, 224
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
REFERENCE = "Pillow, torchvision v1"
EXACT = "resnetkit, folder, Pillow's resize"
GOALS = {"resnetkit, folder": 1.7, "resnetkit, shards of JPEGs": 4.0, "resnetkit, shards of pixels": 6.0}
CIFAR_GOAL = 0.03  # of a step, for preparing its batch
PACKINGS = {
    "resnetkit, shards of originals": Packing("original"),
    "resnetkit, shards of JPEGs": Packing("jpeg"),
    "resnetkit, shards of pixels": Packing("raw"),
}

Lap = Callable[[int], Iterator[Any]]  # epoch -> batches


# --- ours ---


def own_way(split: PhotoSplit, family: ResizeFamily) -> Lap:
    """Return our loader of a split, whatever it is stored in."""
    preprocess = Preprocess(SIZE, np.array(MEAN, np.float32), np.array(STD, np.float32))
    blocks = split.blocks()

    def order(epoch: int) -> Any:
        return epoch_order(0, epoch, len(split)) if blocks is None else block_order(0, epoch, len(split), blocks, 1)

    steps = -(-len(split) // BATCH)
    loader = PhotoBatches(
        read=split.read, labels=split.labels.astype(np.int64), order=order, steps_per_epoch=steps, batch_size=BATCH,
        transforms=(RandomResizedCrop(SIZE, family=family), HorizontalFlip()), image_size=SIZE,
        normalize=preprocess.normalize, seed=0, threads=1)  # fmt: skip
    return lambda epoch: (loader.at(epoch * steps + step).images for step in range(steps))


# --- others ---


def torchvision_v1() -> Any:
    """Return the transforms that mmpretrain's and timm's ImageNet recipes come to."""
    from torchvision import transforms

    return transforms.Compose([transforms.RandomResizedCrop(SIZE), transforms.RandomHorizontalFlip(),
                               transforms.ToTensor(), transforms.Normalize(MEAN, STD)])  # fmt: skip


class Files(torch.utils.data.Dataset[Any]):
    """Photos read by a function of the path."""

    def __init__(self, files: list[Path], read: Callable[[Path], Any]) -> None:
        self.files, self.read = files, read

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        return self.read(self.files[index])


def in_loader(data: Any, **options: Any) -> Lap:
    """Return the batches of torch's loader, in this process."""
    loader = torch.utils.data.DataLoader(data, BATCH, **options)
    return lambda epoch: iter(loader)


def pillow_way(files: list[Path], folder: Path) -> Lap:
    """Return Pillow's decoding with torchvision's first transforms."""
    change = torchvision_v1()

    def read(file: Path) -> Any:
        with Image.open(file) as image:
            return change(image.convert("RGB"))

    return in_loader(Files(files, read), shuffle=True)


def torchvision_way(files: list[Path], folder: Path) -> Lap:
    """Return torchvision's own decoding, and its second transforms on bytes."""
    from torchvision.io import ImageReadMode, decode_image
    from torchvision.transforms import v2

    change = v2.Compose([v2.RandomResizedCrop(SIZE, antialias=True), v2.RandomHorizontalFlip(),
                         v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)])  # fmt: skip
    return in_loader(Files(files, lambda file: change(decode_image(str(file), ImageReadMode.RGB))), shuffle=True)


def webdataset_way(files: list[Path], folder: Path) -> Lap:
    """Return WebDataset over our shards of originals, decoded by Pillow as it does."""
    import webdataset

    shards = sorted(map(str, (folder / "originals").glob("train-*.tar")))
    change = torchvision_v1()
    data = webdataset.WebDataset(shards, shardshuffle=False).shuffle(100).decode("pil").to_tuple("jpeg;jpg;png", "cls")
    return in_loader(data.map_tuple(change, int))


def datasets_way(files: list[Path], folder: Path) -> Lap:
    """Return Hugging Face datasets, as its folders of images are, decoded by Pillow as it does."""
    import datasets

    rows = datasets.Dataset.from_dict({"image": list(map(str, files))}).cast_column("image", datasets.Image())
    change = torchvision_v1()
    rows.set_transform(lambda batch: {"image": [change(image.convert("RGB")) for image in batch["image"]]})
    return in_loader(rows, shuffle=True)


OTHERS: dict[str, Callable[[list[Path], Path], Lap]] = {
    REFERENCE: pillow_way,
    "torchvision.io, v2": torchvision_way,
    "WebDataset, Pillow, v1": webdataset_way,
    "Hugging Face datasets, Pillow, v1": datasets_way,
}


# --- one way, in a process of its own ---


def serve(name: str, photos: str, folder: Path) -> None:
    """Go through all photos each time a line comes in; say how long it took."""
    torch.set_num_threads(1)
    if name not in OTHERS:
        keep_freed_memory()  # as training does
    data = open_data(photos)
    assert isinstance(data, PhotoDataset)
    files = [data.train.file(index) for index in range(len(data.train))]
    if name in OTHERS:
        lap = OTHERS[name](files, folder)
    else:
        split = data.train if name not in PACKINGS else read_packed(str(folder / packed_name(name))).train
        lap = own_way(split, "pillow-bilinear" if name == EXACT else "torch-bilinear")
    epoch = 0
    for _ in sys.stdin:
        started, cpu, images = time.perf_counter(), time.process_time(), 0
        for _ in range(LAPS):
            for batch in lap(epoch):
                pixels = batch["image"] if isinstance(batch, dict) else batch[0] if isinstance(batch, list) else batch
                images += len(pixels)
                assert pixels.dtype == torch.float32 and pixels.shape[1:] == (3, SIZE, SIZE), pixels.shape
            epoch += 1
        took = {"seconds": time.perf_counter() - started, "cpu_seconds": time.process_time() - cpu, "images": images}
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps(took | {"peak_bytes": peak}), flush=True)


def packed_name(name: str) -> str:
    """Return the folder of one of our packs."""
    return name.rpartition(" ")[2]


# --- all of them ---


def in_turns(names: list[str], photos: str, folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Let each way go through the photos in its turn; the first round does not count."""
    one_thread = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "HF_DATASETS_OFFLINE": "1"}
    sides = {
        name: subprocess.Popen([sys.executable, __file__, "--way", name, photos, str(folder)], stdin=subprocess.PIPE,
                               stdout=subprocess.PIPE, text=True, env=one_thread)
        for name in names
    }  # fmt: skip
    laps: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    try:
        for turn in range(ROUNDS + 1):
            for name, side in sides.items():
                assert side.stdin is not None and side.stdout is not None
                side.stdin.write("go\n")
                side.stdin.flush()
                line = side.stdout.readline()
                if not line:
                    raise SystemExit(f"{name} ended: {side.wait()}")
                if turn:
                    laps[name].append(json.loads(line))
            print(f"round {turn} of {ROUNDS}", file=sys.stderr)
    finally:
        for side in sides.values():
            side.kill()
            side.wait()
    return laps


def rates(laps: dict[str, list[dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """Sum up the laps of each way, beside those of the reference."""
    per_image = {name: [lap["cpu_seconds"] / lap["images"] for lap in turns] for name, turns in laps.items()}
    return {
        name: {
            "images_per_cpu_second": 1 / statistics.median(times),
            "cpu_milliseconds": 1000 * statistics.median(times),
            "images_per_second": statistics.median(lap["images"] / lap["seconds"] for lap in laps[name]),
            "times_reference": statistics.median(
                theirs / ours for theirs, ours in zip(per_image[REFERENCE], times, strict=True)
            ),
            "peak_bytes": max(lap["peak_bytes"] for lap in laps[name]),
            "milliseconds": [1000 * value for value in times],
        }
        for name, times in per_image.items()
    }


def differences(data: PhotoDataset, folder: Path) -> dict[str, Any]:
    """Compare what evaluation sees through each of our ways with Pillow's resize of the original."""
    found = {}
    exact = {"resize_size": 256, "crop_size": SIZE, "family": "pillow-bilinear", "keep_ratio": True}
    how = exact | {"family": "torch-bilinear"}
    for name in ("resnetkit, folder", *PACKINGS):
        split = data.test if name not in PACKINGS else read_packed(str(folder / packed_name(name))).test
        worst, total = 0, 0.0
        for index in range(len(split)):
            wanted = view(data.test.read(index), **exact).astype(int)  # type: ignore[arg-type]
            difference = np.abs(view(split.read(index), **how).astype(int) - wanted)  # type: ignore[arg-type]
            worst, total = max(worst, int(difference.max())), total + float(difference.mean())
        found[name] = {"largest": worst, "mean": total / len(split)}
    return found


def top1s(weights: str, data: PhotoDataset, folder: Path) -> dict[str, Any]:
    """Evaluate a net on the photos through each of our ways."""
    loaded = load_model(weights)
    found = {"as the weights say, folder": evaluated(loaded, data.test, loaded.preprocess, data)}
    for name in ("resnetkit, folder", *PACKINGS):
        split = data.test if name not in PACKINGS else read_packed(str(folder / packed_name(name))).test
        found[name] = evaluated(loaded, split, replace(loaded.preprocess, family="torch-bilinear"), data)
    return found


def evaluated(loaded: LoadedModel, split: PhotoSplit, preprocess: Preprocess, data: PhotoDataset) -> dict[str, int]:
    """Evaluate a net on a split whose folders are named by synset."""
    fitted, _ = fitting(classifier_of(loaded), split, data.class_names, "PHOTOS")
    outcome = evaluate(TorchEngine(loaded.model, preprocess), fitted)
    return {"images": outcome.images, "correct": outcome.correct}


def cifar() -> dict[str, Any]:
    """Time the preparation of a batch of 128 in memory beside the training step that it is for, in turns."""
    recipe = load_recipe("resnet20")
    training = assemble(recipe, open_data("cifar10"), torch.device("cpu"))
    prepared, stepped = [], []
    for step in range(60):
        started = time.perf_counter()
        batch = training.feed.batches.at(step)
        assert len(batch.images) == 128  # normalised
        between = time.perf_counter()
        train_step(training, batch, step)
        prepared.append(between - started)
        stepped.append(time.perf_counter() - between)
    share = statistics.median(each / (each + step) for each, step in zip(prepared[10:], stepped[10:], strict=True))
    batch_time, step_time = (1000 * statistics.median(each[10:]) for each in (prepared, stepped))
    return {"batch_milliseconds": batch_time, "step_milliseconds": step_time, "share": share, "goal": CIFAR_GOAL}


def main() -> None:
    """Pack, measure in turns, compare pixels and accuracy."""
    source, weights = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for split in ("train", "val"):  # the same photos, to time and to evaluate
            shutil.copytree(source, folder / "photos" / split)
        photos = str(folder / "photos")
        data = open_data(photos)
        assert isinstance(data, PhotoDataset)
        for name, packing in PACKINGS.items():
            pack(data, folder / packed_name(name), packing)
        laps = in_turns([*OTHERS, EXACT, "resnetkit, folder", *PACKINGS], photos, folder)
        found = rates(laps)
        sizes = {
            name: sum(file.stat().st_size for file in (folder / packed_name(name)).glob("*.tar")) for name in PACKINGS
        }
        result = {
            "photos": len(data.train),
            "mean_bytes": float(np.mean([data.train.file(index).stat().st_size for index in range(len(data.train))])),
            "ways": found,
            "input_goals": {
                name: {"goal": goal, "found": found[name]["times_reference"]} for name, goal in GOALS.items()
            },
            "pack_bytes": sizes,
            "pixels": differences(data, folder),
            "top1": top1s(weights, data, folder),
            "cifar": cifar(),
            "data_sha256": data.sha256,
            "peers": {name: version(name) for name in ("torchvision", "webdataset", "datasets")},
        }
    said = {"command": "python benchmarks/input.py PHOTOS WEIGHTS"}
    write_json(RESULT, result | {"provenance": provenance() | said})
    for name, row in found.items():
        print(f"{name:36} {row['cpu_milliseconds']:6.2f} ms  {row['times_reference']:5.2f} times  "
              f"{row['peak_bytes'] / 1e6:6.0f} MB")  # fmt: skip
    print(json.dumps({key: result[key] for key in ("pixels", "top1", "cifar")}, indent=1))


if __name__ == "__main__":
    if sys.argv[1] == "--way":
        serve(sys.argv[2], sys.argv[3], Path(sys.argv[4]))
    else:
        main()
