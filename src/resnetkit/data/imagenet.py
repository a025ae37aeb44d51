"""ImageNet's 1000 classes in their order, as synsets, as names, and by the numbers of the challenge's devkit.

imagenet_classes.txt has a line a class: synset, number (ILSVRC2012_ID of the devkit's meta.mat), name.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files

NUM_CLASSES = 1000


@cache
def synsets() -> tuple[str, ...]:
    """Return the WordNet ids, as in n01440764, in the order of the classes."""
    return tuple(synset for synset, _, _ in _classes())


@cache
def names() -> tuple[str, ...]:
    """Return a short name a class, as in tench; two pairs of classes share theirs (crane, maillot)."""
    return tuple(name for _, _, name in _classes())


@cache
def synset_numbers() -> dict[int, str]:
    """Return the synsets by their numbers in the devkit, 1 to 1000, in which its ground truth is written."""
    return {int(number): synset for synset, number, _ in _classes()}


def are_imagenet(class_names: tuple[str, ...]) -> bool:
    """Tell whether class names are those of ImageNet, by their first synonym ("tench, Tinca tinca" is tench)."""
    shortened = tuple(name.partition(",")[0].strip().replace(" ", "_") for name in class_names)
    return len(class_names) == NUM_CLASSES and shortened == names()


def _classes() -> list[tuple[str, str, str]]:
    lines = (files("resnetkit.data") / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [(synset, number, name) for synset, number, name in (line.split(" ", 2) for line in lines)]
