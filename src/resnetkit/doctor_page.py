"""The page of an examination: what was found, with pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from resnetkit.data.decode import decode
from resnetkit.data.quarantine import Quarantined
from resnetkit.doctor import Diagnosis, copy_counts
from resnetkit.errors import BadImage
from resnetkit.home import atomic_write
from resnetkit.page import data_uri, render

TEMPLATE = "doctor.html"
SIDE = 128  # pixels, of pictures on the page
SHOWN_PAIRS, SHOWN_SUSPECTS, SHOWN_ODD, SHOWN_FILES = 24, 48, 6, 40
SHOWN_CLASSES = 60


def write_doctor_page(
    path: Path, diagnosis: Diagnosis, found: dict[str, Any], quarantine: Sequence[Quarantined]
) -> None:
    """Write the page."""
    facts = {
        "found": found,
        "counts": copy_counts(found),
        "pairs": shown_pairs(diagnosis, found["copies"]),
        "suspects": [
            row | {"picture": picture(diagnosis, suspect.index)}
            for suspect, row in zip((diagnosis.suspects or ())[:SHOWN_SUSPECTS], found["suspects"] or (), strict=False)
        ],
        "odd": shown_odd(diagnosis),
        "quarantined": len(quarantine),
        "unusable": sum(map(len, found["problems"].values())),
        "classes": shown_classes(found),
        "shown_files": SHOWN_FILES,
    }
    with atomic_write(path) as file:
        file.write(render(TEMPLATE, facts, {}).encode("utf-8", "replace"))


def picture(diagnosis: Diagnosis, index: int) -> str:
    """Write a photo as a small file inside the page; an empty text where it cannot be read any more."""
    file = diagnosis.roster.files[index]
    try:
        return data_uri(decode(file.read_bytes(), os.fspath(file)), SIDE, "JPEG")
    except (BadImage, OSError):
        return ""


def shown_pairs(diagnosis: Diagnosis, rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the pairs that are shown: across splits first, then across classes; of each the least alike first."""

    def weight(place: int) -> tuple[bool, bool, float]:
        row = rows[place]
        return len(set(row["splits"])) == 1, len(set(row["classes"])) == 1, row["likeness"]

    places = sorted(range(len(rows)), key=weight)[:SHOWN_PAIRS]
    pairs = [diagnosis.copies[place][1] for place in places]
    return [rows[place] | {"pictures": [picture(diagnosis, copy.first), picture(diagnosis, copy.second)]}
            for place, copy in zip(places, pairs, strict=True)]  # fmt: skip


def shown_odd(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    """Return the oddities with how many photos have each, and pictures of some."""
    found: dict[str, list[int]] = {}
    for index, inspection in enumerate(diagnosis.inspections):
        for oddity in inspection.oddities:
            found.setdefault(oddity, []).append(index)
    return [{"name": oddity, "count": len(indices), "pictures": some_pictures(diagnosis, indices)}
            for oddity, indices in sorted(found.items(), key=lambda item: -len(item[1]))]  # fmt: skip


def some_pictures(diagnosis: Diagnosis, indices: Iterable[int]) -> list[tuple[str, str]]:
    """Return names and pictures of the first photos that can be read."""
    usable = [index for index in indices if diagnosis.inspections[index].problem is None][:SHOWN_ODD]
    return [(diagnosis.roster.shown(index), picture(diagnosis, index)) for index in usable]


def shown_classes(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the classes with counts of each split; of many the largest and the smallest of the first split."""
    first = next(iter(found["splits"]))
    largest = max((row[first] for row in found["classes"]), default=0) or 1
    rows = [{"name": row["class"], "counts": [row[split] for split in found["splits"]],
             "share": 100 * row[first] / largest} for row in found["classes"]]  # fmt: skip
    if len(rows) <= SHOWN_CLASSES:
        return rows
    ordered = sorted(rows, key=lambda row: -row["counts"][0])
    return ordered[: SHOWN_CLASSES // 2] + ordered[-SHOWN_CLASSES // 2 :]
