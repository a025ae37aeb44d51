"""The command `doctor`: examine a data set; plain arguments in, output printed, exit code returned."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from resnetkit.data.quarantine import Quarantined, write_quarantine
from resnetkit.data.spec import DATASETS
from resnetkit.doctor import Diagnosis, examine, findings, quarantine_of, roster_of
from resnetkit.doctor_page import write_doctor_page
from resnetkit.errors import BadRequest
from resnetkit.home import write_json
from resnetkit.load import load_model
from resnetkit.printing import OUT, print_findings
from resnetkit.processes import choose_device
from resnetkit.progress import StepProgress

PAGE, FINDINGS, QUARANTINE = "report.html", "findings.json", "quarantine.csv"


def doctor(
    place: str,
    model: str | None,
    out: str | None,
    suspects_too: bool,
    no_parts: bool,
    as_json: bool,
    device: str | None,
) -> int:
    """Examine a data set, print what was found, and write page, findings and quarantine list."""
    where = choose_device(device)
    if place in DATASETS:
        raise BadRequest(f"{place} is verified whole when it is read", "expected a folder or list of photos")
    if suspects_too and model is None:
        raise BadRequest("--quarantine-suspects: expected --model MODEL, whose features tell suspect labels")
    folder = Path(out) if out else Path(f"{Path(place).resolve().name}-doctor")
    if not folder.absolute().parent.is_dir():
        raise BadRequest(f"--out: no such folder: {folder.parent}")
    roster = roster_of(Path(place))
    loaded = load_model(model) if model else None
    if loaded is not None:
        loaded.model.to(where)
    diagnosis = examine(roster, loaded=loaded, parts=not no_parts, device=where, watch=shown)
    found, quarantine = written(folder, diagnosis, suspects_too)
    if as_json:
        print(json.dumps(found, indent=1))
    else:
        print_findings(found)
        OUT.print(f"page {folder / PAGE}\nfindings {folder / FINDINGS}")
        OUT.print(f"quarantine list {folder / QUARANTINE}: {len(quarantine):,} photos")
        if quarantine:
            OUT.print(
                f"next: resnetkit finetune {shlex.quote(place)} --quarantine {shlex.quote(str(folder / QUARANTINE))}"
            )
    return 0


@contextmanager
def shown(title: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of one part of an examination."""
    with StepProgress(title, total) as progress:
        yield progress.count_images


def written(folder: Path, diagnosis: Diagnosis, suspects_too: bool) -> tuple[dict[str, Any], list[Quarantined]]:
    """Write page, findings and quarantine list; returns the last two."""
    folder.mkdir(exist_ok=True)
    quarantine = quarantine_of(diagnosis, suspects_too)
    found = findings(diagnosis, quarantine)
    write_json(folder / FINDINGS, found)
    write_quarantine(folder / QUARANTINE, quarantine)
    write_doctor_page(folder / PAGE, diagnosis, found, quarantine)
    return found, quarantine
