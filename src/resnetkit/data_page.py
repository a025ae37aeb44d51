"""A look at a data set: counts, sizes and modes, and a page with images as they are and as a recipe changes them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from resnetkit.data.headers import Survey, survey
from resnetkit.data.mix import mix
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.resize import Pixels
from resnetkit.errors import BadImage
from resnetkit.feed import Dataset, build_mixes, preview, seen_alone
from resnetkit.home import atomic_write
from resnetkit.page import data_uri, render
from resnetkit.recipe import Recipe
from resnetkit.recipe_json import leaves, recipe_to_json

TEMPLATE = "data.html"
SIDE = 160  # pixels, of pictures on the page
AUGMENTED = 6  # pictures of each image, one an epoch
SHOWN_CLASSES = 60  # of more, the smallest and the largest
SHOWN_FILES = 20
USUAL_RECIPES = {
    "cifar10": "resnet18_8xb16_cifar10",
    "cifar100": "resnet50_8xb16_cifar100",
    "cub200": "resnet50_8xb8_cub",
    "imagenet21k": "resnet50_8xb128_coslr-90e_in21k",
}  # of the page, by data set or layout; of any other that of ImageNet
USUAL_RECIPE = "resnet50_8xb32_in1k"


@dataclass(frozen=True)
class DataFacts:
    """What a look at a data set finds."""

    name: str
    layout: str
    sha256: str
    notes: tuple[str, ...]
    class_names: tuple[str, ...]
    train_counts: tuple[int, ...]  # by class
    test_counts: tuple[int, ...]
    train: Survey
    test: Survey

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data, with a row a class."""
        facts = asdict(self)
        names, train, test = (facts.pop(key) for key in ("class_names", "train_counts", "test_counts"))
        rows = zip(names, train, test, strict=True)
        return facts | {"classes": [{"class": name, "train": a, "test": b} for name, a, b in rows]}


def look_at(dataset: Dataset, most: int) -> DataFacts:
    """Count the images of each class, and read the headers of at most `most` images a split."""
    return DataFacts(
        name=dataset.name,
        layout=dataset.layout if isinstance(dataset, PhotoDataset) else "arrays",
        sha256=dataset.sha256,
        notes=dataset.notes if isinstance(dataset, PhotoDataset) else (),
        class_names=dataset.class_names,
        train_counts=counts(dataset.train.labels, len(dataset.class_names)),
        test_counts=counts(dataset.test.labels, len(dataset.class_names)),
        train=survey(dataset.train, most),
        test=survey(dataset.test, most),
    )


def counts(labels: Any, num_classes: int) -> tuple[int, ...]:
    """Count the images of each class."""
    return tuple(np.bincount(labels, minlength=num_classes).tolist())


def usual_recipe(dataset: Dataset) -> str:
    """Return the page's recipe for data of this kind."""
    layout = dataset.layout if isinstance(dataset, PhotoDataset) else dataset.name
    return USUAL_RECIPES.get(layout, USUAL_RECIPE)


def write_page(path: Path, dataset: Dataset, facts: DataFacts, recipe: Recipe, images: int) -> None:
    """Write the page; `images` training images are shown, spread over the classes."""
    rows = [row_of(dataset, recipe, index) for index in chosen(dataset, images)]
    page = render(TEMPLATE, page_facts(facts, recipe, rows, mixed_images(dataset, recipe, images)), {})
    with atomic_write(path) as file:
        file.write(page.encode())


def chosen(dataset: Dataset, images: int) -> list[int]:
    """Choose training images, evenly spread over the classes."""
    order = np.argsort(dataset.train.labels, kind="stable")
    count = min(images, len(order))
    return [int(order[(2 * place + 1) * len(order) // (2 * count)]) for place in range(count)]


def row_of(dataset: Dataset, recipe: Recipe, index: int) -> dict[str, Any]:
    """Return the pictures of one training image: as it is, as evaluation sees it, and augmented in six epochs."""
    row = {
        "name": name_of(dataset, index),
        "class": dataset.class_names[dataset.train.labels[index]],
        "problem": None,
        "pictures": [],
    }
    try:
        pixels = dataset.train.read(index)
    except BadImage as error:
        return row | {"problem": str(error)}
    shown = [pixels, seen_alone(pixels, recipe), *(preview(recipe, pixels, index, epoch) for epoch in range(AUGMENTED))]
    return row | {"size": f"{pixels.shape[1]} x {pixels.shape[0]}", "pictures": [picture(one) for one in shown]}


def name_of(dataset: Dataset, index: int) -> str:
    """Return what a training image is called: its path below the split's folder, or its number."""
    return os.fsdecode(dataset.train.paths[index]) if isinstance(dataset, PhotoDataset) else f"image {index}"


def mixed_images(dataset: Dataset, recipe: Recipe, images: int) -> list[str]:
    """Return pictures of the augmented images mixed as a micro-batch would be; none where a recipe mixes nothing."""
    if not recipe.mix:
        return []
    shown = []
    for index in chosen(dataset, images):
        try:
            shown.append(preview(recipe, dataset.train.read(index), index, 0))
        except BadImage:
            continue
    if not shown:
        return []
    batch = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2).float()
    mixed, _ = mix(batch, torch.zeros(len(shown), 1), build_mixes(recipe), np.random.default_rng(recipe.seed))
    return [picture(one) for one in mixed.permute(0, 2, 3, 1).round().to(torch.uint8).numpy()]


def picture(pixels: Pixels) -> str:
    """Write pixels [H, W, 3] as a small file inside the page; tiny images without loss."""
    return data_uri(pixels, SIDE, "PNG" if max(pixels.shape[:2]) <= SIDE // 2 else "JPEG")


def page_facts(
    facts: DataFacts, recipe: Recipe, rows: Sequence[dict[str, Any]], mixed: Sequence[str]
) -> dict[str, Any]:
    """Gather what the page says."""
    largest = max(*facts.train_counts, *facts.test_counts, 1)
    classes = [
        {"name": name, "train": train, "test": test, "share": 100 * train / largest}
        for name, train, test in zip(facts.class_names, facts.train_counts, facts.test_counts, strict=True)
    ]
    return {
        "facts": facts,
        "classes": some_classes(classes),
        "class_count": len(classes),
        "recipe": recipe,
        "augment": [leaf for leaf in leaves(recipe_to_json(recipe)) if leaf[0].startswith(("augment", "mix"))],
        "rows": rows,
        "mixed": mixed,
        "augmented": AUGMENTED,
        "shown_files": SHOWN_FILES,
    }


def some_classes(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all classes in their order, or of many the smallest and the largest."""
    if len(classes) <= SHOWN_CLASSES:
        return classes
    ordered = sorted(classes, key=lambda row: -row["train"])
    return ordered[: SHOWN_CLASSES // 2] + ordered[-SHOWN_CLASSES // 2 :]
