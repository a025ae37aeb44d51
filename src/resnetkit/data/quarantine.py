"""Photos that are to be left out: a list with the reason for each, as `resnetkit doctor` writes it or anybody does.

quarantine.csv    path,reason,...    paths relative to the data's folder, or to that of its list
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from resnetkit.data.lists import cell, place_of, read_text
from resnetkit.data.photos import some_of
from resnetkit.errors import BadRequest
from resnetkit.home import atomic_write

COLUMNS = ("path", "reason")


@dataclass(frozen=True)
class Quarantined:
    """One photo to leave out."""

    path: str  # `name_in` the data
    reason: str
    because_of: str = ""  # the photo that it is a copy of
    split: str = ""
    label: str = ""


def base_of(root: Path) -> Path:
    """Return the folder that the paths of a quarantine list are relative to."""
    return root if root.is_dir() else root.parent


def name_in(root: Path, file: Path) -> str:
    """Return how a quarantine list of a data set names a file."""
    base = base_of(root).absolute()
    whole = file.absolute()
    return whole.relative_to(base).as_posix() if whole.is_relative_to(base) else str(whole)


def write_quarantine(file: Path, rows: Iterable[Quarantined]) -> None:
    """Write a list, whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Quarantined)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(map(asdict, rows))
    with atomic_write(file) as opened:
        opened.write(text.getvalue().encode("utf-8", "surrogateescape"))


def read_quarantine(file: Path) -> dict[str, str]:
    """Read a list: reasons by path.  Raises BadRequest for what is none."""
    if not file.is_file():
        raise BadRequest(f"no quarantine list {file}", "next: resnetkit doctor DIR writes one")
    table = list(csv.reader(io.StringIO(read_text(file), newline="")))
    header = [name.strip().lower() for name in table[0]] if table else []
    path, reason = (place_of(header, (name,)) for name in COLUMNS)
    if path is None:
        raise BadRequest(f"{file}: not a quarantine list", f"expected columns {', '.join(COLUMNS)}",
                         f"got {some_of(header) or 'an empty file'}")  # fmt: skip
    return {cell(line, path): cell(line, reason) or "no reason given" for line in table[1:] if cell(line, path)}


def left_out_note(file: Path, reasons: Mapping[str, str], found: Iterable[str], photos: int) -> str:
    """Say how many of `photos` a list left out, and why."""
    taken = list(found)
    counts = Counter(reasons[path] for path in taken).most_common()
    why = f" ({', '.join(f'{count:,} {reason}' for reason, count in counts)})" if counts else ""
    strangers = len(reasons) - len(taken)
    unknown = f"; {strangers:,} of its entries are not in this data" if strangers else ""
    return f"{file.name}: {len(taken):,} of {photos:,} photos are left out{why}{unknown}"


def prefix_of(root: Path, folder: Path) -> bytes:
    """Return what comes before the paths of a split's folder in a quarantine list."""
    name = name_in(root, folder)
    return b"" if name == "." else os.fsencode(name) + b"/"
