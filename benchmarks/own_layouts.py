"""Does every trainable recipe train on a tree of its own data layout?

run: python benchmarks/own_layouts.py PHOTOS      writes results/own-layouts.json; about 15 minutes on 2 cores
PHOTOS   a folder of class folders named by ImageNet synset, with some photos in all

The trees have the official layouts and few images, made from PHOTOS: what a net learns of them means nothing.  Each
recipe takes two steps of its own command, at its own image size and on its own augmentations, and is evaluated; only
the batch, the number of steps and the images held out are changed.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit import checkpoint
from resnetkit.cli import main as resnetkit
from resnetkit.data import imagenet
from resnetkit.data.decode import decode
from resnetkit.data.resize import resize
from resnetkit.data.spec import DATASETS
from resnetkit.data.trees import read_photos
from resnetkit.home import read_json, write_json
from resnetkit.models import ResNet, find_architecture
from resnetkit.provenance import provenance
from resnetkit.recipes import RECIPES

RESULT = Path(__file__).parents[1] / "results" / "own-layouts.json"
BATCH, STEPS = 4, 2
HELD_OUT = 8  # images
IN21K_CLASSES = 21_843
FLAT, FOLDERS = "imagenet1k, flat val with the devkit's ground truth", "imagenet1k, class folders"


def photos_of(folder: Path) -> list[Path]:
    """Return the photos, by class."""
    return sorted(file for file in folder.rglob("*") if file.suffix in {".JPEG", ".jpg"})


def link(file: Path, place: Path) -> None:
    """Put a photo somewhere else, too."""
    place.parent.mkdir(parents=True, exist_ok=True)
    os.link(file, place) if file.stat().st_dev == place.parent.stat().st_dev else shutil.copy(file, place)


def write_imagenet(root: Path, photos: Sequence[Path], flat: bool) -> None:
    """Write ImageNet-1k: a photo in each of the 1000 class folders, and a few held out, flat or in class folders."""
    synsets = imagenet.synsets()
    number_of = {synset: number for number, synset in imagenet.synset_numbers().items()}
    for place, synset in enumerate(synsets):
        link(photos[place % len(photos)], root / "train" / synset / f"{synset}_{place}.JPEG")
    truth = []
    for number, file in enumerate(photos[:HELD_OUT], 1):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        link(file, root / "val" / (name if flat else f"{file.parent.name}/{name}"))
        truth.append(str(number_of[file.parent.name]))
    if flat:
        devkit = root / "ILSVRC2012_devkit_t12" / "data"
        devkit.mkdir(parents=True)
        (devkit / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(truth) + "\n")


def write_cub(root: Path, photos: Sequence[Path]) -> None:
    """Write CUB-200-2011: 200 classes of two pictures, one to train on, and a few of the others held out."""
    folder = root / "CUB_200_2011"
    lines: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": [], "classes": []}
    for number in range(200):
        name = f"{number + 1:03}.Bird_{number + 1}"
        lines["classes"].append(f"{number + 1} {name}")
        for part in range(2 if number < HELD_OUT else 1):
            place = len(lines["images"]) + 1
            link(photos[number % len(photos)], folder / "images" / name / f"{part}.jpg")
            lines["images"].append(f"{place} {name}/{part}.jpg")
            lines["image_class_labels"].append(f"{place} {number + 1}")
            lines["train_test_split"].append(f"{place} {1 - part}")
    for name, rows in lines.items():
        (folder / f"{name}.txt").write_text("\n".join(rows) + "\n")


def write_imagenet21k(root: Path, photos: Sequence[Path]) -> None:
    """Write ImageNet-21k as mmpretrain has it: one tree, lists in meta, and the classes of the page's head."""
    known = sorted({file.parent.name for file in photos})
    classes = [*known, *(f"n9{number:07d}" for number in range(IN21K_CLASSES - len(known)))]
    for file in photos:
        link(file, root / "train" / file.parent.name / file.name)
    paths = [f"{file.parent.name}/{file.name} {classes.index(file.parent.name)}" for file in photos]
    (root / "meta").mkdir()
    (root / "meta" / "train.txt").write_text("\n".join(paths[HELD_OUT:]) + "\n")
    (root / "meta" / "val.txt").write_text("\n".join(paths[:HELD_OUT]) + "\n")
    (root / "meta" / "classes.txt").write_text("\n".join(classes) + "\n")


def write_cifar(root: Path, name: str, photos: Sequence[Path]) -> None:
    """Write CIFAR's python layout with few images, and let the program know that data set under its name."""
    spec, labels_key = DATASETS[name], "fine_labels" if DATASETS[name].two_labels else "labels"
    small = np.stack([resize(decode(file.read_bytes(), str(file)), 32, 32, "pillow-bilinear") for file in photos])
    each, test = len(small) // spec.train_files, HELD_OUT
    names = ["train"] if spec.two_labels else [f"data_batch_{number}" for number in range(1, spec.train_files + 1)]
    parts = {batch: small[place * each : (place + 1) * each] for place, batch in enumerate(names)}
    parts["test" if spec.two_labels else "test_batch"] = small[:test]
    root.mkdir()
    for batch, images in parts.items():
        planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
        labels = [number % len(spec.class_names) for number in range(len(images))]
        (root / batch).write_bytes(pickle.dumps({"data": planes, labels_key: labels}, protocol=2))
    DATASETS[name] = replace(
        spec, train_images=each * spec.train_files, test_images=test, array_sha256=None,
        file_md5={batch: md5_of(root / batch) for batch in parts},
    )  # fmt: skip


def md5_of(file: Path) -> str:
    """Return the MD5 of a file."""
    return hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()


def small(name: str) -> list[str]:
    """Return the changes that make two steps of a recipe."""
    changes = [f"batch_size={BATCH}", f"microbatch_size={BATCH}", "total_epochs=null", f"total_steps={STEPS}"]
    return [*changes, "val_images=0"]


def train(name: str, layout: str, data: str, run: Path, start: Path) -> dict[str, Any]:
    """Train two steps by the command itself, and say what came of them."""
    print(f"{name} on {layout}", file=sys.stderr, flush=True)
    recipe, started = RECIPES[name], time.perf_counter()
    words = ["train", name, "--data", data, "--out", str(run)]
    words += ["--init-from", str(start)] if recipe.init_from else []
    silenced, sys.stdout = sys.stdout, io.StringIO()
    try:
        code = resnetkit([*words, "--set", *small(name)])
    finally:
        sys.stdout = silenced
    found: dict[str, Any] = {"recipe": name, "layout": layout, "exit_code": code}
    if code == 0:
        events, evaluation = checkpoint.read_events(run), read_json(run / checkpoint.EVALUATION)
        _, metadata = checkpoint.read_weights(run / checkpoint.WEIGHTS)
        assert metadata is not None
        found |= {
            "image_size": recipe.image_size,
            "steps": max(event["step"] for event in events),
            "loss": [event["loss"] for event in events if event["event"] == "train"],
            "classes": len(metadata["class_names"]),
            "first_class": metadata["class_names"][0],
            "images_evaluated": evaluation["images"],
        }
    shutil.rmtree(run, ignore_errors=True)
    return found | {"seconds": round(time.perf_counter() - started, 1)}


def main() -> None:
    """Write the trees, train every recipe on its own, and write down what came of it."""
    photos = photos_of(Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        os.environ["RESNETKIT_HOME"] = str(base / "home")
        for flat, name in ((True, "flat"), (False, "folders")):
            write_imagenet(base / name, photos, flat)
        write_cub(base / "cub", photos)
        write_imagenet21k(base / "in21k", photos)
        for name in ("cifar10", "cifar100"):
            write_cifar(base / name, name, photos)
            assert resnetkit(["data", name, "--from", str(base / name)]) == 0
        start = base / "start.safetensors"
        checkpoint.save_weights(start, ResNet(find_architecture("resnet50")).state_dict(), {})
        trees = {
            "imagenet1k": ((FOLDERS, str(base / "folders")), (FLAT, str(base / "flat"))),
            "cub200": (("cub200, official lists and split", str(base / "cub")),),
            "imagenet21k": (("imagenet21k, lists and class list in meta", str(base / "in21k")),),
            "cifar10": (("cifar10, python layout", "cifar10"),),
            "cifar100": (("cifar100, python layout", "cifar100"),),
        }
        runs = [train(name, layout, data, base / "run", start)
                for name, recipe in RECIPES.items() for layout, data in trees[recipe.data]]  # fmt: skip
        looks = {name: read_photos(base / name).layout for name in ("flat", "folders", "cub", "in21k")}
    failed = [run["recipe"] for run in runs if run["exit_code"] != 0 or run["steps"] != STEPS]
    command = {"command": "python benchmarks/own_layouts.py PHOTOS"}
    result = {"recognised": looks, "recipes": len(RECIPES), "failed": failed, "runs": runs}
    write_json(RESULT, result | {"provenance": provenance() | command})
    print(json.dumps({"recipes": len(RECIPES), "runs": len(runs), "failed": failed, "recognised": looks}))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
