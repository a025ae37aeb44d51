"""The command `data`: fetch a data set by name, or look at one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from resnetkit.data.opening import open_all_data, open_data
from resnetkit.data.packing import Packing, pack
from resnetkit.data.photos import PhotoDataset
from resnetkit.data.shards import Content
from resnetkit.data.sources import load_dataset, write_samples
from resnetkit.data.spec import DATASETS
from resnetkit.data_page import look_at, usual_recipe, write_page
from resnetkit.errors import BadRequest
from resnetkit.home import home
from resnetkit.journal import warn
from resnetkit.printing import OUT, print_data
from resnetkit.progress import StepProgress
from resnetkit.recipes import load_recipe

SHOW, PACK = "show", "pack"
IMAGES, HEADERS = 12, 20_000  # on the page; read of each split


def data(
    name: str,
    place: str | None,
    target: str | None,
    content: Content | None,
    side: int | None,
    quality: int | None,
    shard_mb: int | None,
    quarantine: str | None,
    source: str | None,
    samples: str | None,
    recipe: str | None,
    overrides: list[str],
    out: str | None,
    images: int | None,
    headers: int | None,
    as_json: bool,
) -> int:
    """Fetch and verify a data set, with `show` look at one, or with `pack` put it into shards."""
    of_show: dict[str, object] = {
        "--recipe": recipe,
        "--set": overrides,
        "--out": out,
        "--images": images,
        "--headers": headers,
    }
    of_pack = {"OUT": target, "--content": content, "--side": side, "--quality": quality, "--shard-mb": shard_mb,
               "--quarantine": quarantine}  # fmt: skip
    of_fetch: dict[str, object] = {"--from": source, "--samples": samples}
    if name == PACK:
        refuse_given(PACK, of_show | of_fetch)
        if place is None or target is None:
            raise BadRequest("data pack: expected DIR and OUT", "next: resnetkit data pack DIR OUT")
        if quality is not None and quality > 100:
            raise BadRequest(f"--quality: expected 1 to 100, got {quality}")
        packing = Packing(content or "original", side or Packing.side, quality or Packing.quality,
                          (shard_mb or 0) * 1_000_000 or Packing.shard_bytes)  # fmt: skip
        return pack_photos(place, Path(target), packing, quarantine, as_json)
    refuse_given(name, of_pack)
    if name == SHOW:
        if place is None:
            raise BadRequest("data show: expected a folder, a list or a name", "next: resnetkit data show DIR")
        refuse_given(SHOW, of_fetch)
        page = Path(out) if out else None
        return show(place, recipe, overrides, page, images or IMAGES, headers or HEADERS, as_json)
    if place is not None or recipe or overrides or out or images or headers or as_json:
        flags = "a folder, --recipe, --set, --out, --images, --headers and --json"
        raise BadRequest(f"data {name}: {flags} belong to data show", f"next: resnetkit data show {place or name}")
    return fetch(name, source, samples)


def refuse_given(name: str, arguments: Mapping[str, object]) -> None:
    """Refuse arguments of another use of the command."""
    given = [argument for argument, value in arguments.items() if value]
    if given:
        raise BadRequest(f"data {name}: it does not take {', '.join(given)}", "next: resnetkit data --help")


def pack_photos(place: str, out: Path, packing: Packing, quarantine: str | None, as_json: bool) -> int:
    """Put photos into shards."""
    dataset = open_data(place, quarantine)
    if not isinstance(dataset, PhotoDataset):
        raise BadRequest(f"{place} is in memory whole: shards would not make it faster")
    for note in dataset.notes:
        warn(note)
    photos = sum(len(split) for split in (dataset.train, dataset.val, dataset.test) if split)
    with StepProgress("pack", photos) as progress:
        packed = pack(dataset, out, packing, progress.count_images)
    if as_json:
        print(json.dumps(asdict(packed) | {"folder": str(packed.folder)}))
        return 0
    again = f", {packed.again:,} of them from before" if packed.again else ""
    OUT.print(f"{packed.photos:,} photos in {packed.shards:,} shards{again}, {packed.bytes / 1e6:,.1f} MB: {out}")
    OUT.print(f"next: resnetkit train RECIPE --data {out}")
    return 0


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
