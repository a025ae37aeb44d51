"""Which of a model's classes the folders of a data set are."""

from __future__ import annotations

from collections.abc import Sequence

from resnetkit.classifier import Classifier
from resnetkit.data import imagenet
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.spec import Split
from resnetkit.errors import BadRequest
from resnetkit.layouts.recognise import shorten
from resnetkit.weights_file import are_placeholders


def fitting(
    loaded: Classifier, split: Split | PhotoSplit, folder_names: Sequence[str], data: str
) -> tuple[Split | PhotoSplit, str | None]:
    """Return the images with the labels of the model's classes, and what was assumed for that.

    All that does not fit is told in one refusal.
    """
    matched, count = None, len(loaded.class_names)
    problems = []
    if are_same(tuple(folder_names), loaded.class_names):
        pass
    elif sorted(folder_names) == sorted(loaded.class_names) and len(set(folder_names)) == len(folder_names):
        split = split.relabelled([loaded.class_names.index(name) for name in folder_names])
    elif isinstance(split, PhotoSplit) and not are_placeholders(loaded.class_names):
        numbers, strangers = match_classes(folder_names, loaded.class_names)
        if strangers:
            problems += [
                *strangers,
                "next: name the folders as the model's classes, or its classes: --class-names FILE",
            ]
        else:
            split = split.relabelled(numbers)
    elif count != len(folder_names):
        problems.append(f"it has {count} classes, the data {len(folder_names)}")
    elif isinstance(split, PhotoSplit):
        matched = "class folders in the order of their names, the weights name no classes (--class-names)"
    if loaded.channels != 3:
        problems.append(f"it has {loaded.channels} channels, the data 3")
    if isinstance(split, Split) and loaded.engine.preprocess.image_size != split.images.shape[1]:
        sides = f"{loaded.engine.preprocess.image_size} pixels a side, the data {split.images.shape[1]}"
        problems.append(f"it has {sides}")
    if problems:
        raise BadRequest(f"the model does not fit {data}", *problems, loaded.origin)
    return split, matched


def are_same(names: tuple[str, ...], others: tuple[str, ...]) -> bool:
    """Say whether two lists have the same classes in the same order; ImageNet's may be written with synonyms."""
    return names == others or (imagenet.are_imagenet(names) and imagenet.are_imagenet(others))


def match_classes(folder_names: Sequence[str], class_names: tuple[str, ...]) -> tuple[list[int], list[str]]:
    """Return the class number of each folder, found by its name or ImageNet synset, and what is wrong with others."""
    places: dict[str, list[int]] = {}
    for number, name in enumerate(class_names):
        places.setdefault(name, []).append(number)
    if imagenet.are_imagenet(class_names):
        places |= {synset: [number] for number, synset in enumerate(imagenet.synsets())}
    unknown = [name for name in folder_names if name not in places]
    doubtful = [name for name in folder_names if len(places.get(name, [])) > 1]
    strangers = []
    if unknown:
        strangers.append(f"folders that are no class of it: {shorten(unknown)}; its classes: {shorten(list(places))}")
    if doubtful:
        strangers.append(f"folders whose name several of its classes have: {shorten(doubtful)}")
    return [places[name][0] for name in folder_names if name in places], strangers
