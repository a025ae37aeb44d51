"""Lists of photos: CSV with a header or without, or text with a path and a label a line.

photos.csv    path,label[,split]   names of the columns are looked up, in any order
train.txt     path label           the label is the last word; a line without one is labelled by its folder
classes.txt   name                 the classes in their order, where numbers are labels or the order matters
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from resnetkit.data.parts import Part, listed_part, size_of
from resnetkit.data.photos import ENDINGS, some_of
from resnetkit.errors import BadRequest

LIST_ENDINGS = (".csv", ".tsv", ".txt")
PATH_COLUMNS = ("path", "file", "filename", "filepath", "file_name", "image", "image_path", "img")
LABEL_COLUMNS = ("label", "class", "class_name", "category", "target", "synset")
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
EXPECTED = (
    "expected a CSV with columns path and label (and split), or text with PATH LABEL a line",
    f"known columns: {', '.join(PATH_COLUMNS)}; {', '.join(LABEL_COLUMNS)}; {', '.join(SPLIT_COLUMNS)}",
)
MOST_DIGITS = 5  # of a class number; longer numbers are names
SYNSET = re.compile(r"n\d{8}")


@dataclass(frozen=True)
class Row:
    """One photo of a list."""

    path: str
    label: str
    split: str | None = None


def read_list(file: Path) -> list[Row]:
    """Read the rows of a list; BadRequest names every line that is none.

    A path may have bytes that are not UTF-8, as names of files do; labels and splits are text.
    """
    text = read_text(file, errors="surrogateescape")
    rows = text_rows(text) if file.suffix == ".txt" else csv_rows(text, file)
    bad = [f"line {number}" for number, row in rows if not (row.path and row.label)]
    if bad or not rows:
        next_step = "next: give it another name if it is no list of photos"
        raise BadRequest(f"{file}: expected a path and a label, got {some_of(bad) or 'no lines'}", *EXPECTED, next_step)
    odd = [f"line {number}" for number, row in rows if not is_text(f"{row.label}{row.split or ''}")]
    if odd:
        raise BadRequest(f"{file} cannot be read as UTF-8 text", f"got other bytes in {some_of(odd)}")
    return [row for _, row in rows]


def is_text(words: str) -> bool:
    """Say whether words have no bytes in them that were not UTF-8."""
    return not any("\udc80" <= character <= "\udcff" for character in words)


def read_text(file: Path, errors: str = "strict") -> str:
    """Read UTF-8 text, with or without a byte order mark."""
    try:
        return file.read_text(encoding="utf-8-sig", errors=errors)
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{file} cannot be read as UTF-8 text", f"got {error}") from error


def text_rows(text: str) -> list[tuple[int, Row]]:
    """Split lines at their last blank, where no image's name stands behind it."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        path, _, label = line.strip().replace("\t", " ").rpartition(" ")
        if not path or PurePosixPath(label).suffix.lower() in ENDINGS:  # a path that may have blanks in it
            path = line.strip()
            label = PurePosixPath(path).parent.name
        if path:
            rows.append((number, Row(path.strip(), label)))
    return rows


def csv_rows(text: str, file: Path) -> list[tuple[int, Row]]:
    """Read a table by the names of its columns; without a header the columns are path, label and split."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t" if file.suffix == ".tsv" else ",")
    try:
        table = [(reader.line_num, [cell.strip() for cell in line]) for line in reader if any(line)]
    except csv.Error as error:
        raise BadRequest(f"{file}, line {reader.line_num}: {error}", *EXPECTED) from error
    header = [cell.lower() for cell in table[0][1]] if table else []
    places = [place_of(header, known) for known in (PATH_COLUMNS, LABEL_COLUMNS, SPLIT_COLUMNS)]
    if places[0] is None or places[1] is None:
        if len(header) < 2 or PurePosixPath(header[0]).suffix not in ENDINGS:
            raise BadRequest(f"{file}: no columns of paths and labels", f"got {some_of(header)}", *EXPECTED)
        places = [0, 1, 2 if len(header) > 2 else None]
    else:
        table = table[1:]
    return [(number, Row(cell(line, places[0]), cell(line, places[1]), cell(line, places[2]) or None))
            for number, line in table]  # fmt: skip


def place_of(header: Sequence[str], known: Sequence[str]) -> int | None:
    """Return the place of the first column of a known name."""
    return next((header.index(name) for name in known if name in header), None)


def cell(line: Sequence[str], place: int | None) -> str:
    """Return a cell of a line, empty where the line is shorter."""
    return line[place] if place is not None and place < len(line) else ""


def rows_part(
    origin: Path, rows: Sequence[Row], folders: Sequence[Path], classes: tuple[str, ...] | None = None
) -> Part:
    """Make a split of rows; their paths are relative to the first of the folders that has the first photo.

    Whole paths are made relative to the folder that all of them share.  Labels are names of `classes` where all are;
    else, where all are numbers, places.
    """
    folder = next((folder for folder in folders if size_of(folder / rows[0].path) is not None), folders[0])
    paths = [row.path for row in rows]
    if all(PurePath(path).is_absolute() for path in paths):
        folder = Path(os.path.commonpath([PurePath(path).parent for path in paths]))
        paths = [str(PurePath(path).relative_to(folder)) for path in paths]
    named = classes is not None and {row.label for row in rows} <= set(classes)
    if not named and all(row.label.isdecimal() and len(row.label) <= MOST_DIGITS for row in rows):
        return listed_part(origin, folder, paths, (int(row.label) for row in rows), None)
    names = tuple(sorted({row.label for row in rows}))
    places = {name: place for place, name in enumerate(names)}
    return listed_part(origin, folder, paths, (places[row.label] for row in rows), names)


def read_classes(file: Path) -> tuple[str, ...]:
    """Read the class names in their order, a line each; of a line that begins with a synset, the synset."""
    return classes_in(read_text(file), str(file))


def classes_in(text: str, origin: str) -> tuple[str, ...]:
    """Return the class names that such a file's text lists."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    names = [line.split()[0] for line in lines]
    if not all(SYNSET.fullmatch(name) for name in names):
        names = lines
    twice = [name for name, count in Counter(names).items() if count > 1]
    odd = [ascii(name) for name in names if not name.isprintable()]
    if twice or odd or not names:
        raise BadRequest(f"{origin}: {some_of(twice + odd) or 'no class'}", "expected a class a line, each once")
    return tuple(names)
