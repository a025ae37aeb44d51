"""ImageNet's 1000 classes in their order, as synsets and as names."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

NUM_CLASSES = 1000


@cache
def synsets() -> tuple[str, ...]:
    """Return the WordNet ids, as in n01440764, in the order of the classes."""
    return tuple(synset for synset, _ in _classes())


@cache
def names() -> tuple[str, ...]:
    """Return a short name a class, as in tench; two pairs of classes share theirs (crane, maillot)."""
    return tuple(name for _, name in _classes())


def are_imagenet(class_names: tuple[str, ...]) -> bool:
    """Tell whether class names are those of ImageNet, by their first synonym ("tench, Tinca tinca" is tench)."""
    shortened = tuple(name.partition(",")[0].strip().replace(" ", "_") for name in class_names)
    return len(class_names) == NUM_CLASSES and shortened == names()


def _classes() -> list[tuple[str, str]]:
    lines = (files("resnetkit.data") / "imagenet_classes.txt").read_text(encoding="utf-8").splitlines()
    return [(synset, name) for synset, _, name in (line.partition(" ") for line in lines)]
