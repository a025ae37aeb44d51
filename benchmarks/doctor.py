"""What does the doctor find of what was planted, and what else does it name?

run: python benchmarks/doctor.py PHOTOS WEIGHTS      writes results/doctor.json; about 12 minutes on 2 cores
PHOTOS   a folder with train/CLASS/*.JPEG and val/CLASS/*.JPEG
WEIGHTS  a net whose features tell suspect labels

Copies of training photos are put among the held-out ones, each changed in one way: saved at quality 50, resized to
50 to 200 %, cut to 70 to 95 % of the sides.  Labels of 2 % of the training photos are changed.  Pairs across splits
that are found and were not planted count as wrong, but for those that are already there: found among the photos
before anything was planted.
"""

from __future__ import annotations

import io
import json
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from resnetkit.doctor import Diagnosis, Roster, examine, roster_of
from resnetkit.home import write_json
from resnetkit.load import load_model
from resnetkit.metrics import wilson_interval
from resnetkit.provenance import provenance

RESULT = Path(__file__).parents[1] / "results" / "doctor.json"
PLANTED = 500  # of each kind
WRONG_LABELS = 0.02  # of the training photos
GOALS = {"recall": 0.95, "precision": 0.99}  # of resized copies and those of quality 50

Change = Callable[[Image.Image, np.random.Generator], Image.Image]


def quality_50(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Save as a JPEG of quality 50."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=50)
    return Image.open(io.BytesIO(file.getvalue()))


def resized(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Resize both sides by one factor of 0.5 to 2."""
    factor = 2 ** rng.uniform(-1, 1)
    return image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.BICUBIC)


def cropped(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Cut a part of 70 to 95 % of each side out, at a random place."""
    width, height = (round(side * rng.uniform(0.7, 0.95)) for side in image.size)
    left, top = int(rng.integers(image.width - width + 1)), int(rng.integers(image.height - height + 1))
    return image.crop((left, top, left + width, top + height))


CHANGES: dict[str, Change] = {"quality 50": quality_50, "resized": resized, "cropped": cropped}


def plant(root: Path, rng: np.random.Generator) -> tuple[dict[str, tuple[str, str]], dict[str, str]]:
    """Plant copies and wrong labels; returns kind and original by the copy's name, and the true class by file."""
    train = sorted(path for path in (root / "train").rglob("*.JPEG"))
    order = rng.permutation(len(train))
    copies: dict[str, tuple[str, str]] = {}
    for number, (kind, change) in enumerate(CHANGES.items()):
        for index in order[number * PLANTED : (number + 1) * PLANTED].tolist():
            source = train[index]
            with Image.open(source) as image:
                changed = change(image.convert("RGB"), rng)
            target = root / "val" / source.parent.name / f"planted_{kind.replace(' ', '_')}_{index}.JPEG"
            changed.save(target, "JPEG", quality=50 if kind == "quality 50" else 92)
            copies[str(target.relative_to(root))] = kind, str(source.relative_to(root))
    classes = sorted(path.name for path in (root / "train").iterdir())
    wrong: dict[str, str] = {}
    for index in order[3 * PLANTED : 3 * PLANTED + round(WRONG_LABELS * len(train))].tolist():
        source = train[index]
        other = rng.choice([name for name in classes if name != source.parent.name])
        target = root / "train" / other / f"moved_{source.name}"
        source.rename(target)
        wrong[str(target.relative_to(root))] = source.parent.name
    return copies, wrong


def pairs_across_splits(diagnosis: Diagnosis) -> dict[tuple[str, str], str]:
    """Return the kind of each pair that was found across splits, by the two names in order."""
    roster: Roster = diagnosis.roster
    return {
        in_order(roster.name(copy.first), roster.name(copy.second)): kind
        for kind, copy in diagnosis.copies
        if roster.splits[copy.first] != roster.splits[copy.second]
    }


def in_order(one: str, other: str) -> tuple[str, str]:
    """Return two names in order."""
    return (one, other) if one <= other else (other, one)


def share(part: int, whole: int) -> dict[str, Any]:
    """Return a fraction with its 95 % interval."""
    return {"found": part, "of": whole, "share": part / whole if whole else None,
            "interval": wilson_interval(part, whole) if whole else None}  # fmt: skip


def copies_found(
    copies: dict[str, tuple[str, str]], before: dict[tuple[str, str], str], after: dict[tuple[str, str], str]
) -> dict[str, Any]:
    """Compare the pairs across splits with what was planted.

    A copy of a photo that has a copy of its own already is found twice, which is right both times.
    """
    originals = {source for _, source in copies.values()}
    wanted = {in_order(name, source): kind for name, (kind, source) in copies.items()}
    twins = {name for pair in before for name in pair}
    unplanned = [pair for pair in after if pair not in wanted and pair not in before
                 and not (set(pair) & copies.keys() and set(pair) & twins)]  # fmt: skip
    by_kind = Counter(wanted.values())
    hits = Counter(kind for pair, kind in wanted.items() if pair in after)
    exact_kinds = {kind: sum(1 for pair, found in after.items() if found == kind and pair in unplanned)
                   for kind in sorted(set(after.values()))}  # fmt: skip
    whole = sum(hits[kind] for kind in ("quality 50", "resized"))
    alike = [pair for pair in unplanned if after[pair] != "part"]
    return {
        "planted": dict(by_kind),
        "recall": {kind: share(hits[kind], count) for kind, count in by_kind.items()},
        "precision_of_copies": share(whole, whole + len(alike)),
        "precision_with_parts": share(sum(hits.values()), sum(hits.values()) + len(unplanned)),
        "pairs_there_before": len(before),
        "not_planted_by_kind": exact_kinds,
        "not_planted": [list(pair) for pair in unplanned[:50]],
        "originals": len(originals),
    }


def labels_found(wrong: dict[str, str], diagnosis: Diagnosis) -> dict[str, Any]:
    """Compare the suspect labels of training photos with the labels that were changed."""
    roster = diagnosis.roster
    named = [roster.name(suspect.index) for suspect in diagnosis.suspects or ()]
    train = [name for name in named if name.startswith("train/")]
    right_class = sum(roster.class_names[suspect.likely] == wrong.get(roster.name(suspect.index))
                      for suspect in diagnosis.suspects or ())  # fmt: skip
    first = train[: len(wrong)]
    return {
        "changed": len(wrong),
        "recall": share(len(set(train) & wrong.keys()), len(wrong)),
        "precision": share(len(set(train) & wrong.keys()), len(train)),
        "of_as_many_as_were_changed": share(len(set(first) & wrong.keys()), len(first)),
        "true_class_named": share(right_class, len(set(train) & wrong.keys())),
    }


def main() -> None:
    """Plant, examine, compare."""
    rng, loaded = np.random.default_rng(0), load_model(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "photos"
        for split in ("train", "val"):
            shutil.copytree(Path(sys.argv[1]) / split, root / split)
        before = pairs_across_splits(examine(roster_of(root)))
        copies, wrong = plant(root, rng)
        diagnosis = examine(roster_of(root), loaded=loaded)
        found = {
            "photos": len(diagnosis.roster.files),
            "goals": GOALS,
            "copies": copies_found(copies, before, pairs_across_splits(diagnosis)),
            "labels": labels_found(wrong, diagnosis),
            "weights_sha256": loaded.sha256,
        }
    write_json(RESULT, found | {"provenance": provenance() | {"command": "python benchmarks/doctor.py PHOTOS WEIGHTS"}})
    print(json.dumps({key: found[key] for key in ("copies", "labels")}, indent=1)[:6000])


if __name__ == "__main__":
    main()
