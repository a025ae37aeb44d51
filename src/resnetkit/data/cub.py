"""CUB-200-2011 as its authors packed it: pictures in class folders, and lists that give number, class and split.

CUB_200_2011/images.txt              NUMBER PATH, below images/
CUB_200_2011/image_class_labels.txt  NUMBER CLASS, 1 to 200
CUB_200_2011/train_test_split.txt    NUMBER 1 (to train on) or 0
CUB_200_2011/classes.txt             CLASS NAME, as in 001.Black_footed_Albatross
"""

from __future__ import annotations

from pathlib import Path

from resnetkit.data.lists import read_text
from resnetkit.data.parts import Part, listed_part
from resnetkit.data.photos import some_of
from resnetkit.errors import BadRequest

FOLDER = "CUB_200_2011"
IMAGES, LABELS, SPLIT, CLASSES = "images.txt", "image_class_labels.txt", "train_test_split.txt", "classes.txt"


def cub_folder(root: Path) -> Path | None:
    """Return the folder with the lists, `root` or what the archive unpacks to, if it is there."""
    return next((folder for folder in (root, root / FOLDER)
                 if all((folder / name).is_file() for name in (IMAGES, LABELS, SPLIT))), None)  # fmt: skip


def cub_parts(folder: Path) -> tuple[Part, Part, tuple[str, ...]]:
    """Return the official training and test photos, and the class names without their numbers."""
    paths, labels, split = (read_pairs(folder / name) for name in (IMAGES, LABELS, SPLIT))
    named = read_pairs(folder / CLASSES) if (folder / CLASSES).is_file() else folders_of(paths, labels)
    problems = [f"{folder / name}: other numbers than {IMAGES}" for name, pairs in ((LABELS, labels), (SPLIT, split))
                if pairs.keys() != paths.keys()]  # fmt: skip
    unknown = sorted(set(labels.values()) - set(named))
    if unknown:
        problems.append(f"{folder / LABELS}: classes that {CLASSES} does not have: {some_of(unknown)}")
    if not set(split.values()) <= {"0", "1"}:
        problems.append(f"{folder / SPLIT}: expected 0 and 1")
    if problems:
        raise BadRequest(f"{folder}: not CUB-200-2011", *problems)
    places = {number: place for place, number in enumerate(named)}

    def part(flag: str) -> Part:
        chosen = [number for number in paths if split[number] == flag]
        found = [paths[number] for number in chosen]
        return listed_part(folder / SPLIT, folder / "images", found, [places[labels[n]] for n in chosen], None)

    return part("1"), part("0"), tuple(name.partition(".")[2] or name for name in named.values())


def folders_of(paths: dict[str, str], labels: dict[str, str]) -> dict[str, str]:
    """Return the folder of each class number, where there is no list of them."""
    named = {labels[number]: path.partition("/")[0] for number, path in paths.items() if number in labels}
    return dict(sorted(named.items(), key=lambda pair: pair[1]))


def read_pairs(file: Path) -> dict[str, str]:
    """Read lines of a number and a text."""
    pairs = [line.strip().partition(" ") for line in read_text(file).splitlines() if line.strip()]
    bad = [f"line {place}" for place, (number, _, text) in enumerate(pairs, 1) if not (number.isdecimal() and text)]
    found = {number: text for number, _, text in pairs}
    if bad or len(found) < len(pairs) or not found:
        raise BadRequest(f"{file}: {some_of(bad) or 'no lines, or numbers twice'}", "expected NUMBER TEXT a line")
    return found
