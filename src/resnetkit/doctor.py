"""A data set's examination: every file is read once; copies, imbalance and suspect labels are looked for.

What is found goes into a table, JSON, a page, and a quarantine list that `train`, `finetune` and `evaluate` obey.
"""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.data.copies import Copy, find_copies, groups_of
from resnetkit.data.inspected import inspect_all, kept_in
from resnetkit.data.inspection import ODDITIES, PROBLEMS, Inspection
from resnetkit.data.parts import Part
from resnetkit.data.photos import PhotoSplit
from resnetkit.data.quarantine import Quarantined, name_in
from resnetkit.data.trees import Tree, foreign_files, read_tree, shown_names, split_of
from resnetkit.frozen import feature_batches
from resnetkit.load import LoadedModel
from resnetkit.suspects import Suspect, find_suspects

LARGE_IMBALANCE = 5.0  # images of the largest class by those of the smallest
IDENTICAL = "identical"  # beside the kinds of Copy

OnCount = Callable[[int], None]
Watch = Callable[[str, int], AbstractContextManager[OnCount]]  # what is done and of how many, to what counts them


@contextmanager
def unwatched(title: str, total: int) -> Iterator[OnCount]:
    """Show no progress."""
    yield lambda count: None


@dataclass(frozen=True, eq=False)
class Roster:
    """All photos of a data set in one row."""

    root: Path
    class_names: tuple[str, ...]
    split_names: tuple[str, ...]  # the first is that of training, where there is one
    splits: NDArray[np.int64]  # [N], places in split_names
    labels: NDArray[np.int64]  # [N]
    files: tuple[Path, ...]  # [N]
    trains: bool  # whether the first split is for training
    foreign: tuple[str, ...]  # files below the root that are no photos of it
    notes: tuple[str, ...]

    def name(self, index: int) -> str:
        """Return how a photo is called in lists."""
        return name_in(self.root, self.files[index])

    def shown(self, index: int) -> str:
        """Return a photo's name as text, whatever bytes it has."""
        return self.name(index).encode("utf-8", "replace").decode()

    def split(self, index: int) -> str:
        """Return the name of a photo's split."""
        return str(self.split_names[self.splits[index]])

    def label(self, index: int) -> str:
        """Return the name of a photo's class."""
        return str(self.class_names[self.labels[index]])


@dataclass(frozen=True)
class Diagnosis:
    """What was found in a data set."""

    roster: Roster
    inspections: tuple[Inspection, ...]  # [N]
    copies: tuple[tuple[str, Copy], ...]  # kind, and the pair
    suspects: tuple[Suspect, ...] | None  # None: not looked for

    def usable(self) -> NDArray[np.bool_]:
        """Say of each photo whether it can be decoded: [N]."""
        return np.array([inspection.problem is None for inspection in self.inspections], bool)

    def copy_groups(self) -> NDArray[np.int64]:
        """Return the group of each photo [N]; copies of one picture are in one."""
        return groups_of(len(self.inspections), [(copy.first, copy.second) for _, copy in self.copies])


def roster_of(root: Path, quarantine: Path | None = None) -> Roster:
    """List the photos of a data set in any layout of docs/data.md; BadRequest with all that does not fit."""
    tree = read_tree(root, quarantine)
    names, parts = zip(*((split_name(tree, key, part), part) for key, part in tree.parts.items()), strict=True)
    splits = [split_of(part) for part in parts]
    return Roster(
        root=root,
        class_names=shown_names(tree.class_names),
        split_names=names,
        splits=np.repeat(np.arange(len(splits)), [len(split) for split in splits]),
        labels=np.concatenate([split.labels for split in splits]),
        files=tuple(split.file(index) for split in splits for index in range(len(split))),
        trains=tree.train is not None,
        foreign=foreign_files(tree),
        notes=tree.notes,
    )


def split_name(tree: Tree, key: str, part: Part) -> str:
    """Return what a split is called on disk."""
    return part.origin.name if part.origin.is_dir() and part.origin != tree.root else key


def examine(
    roster: Roster,
    *,
    loaded: LoadedModel | None = None,  # whose features tell suspect labels
    parts: bool = True,  # look for parts of pictures too, which takes longest
    device: torch.device | None = None,  # CPU
    watch: Watch = unwatched,
) -> Diagnosis:
    """Examine all photos; what was read before and has not changed is not read again."""
    folder = kept_in(roster.root)
    with watch("read", len(roster.files)) as count:
        inspected = inspect_all(roster.files, folder, count)
    usable = np.flatnonzero([inspection.problem is None for inspection in inspected.inspections])
    with watch("compare", (1 + parts) * len(usable)) as count:
        copies = tuple(all_copies(inspected.inspections, inspected.thumbnails, usable, parts, count))
    diagnosis = Diagnosis(roster, inspected.inspections, copies, None)
    if loaded is None:
        return diagnosis
    with watch("features", len(usable)) as count:
        features = features_of(roster, inspected.inspections, usable, loaded, device, folder, count)
    groups = diagnosis.copy_groups()[usable]
    found = find_suspects(features, roster.labels[usable], groups, len(roster.class_names))
    suspects = tuple(Suspect(**vars(suspect) | {"index": int(usable[suspect.index])}) for suspect in found)
    return Diagnosis(roster, inspected.inspections, diagnosis.copies, suspects)


def all_copies(
    inspections: Sequence[Inspection],
    thumbnails: NDArray[np.uint8],
    usable: NDArray[np.intp],
    parts: bool,
    on_compared: OnCount,
) -> Iterator[tuple[str, Copy]]:
    """Yield the pairs of copies; of files with the same bytes each with the first of them, and the rest by pixels."""
    firsts: dict[str, int] = {}
    representatives = []
    for index in usable.tolist():
        first = firsts.setdefault(inspections[index].sha256, index)
        if first == index:
            representatives.append(index)
        else:
            yield IDENTICAL, Copy(first, index, "copy", 1.0)
    for copy in find_copies(thumbnails[representatives], parts=parts, on_block=on_compared):
        first, second = representatives[copy.first], representatives[copy.second]
        yield copy.kind, Copy(first, second, copy.kind, copy.likeness)


def features_of(
    roster: Roster,
    inspections: Sequence[Inspection],
    usable: NDArray[np.intp],
    loaded: LoadedModel,
    device: torch.device | None,
    folder: Path,
    on_features: OnCount,
) -> NDArray[np.float32]:
    """Return the features of the usable photos [n, C]; those of a stopped examination are gone on from."""
    words = [loaded.sha256, str(loaded.preprocess.to_json()), *(inspections[index].sha256 for index in usable.tolist())]
    file = folder / f"features-{hashlib.sha256(' '.join(words).encode()).hexdigest()[:16]}.f32"
    width = loaded.model.fc.in_features
    done = file.stat().st_size // (4 * width) if file.is_file() else 0
    on_features(min(done, len(usable)))
    with file.open("ab") as kept:
        kept.truncate(done * 4 * width)  # of a process that was killed
        split = split_at(roster, usable[done:])
        for batch in feature_batches(loaded.model, split, loaded.preprocess, device or torch.device("cpu")):
            kept.write(batch.tobytes())
            kept.flush()
            on_features(len(batch))
    return np.fromfile(file, np.float32).reshape(-1, width)


def split_at(roster: Roster, indices: NDArray[np.intp]) -> PhotoSplit:
    """Return some photos of a roster as a split."""
    base = Path(os.path.commonpath([str(file.parent.absolute()) for file in roster.files]))
    paths = [os.fsencode(str(roster.files[index].absolute().relative_to(base))) for index in indices.tolist()]
    return PhotoSplit(base, np.array(paths, np.bytes_), roster.labels[indices])


# --- what follows from it ---


def quarantine_of(diagnosis: Diagnosis, suspects_too: bool = False) -> list[Quarantined]:
    """List the photos to leave out: those that cannot be used, training copies of photos that figures are of, and
    copies that are labelled differently, all of which are doubtful.

    Copies of copies count: what holds of one picture holds of all that are it.  Copies within one split and class are
    not listed: they do no harm but to weigh more.
    """
    roster, groups = diagnosis.roster, diagnosis.copy_groups()
    reasons: dict[int, tuple[str, str]] = {}
    for index, inspection in enumerate(diagnosis.inspections):
        if inspection.problem:
            reasons[index] = inspection.problem, ""
    kinds: dict[int, str] = {}  # how a photo is a copy, of the first pair that it is in
    members: dict[int, set[int]] = {}
    for kind, copy in diagnosis.copies:
        for index in (copy.first, copy.second):
            kinds.setdefault(index, kind)
            members.setdefault(int(groups[index]), set()).add(index)
    for group in members.values():
        last = max(group, key=lambda index: (int(roster.splits[index]), -index))
        for index in group:
            other = next((each for each in sorted(group) if roster.labels[each] != roster.labels[index]), None)
            if roster.splits[index] < roster.splits[last]:
                reasons.setdefault(index, (f"{kinds[index]} across splits", roster.name(last)))
            elif other is not None and roster.splits[other] == roster.splits[index]:
                reasons.setdefault(index, (f"{kinds[index]} in another class", roster.name(other)))
    for suspect in (diagnosis.suspects or ()) if suspects_too else ():
        reasons.setdefault(suspect.index, ("suspect label", ""))
    return [
        Quarantined(roster.name(index), reason, because, roster.split(index), roster.label(index))
        for index, (reason, because) in sorted(reasons.items())
    ]


def class_counts(roster: Roster) -> list[list[int]]:
    """Count the photos of each class in each split: [splits][classes]."""
    classes = len(roster.class_names)
    return [np.bincount(roster.labels[roster.splits == place], minlength=classes).tolist()
            for place in range(len(roster.split_names))]  # fmt: skip


def imbalance_of(roster: Roster) -> float | None:
    """Return how many times as many photos the largest class of the first split has as the smallest that has any."""
    counts = [count for count in class_counts(roster)[0] if count]
    return max(counts) / min(counts) if counts else None


def pair_json(roster: Roster, kind: str, copy: Copy) -> dict[str, Any]:
    """Return a pair of copies as JSON data."""
    one, other = copy.first, copy.second
    return {
        "kind": kind,
        "first": roster.shown(one),
        "second": roster.shown(other),
        "likeness": round(copy.likeness, 4),
        "splits": [roster.split(one), roster.split(other)],
        "classes": [roster.label(one), roster.label(other)],
    }


def suspect_json(roster: Roster, suspect: Suspect) -> dict[str, Any]:
    """Return a suspect label as JSON data."""
    return {
        "file": roster.shown(suspect.index),
        "split": roster.split(suspect.index),
        "class": roster.label(suspect.index),
        "likely": roster.class_names[suspect.likely],
        "class_prob": round(suspect.label_prob, 4),
        "likely_prob": round(suspect.likely_prob, 4),
    }


def findings(diagnosis: Diagnosis, quarantine: Sequence[Quarantined]) -> dict[str, Any]:
    """Return all that was found as JSON data."""
    roster = diagnosis.roster
    problems: dict[str, list[dict[str, str]]] = {problem: [] for problem in PROBLEMS}
    oddities: dict[str, list[str]] = {oddity: [] for oddity in ODDITIES}
    for index, inspection in enumerate(diagnosis.inspections):
        if inspection.problem:
            problems[inspection.problem].append({"file": roster.shown(index), "why": inspection.detail or ""})
        for oddity in inspection.oddities:
            oddities[oddity].append(roster.shown(index))
    rows = zip(roster.class_names, *class_counts(roster), strict=True)
    return {
        "data": str(roster.root),
        "images": len(roster.files),
        "bytes": sum(inspection.size for inspection in diagnosis.inspections),
        "splits": {name: int((roster.splits == place).sum()) for place, name in enumerate(roster.split_names)},
        "classes": [{"class": name} | dict(zip(roster.split_names, counts, strict=True)) for name, *counts in rows],
        "imbalance": imbalance_of(roster),
        "problems": {problem: found for problem, found in problems.items() if found},
        "oddities": {oddity: found for oddity, found in oddities.items() if found},
        "copies": [pair_json(roster, kind, copy) for kind, copy in diagnosis.copies],
        "suspects": None if diagnosis.suspects is None else
                    [suspect_json(roster, suspect) for suspect in diagnosis.suspects],
        "foreign": [name.encode("utf-8", "replace").decode() for name in roster.foreign],
        "notes": list(roster.notes),
        "quarantined": len(quarantine),
    }  # fmt: skip


def copy_counts(found: dict[str, Any]) -> Counter[tuple[str, str]]:
    """Count the pairs of copies by kind and by what they go across."""
    return Counter((pair["kind"], across_of(pair)) for pair in found["copies"])


def across_of(pair: dict[str, Any]) -> str:
    """Say what a pair of copies goes across: splits, classes or nothing."""
    return "splits" if len(set(pair["splits"])) > 1 else "classes" if len(set(pair["classes"])) > 1 else ""
