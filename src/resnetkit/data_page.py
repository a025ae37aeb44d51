"""A look at a data set: counts, sizes and modes, and a page with images as they are and as a recipe changes them."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Sample:
    """One training image on the page: as it is, as evaluation sees it, and augmented, epoch by epoch."""

    name: str  # its path below the split's folder, or its number
    class_name: str
    pixels: tuple[Pixels, ...]  # none of a file that cannot be read
    problem: str | None

    @property
    def size(self) -> str:
        """Width and height of the file's picture."""
        return f"{self.pixels[0].shape[1]} x {self.pixels[0].shape[0]}"


def write_page(path: Path, dataset: Dataset, facts: DataFacts, recipe: Recipe, images: int) -> None:
    """Write the page; `images` training images are shown, spread over the classes."""
    samples = [sample_of(dataset, recipe, index) for index in chosen(dataset, images)]
    page = render(TEMPLATE, page_facts(facts, recipe, samples), {"picture": picture})
    with atomic_write(path) as file:
        file.write(page.encode())


def chosen(dataset: Dataset, images: int) -> list[int]:
    """Choose training images, evenly spread over the classes."""
    order = np.argsort(dataset.train.labels, kind="stable")
    count = min(images, len(order))
    return [int(order[(2 * place + 1) * len(order) // (2 * count)]) for place in range(count)]


def sample_of(dataset: Dataset, recipe: Recipe, index: int) -> Sample:
    """Make the pictures of one training image; a file that cannot be read says why instead."""
    name = dataset.train.path(index) if isinstance(dataset, PhotoDataset) else f"image {index}"
    class_name = dataset.class_names[dataset.train.labels[index]]
    try:
        pixels = dataset.train.read(index)
    except BadImage as error:
        return Sample(name, class_name, (), str(error))
    augmented = (preview(recipe, pixels, index, epoch) for epoch in range(AUGMENTED))
    return Sample(name, class_name, (pixels, seen_alone(pixels, recipe), *augmented), None)


def mixed(samples: Sequence[Sample], recipe: Recipe) -> list[Pixels]:
    """Mix the pictures of the first epoch as a micro-batch; none where a recipe mixes nothing."""
    first_epoch = [sample.pixels[2] for sample in samples if sample.pixels]
    if not recipe.mix or not first_epoch:
        return []
    batch = torch.from_numpy(np.stack(first_epoch)).permute(0, 3, 1, 2).float()
    targets = torch.zeros(len(first_epoch), 1)
    images, _ = mix(batch, targets, build_mixes(recipe), np.random.default_rng(recipe.seed))
    return list(images.permute(0, 2, 3, 1).round().to(torch.uint8).numpy())


def picture(pixels: Pixels) -> str:
    """Write pixels [H, W, 3] as a small file inside the page; tiny images without loss."""
    return data_uri(pixels, SIDE, "PNG" if max(pixels.shape[:2]) <= SIDE // 2 else "JPEG")


def page_facts(facts: DataFacts, recipe: Recipe, samples: Sequence[Sample]) -> dict[str, Any]:
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
        "samples": samples,
        "mixed": mixed(samples, recipe),
        "augmented": AUGMENTED,
        "shown_files": SHOWN_FILES,
    }


def some_classes(classes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all classes in their order, or of many the smallest and the largest."""
    if len(classes) <= SHOWN_CLASSES:
        return classes
    ordered = sorted(classes, key=lambda row: -row["train"])
    return ordered[: SHOWN_CLASSES // 2] + ordered[-SHOWN_CLASSES // 2 :]
