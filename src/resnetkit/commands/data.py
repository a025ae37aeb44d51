"""The command `data`: fetch a data set by name, or look at one."""

from __future__ import annotations

import json
from pathlib import Path

from resnetkit.data.opening import open_all_data
from resnetkit.data.sources import load_dataset, write_samples
from resnetkit.data.spec import DATASETS
from resnetkit.data_page import look_at, usual_recipe, write_page
from resnetkit.errors import BadRequest
from resnetkit.home import home
from resnetkit.printing import OUT, print_data
from resnetkit.recipes import load_recipe

SHOW = "show"
IMAGES, HEADERS = 12, 20_000  # on the page; read of each split


def data(
    name: str,
    place: str | None,
    source: str | None,
    samples: str | None,
    recipe: str | None,
    overrides: list[str],
    out: str | None,
    images: int | None,
    headers: int | None,
    as_json: bool,
) -> int:
    """Fetch and verify a data set, or with `show` look at one."""
    if name == SHOW:
        if place is None:
            raise BadRequest("data show: expected a folder, a list or a name", "next: resnetkit data show DIR")
        if source or samples:
            raise BadRequest("--from, --samples: they belong to resnetkit data NAME")
        page = Path(out) if out else None
        return show(place, recipe, overrides, page, images or IMAGES, headers or HEADERS, as_json)
    if place is not None or recipe or overrides or out or images or headers or as_json:
        flags = "a folder, --recipe, --set, --out, --images, --headers and --json"
        raise BadRequest(f"data {name}: {flags} belong to data show", f"next: resnetkit data show {place or name}")
    return fetch(name, source, samples)


def fetch(name: str, source: str | None, samples: str | None) -> int:
    """Fetch and verify a data set."""
    dataset = load_dataset(name, source=Path(source) if source else None)
    OUT.print(f"{name}: {len(dataset.train.images):,} training and {len(dataset.test.images):,} test images")
    known = "as expected" if DATASETS[name].array_sha256 else "of files with the published MD5"
    OUT.print(f"sha256 {dataset.sha256}, {known}")
    OUT.print(f"kept in {home() / 'data' / name}")
    if samples:
        for path in write_samples(dataset, Path(samples)):
            OUT.print(f"wrote {path}")
    return 0


def show(
    place: str,
    recipe: str | None,
    overrides: list[str],
    out: Path | None,
    images: int,
    headers: int,
    as_json: bool,
) -> int:
    """Count images by class, look at sizes and modes, and write a page with images raw and augmented."""
    if out is not None and not out.absolute().parent.is_dir():
        raise BadRequest(f"--out: no such folder: {out.parent}")
    dataset = open_all_data(place)
    chosen = load_recipe(recipe or usual_recipe(dataset), overrides)
    facts = look_at(dataset, headers)
    page = out or Path(f"{Path(place).resolve().name}-data.html")
    if as_json:
        print(json.dumps(facts.to_json(), indent=1, ensure_ascii=False))
    else:
        print_data(facts)
    if out is not None or not as_json:
        write_page(page, dataset, facts, chosen, images)
    if not as_json:
        OUT.print(f"page {page}, with {chosen.name}")
    return 0
