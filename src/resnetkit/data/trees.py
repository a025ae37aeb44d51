"""Data sets of photos by their layout on disk: each is recognised, or refused with all that is wrong in it.

The splits are found one by one (a list, class folders, ImageNet's flat validation images), then their classes are
brought together.  docs/data.md has the layouts.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from resnetkit.data import imagenet
from resnetkit.data.cub import cub_folder, cub_parts
from resnetkit.data.imagenet_truth import EXPECTED as TRUTH_EXPECTED
from resnetkit.data.imagenet_truth import flat_part, truth_file
from resnetkit.data.lists import LIST_ENDINGS, SYNSET, Row, read_classes, read_list, rows_part
from resnetkit.data.parts import Part, class_folder_part, class_folders
from resnetkit.data.photos import PhotoDataset, PhotoSplit, is_image, some_of
from resnetkit.data.quarantine import left_out_note, prefix_of, read_quarantine
from resnetkit.data.spec import OFFICIAL_SIZES
from resnetkit.errors import BadRequest, did_you_mean

TRAIN = ("train", "training", "imagenet21k_train")
VAL = ("val", "validation", "valid", "imagenet21k_val")
TEST = ("test",)
HELD_OUT = (*VAL, *TEST)
KAGGLE = Path("ILSVRC/Data/CLS-LOC")
CLASSES = "classes.txt"
LIST_FOLDERS = ("", "meta")
NOTHING = ["no class folders, no lists and no images in it"]
SET_APART, MOST_SET_APART = 10, 50  # one photo in ten of a class, at most 50
TREE = (
    "expected",
    "  ROOT/train/CLASS/*.jpg   a folder for each class, with its images at any depth",
    "  ROOT/val/CLASS/*.jpg     and ROOT/test, or one of them: the same classes, or some of them",
    "  ROOT/train.csv, val.csv  or .txt, also in ROOT/meta: lists of paths and labels",
    "  ROOT/val/*.JPEG          with ImageNet's ground truth beside it",
    "  ROOT/CUB_200_2011, ROOT/CLASS/*.jpg, or one list with a column split",
)


@dataclass(frozen=True)
class Tree:
    """What lies on disk, labelled by one list of class names."""

    root: Path
    layout: str
    train: Part | None
    held_out: Part | None  # that figures are of: the test images, else those of val
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    val: Part | None = None  # where both are there, those of val: evaluated while training

    @property
    def parts(self) -> dict[str, Part]:
        """The splits that are there, by their names in `fingerprint`."""
        named = {"train": self.train, "val": self.val, "test": self.held_out}
        return {name: part for name, part in named.items() if part is not None}


def read_photos(root: Path, quarantine: Path | None = None) -> PhotoDataset:
    """List the photos of a data set to train on; BadRequest with everything that does not fit."""
    tree = read_tree(root, quarantine)
    if tree.train is None:
        assert tree.held_out is not None
        raise refusal(root, [f"{root}: no images to train on, only {tree.held_out.origin}"])
    if len(tree.class_names) < 2:
        raise refusal(root, [f"{root}: one class only, {tree.class_names[0]}: there is nothing to tell apart"])
    return dataset_of(with_photos_set_apart(tree) if tree.held_out is None else tree)


def read_all_photos(root: Path) -> PhotoDataset:
    """List all photos of a data set to look at it: no photos are set apart, and either split may be empty."""
    tree = read_tree(root)
    part = tree.train or tree.held_out
    assert part is not None
    nothing = chosen(part, np.empty(0, np.int64))
    return dataset_of(replace(tree, train=tree.train or nothing, held_out=tree.held_out or nothing))


def dataset_of(tree: Tree) -> PhotoDataset:
    """Return the data set that a tree with both splits is."""
    assert tree.train is not None
    assert tree.held_out is not None
    notes = (*tree.notes, *official_notes(tree))
    return PhotoDataset(
        name=tree.root.resolve().name,
        root=tree.root,
        train=split_of(tree.train),
        val=split_of(tree.val) if tree.val else None,
        test=split_of(tree.held_out),
        class_names=shown_names(tree.class_names),
        sha256=fingerprint(tree),
        layout=tree.layout,
        notes=notes,
    )


def read_eval_photos(
    root: Path, trained_on: str | None = None, quarantine: Path | None = None
) -> tuple[PhotoSplit, tuple[str, ...], tuple[str, ...]]:
    """List the photos to evaluate on, those held out or else all below `root`; with class names, and what to note.

    The classes are those of the training images where they are there, so that labels stay the same when some are not
    among the photos.  trained_on: the hash of the data that a model has seen; where it is that of this very tree, with
    photos set apart, only those are evaluated on.
    """
    tree = read_tree(root, quarantine)
    if trained_on and tree.held_out is None and tree.train is not None and len(set_apart(tree.train.labels)):
        apart = with_photos_set_apart(tree)
        if fingerprint(apart) == trained_on:
            tree = apart
    if tree.held_out is None and tree.train is not None and tree.train.origin != root:
        next_step = f"next: name {tree.train.folder} to evaluate on it"
        raise BadRequest(f"{root}: train has no val or test beside it", next_step)
    part = tree.held_out or tree.train
    assert part is not None
    notes = official_notes(replace(tree, train=None, held_out=part))
    apart_notes = tree.notes if tree.held_out is not None or quarantine else ()
    return split_of(part), shown_names(tree.class_names), (*apart_notes, *notes)


def read_tree(root: Path, quarantine: Path | None = None) -> Tree:
    """Recognise the layout of a folder or list, and refuse what does not fit, all of it at once."""
    reasons = read_quarantine(quarantine) if quarantine else {}
    if root.is_file():
        tree = listed_tree(root)
    elif not root.is_dir():
        raise BadRequest(f"{root}: no such folder", *TREE)
    elif folder := cub_folder(root):
        train, held_out, names = cub_parts(folder)
        tree = Tree(root, "cub200", train, held_out, names)
    else:
        tree = folder_tree(root)
    problems = [problem for part in tree.parts.values() for problem in part.problems]
    odd = [ascii(name) for name in tree.class_names if not name.isprintable()]
    if odd:  # weights with such names would be refused when they are read
        problems.append(f"{root}: class names that cannot be printed: {some_of(odd)}")
    if problems:
        raise refusal(root, problems)
    return without(tree, quarantine, reasons) if quarantine else tree


def without(tree: Tree, quarantine: Path, reasons: Mapping[str, str]) -> Tree:
    """Leave out the photos of a quarantine list, and say how many."""
    found: list[str] = []
    kept: dict[str, Part] = {}
    for name, part in tree.parts.items():
        prefix = prefix_of(tree.root, part.folder)
        names = [os.fsdecode(prefix + path) for path in part.paths.tolist()]
        found += [name for name in names if name in reasons]
        kept[name] = chosen(part, np.flatnonzero([name not in reasons for name in names]))
    photos = sum(len(part.paths) for part in tree.parts.values())
    note = left_out_note(quarantine, reasons, found, photos)
    return replace(tree, train=kept.get("train"), val=kept.get("val"), held_out=kept.get("test"),
                   notes=(*tree.notes, note))  # fmt: skip


def refusal(root: Path, problems: Iterable[str]) -> BadRequest:
    """Return the error for a tree that is none."""
    return BadRequest(f"{root}: not a data set of photos", *problems, *TREE)


# --- finding the splits ---


def folder_tree(root: Path) -> Tree:
    """Find the splits of a folder; one of class folders alone is a split to train on."""
    train, val = find_part(root, TRAIN), find_part(root, VAL)
    test = find_part(root, TEST) if val is None or is_labelled(root, TEST) else None
    if train is None and val is None and test is None:
        if not class_folders(root) and not any(is_image(file, root) for file in root.iterdir()):
            raise refusal(root, NOTHING)
        train = class_folder_part(root)
    lists = [file for place in LIST_FOLDERS if (file := root / place / CLASSES).is_file()]
    return labelled(root, train, val, test, read_classes(lists[0]) if lists else None)


def is_labelled(root: Path, names: Sequence[str]) -> bool:
    """Say whether a split has labels: a list, or class folders; ImageNet's test images have none."""
    lists = [root / place / f"{name}{ending}" for name in names for place in LIST_FOLDERS for ending in LIST_ENDINGS]
    folders = [folder for name in names if (folder := split_folder(root, name))]
    return any(file.is_file() for file in lists) or any(class_folders(folder) for folder in folders)


def find_part(root: Path, names: Sequence[str]) -> Part | None:
    """Find a split under one of its names: a list before a folder, for a list says what it means."""
    for name in names:
        folder = split_folder(root, name)
        for place in LIST_FOLDERS:
            for ending in LIST_ENDINGS:
                if (file := root / place / f"{name}{ending}").is_file():
                    others = (split_folder(root, other) for other in (*TRAIN, *HELD_OUT))
                    folders = [each for each in (folder, root, root / "images", *others) if each]
                    return rows_part(file, read_list(file), folders)
        if folder:
            return folder_part(root, folder, flat=name in HELD_OUT)
    return None


def split_folder(root: Path, name: str) -> Path | None:
    """Return the folder of a split, below the data set's own or where Kaggle has it."""
    return next((base / name for base in (root, root / KAGGLE) if (base / name).is_dir()), None)


def folder_part(root: Path, folder: Path, flat: bool) -> Part:
    """List a split's folder: class folders, or ImageNet's validation images without any."""
    if class_folders(folder) or not flat:
        return class_folder_part(folder)
    if truth := truth_file(root):
        return flat_part(folder, truth)
    part = class_folder_part(folder)
    return replace(part, problems=(*part.problems, f"{folder}: no list of labels; {TRUTH_EXPECTED}"))


def listed_tree(file: Path) -> Tree:
    """Read one list; a column `split` says which of its photos are held out, else they are all of one split."""
    if file.suffix not in LIST_ENDINGS:
        raise BadRequest(f"{file}: not a list of photos", f"expected {', '.join(LIST_ENDINGS)} or a folder")
    rows = read_list(file)
    by_split: dict[str, list[Row]] = {}
    for row in rows:
        by_split.setdefault((row.split or "").lower(), []).append(row)
    unknown = sorted(set(by_split) - {"", *TRAIN, *HELD_OUT})
    if unknown:
        raise BadRequest(f"{file}: unknown splits {some_of(unknown)}", f"known: {', '.join((*TRAIN, *HELD_OUT))}")
    folders = [file.parent, file.parent / "images"]
    listed = file.with_name(CLASSES)
    classes = read_classes(listed) if listed.is_file() else None
    used = [next((name for name in known if name in by_split), None) for known in ((*TRAIN, ""), VAL, TEST)]
    train, val, test = (rows_part(file, by_split[name], folders, classes) if name is not None else None
                        for name in used)  # fmt: skip
    tree = labelled(file, train, val, test, classes)
    unused = [f"{name or 'no split'} {len(rows):,}" for name, rows in by_split.items() if name not in used]
    note = f"photos of other splits of the list are not used: {', '.join(unused)}"
    return replace(tree, notes=(*tree.notes, note)) if unused else tree


# --- bringing the classes together ---


def labelled(
    root: Path, train: Part | None, val: Part | None, test: Part | None, classes: tuple[str, ...] | None
) -> Tree:
    """Give all splits labels of one list of classes: the list that is there, else the names of the training images."""
    names = classes or next((names for part in (train, val, test) if part and (names := names_of(part))), ())
    whose = CLASSES if classes else "train"
    train, val, test = (part and with_labels(part, names, whose) for part in (train, val, test))
    held_out, apart = (test, val) if test is not None else (val, None)
    unseen = len(names) - len(np.unique(train.labels)) if train is not None else 0
    notes = (f"{unseen:,} of the {len(names):,} classes have no training images",) if unseen > 0 else ()
    return Tree(root, layout_of(names, train or held_out), train, held_out, names, notes, apart)


def names_of(part: Part) -> tuple[str, ...]:
    """Return the class names of a split; of a list with numbers, the folders of its photos where these are as many."""
    if part.names is not None:
        return part.names
    count = int(part.labels.max()) + 1 if len(part.labels) else 0
    folders: dict[int, set[str]] = {}
    for path, label in zip(part.paths.tolist(), part.labels.tolist(), strict=True):
        folders.setdefault(label, set()).add(Path(path.decode("utf-8", "replace")).parent.name)
    single = [next(iter(folders[label])) for label in range(count) if len(folders.get(label, ())) == 1]
    if len(set(single)) == count and all(single):
        return tuple(single)
    return imagenet.synsets() if count == imagenet.NUM_CLASSES else tuple(f"class {label}" for label in range(count))


def with_labels(part: Part, names: tuple[str, ...], whose: str) -> Part:
    """Number the classes of a split by their places in `names`; what is not among them is a problem."""
    if part.names is None:
        largest = int(part.labels.max()) if len(part.labels) else -1
        if largest < len(names):
            return part
        problem = f"{part.origin}: label {largest} for the {len(names):,} classes of {whose}"
        return replace(part, problems=(*part.problems, problem))
    places = {name: place for place, name in enumerate(names)}
    used = [part.names[label] for label in np.unique(part.labels)]
    unknown = [name for name in used if name not in places]
    problems = part.problems
    if unknown:
        near = did_you_mean(unknown[0], names)
        problems += (f"{part.origin}: classes that {whose} does not have: {some_of(unknown)}{near}",)
    numbers = np.array([places.get(name, -1) for name in part.names], np.int64)
    return replace(part, labels=numbers[part.labels] if len(part.labels) else part.labels, problems=problems)


def layout_of(names: Sequence[str], part: Part | None) -> str:
    """Name a layout by its classes, or by how the splits lie."""
    if tuple(names) == imagenet.synsets():
        return "imagenet1k"
    if len(names) > imagenet.NUM_CLASSES and all(SYNSET.fullmatch(name) for name in names):
        return "imagenet21k"
    return "list" if part and part.origin.is_file() else "class folders"


def with_photos_set_apart(tree: Tree) -> Tree:
    """Keep photos of each class apart from training, evenly spread over their order."""
    assert tree.train is not None
    held = set_apart(tree.train.labels)
    kept = np.setdiff1d(np.arange(len(tree.train.labels)), held)
    if not len(held):
        raise refusal(tree.root, [f"{tree.root}: no photos held out, and no class has two photos to set one apart"])
    note = f"no photos are held out: {len(held):,} of {len(tree.train.labels):,} are set apart to evaluate on"
    return replace(tree, train=chosen(tree.train, kept), held_out=chosen(tree.train, held), notes=(*tree.notes, note))


def set_apart(labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return one place in ten of each class [n], at most 50, and one where there are two photos or more."""
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.unique(labels))
    found = [np.zeros(0, np.int64)]
    for places in np.split(order, bounds[1:]):
        count = min(max(len(places) // SET_APART, len(places) >= 2), MOST_SET_APART)
        found.append(places[np.linspace(0, len(places), count, endpoint=False).astype(np.int64)])
    return np.sort(np.concatenate(found))


def chosen(part: Part, places: NDArray[np.int64]) -> Part:
    """Return some of the photos of a split."""
    return replace(part, paths=part.paths[places], sizes=part.sizes[places], labels=part.labels[places])


# --- the whole ---


def foreign_files(tree: Tree) -> tuple[str, ...]:
    """Name the files below a data set's folder, hidden ones too, that are neither its photos nor its lists."""
    if not tree.root.is_dir():
        return ()
    known = {part.folder / os.fsdecode(path) for part in tree.parts.values() for path in part.paths.tolist()}
    known |= {part.origin for part in tree.parts.values()} | {tree.root / place / CLASSES for place in LIST_FOLDERS}
    return tuple(str(file.relative_to(tree.root)) for file in sorted(tree.root.rglob("*"))
                 if file not in known and not file.is_dir())  # fmt: skip


def split_of(part: Part) -> PhotoSplit:
    """Return the photos of a split."""
    return PhotoSplit(part.folder, part.paths, part.labels)


def shown_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the class names that go into the weights: ImageNet's own, where the classes are its synsets."""
    return imagenet.names() if names == imagenet.synsets() else names


def fingerprint(tree: Tree) -> str:
    """Return the sha256 of lines "SPLIT/PATH, zero byte, bytes of the file": train, val where there is test too, test.

    Where folders are not the classes, the class comes before the path; a list of the classes comes before all.
    """
    digest = hashlib.sha256()
    if tree.train is not None and tree.train.names not in (None, tree.class_names):
        digest.update("\n".join(("classes", *tree.class_names, "")).encode())
    assert {"train", "test"} <= tree.parts.keys()
    for name, part in tree.parts.items():
        split = f"{name}/".encode()
        names = [name.encode() + b"/" for name in tree.class_names] if part.origin.is_file() else None
        prefixes = [split + names[label] for label in part.labels.tolist()] if names else [split] * len(part.labels)
        lines = zip(prefixes, part.paths.tolist(), part.sizes.tolist(), strict=True)
        digest.update(b"".join(b"%s%s\0%d\n" % line for line in lines))
    return digest.hexdigest()


def official_notes(tree: Tree) -> tuple[str, ...]:
    """Say how the splits of a known data set differ from its official counts."""
    size = OFFICIAL_SIZES.get(tree.layout)
    if size is None:
        return ()
    counts = [("classes", len(tree.class_names), size.num_classes)]
    if tree.train is not None:
        counts.append(("training images", len(tree.train.labels), size.train_images))
    if tree.held_out is not None and size.test_images:
        counts.append(("test images", len(tree.held_out.labels), size.test_images))
    return tuple(f"{tree.layout} is expected with {official:,} {what}, here are {found:,}"
                 for what, found, official in counts if found != official)  # fmt: skip
