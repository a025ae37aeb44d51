"""The exported forms that `bench` made of a model, and which way of running it was the fastest here.

They are kept in RESNETKIT_HOME/engines, in a folder for each model: weights, net, preprocessing and class names.
What was the fastest counts on the machine, and with the versions of libraries, that it was measured with.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from resnetkit.artefact import ENDINGS, VERSION
from resnetkit.errors import DamagedFile
from resnetkit.home import home, locked, read_json, write_json
from resnetkit.load import LoadedModel
from resnetkit.provenance import processor, usable_cores
from resnetkit.ways import WAYS, Format, Way

FOLDER = "engines"
LIBRARIES = ("torch", "onnxruntime", "openvino")


def key_of(loaded: LoadedModel) -> str:
    """Return the name of a model's folder: the same weights, told to be used otherwise, are another model."""
    said = [loaded.sha256, asdict(loaded.model.arch), loaded.preprocess.to_json(), loaded.class_names]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def folder_of(key: str) -> Path:
    """Return a model's folder; it may not be there."""
    return home() / FOLDER / key


def form_file(folder: Path, form: Format, int8: bool) -> Path:
    """Return the file of an exported form in a folder."""
    return folder / f"{form}{'-int8' * int8}{ENDINGS[form]}"


def file_of(key: str, way: Way) -> Path | None:
    """Return the file that a way runs, None where it was not made."""
    assert way.form
    file = form_file(folder_of(key), way.form, way.int8)
    return file if file.is_file() else None


def here() -> dict[str, Any]:
    """Return what a measurement of speed holds for: processor, cores, versions."""
    return {"processor": processor(), "cores": usable_cores(), "artefacts": VERSION,
            "versions": {name: installed(name) for name in LIBRARIES}}  # fmt: skip


def installed(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def choice_file(key: str) -> Path:
    """Return the file that has the fastest way here."""
    digest = hashlib.sha256(json.dumps(here()).encode()).hexdigest()[:16]
    return folder_of(key) / f"fastest-{digest}.json"


def remembered(key: str) -> str | None:
    """Return the name of the fastest way that was found here, None where `bench` did not run."""
    file = choice_file(key)
    if not file.is_file():
        return None
    said = read_json(file)
    name = said.get("engine") if isinstance(said, dict) else None
    if name not in WAYS:
        raise DamagedFile(f"{file} names no engine", f"got {name!r:.60}", "next: remove it")
    return str(name)


def remember(key: str, engine_name: str, measured: dict[str, Any]) -> Path:
    """Keep the fastest way for this machine, with what was measured; returns the file."""
    file = choice_file(key)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_json(file, {"engine": engine_name, "here": here(), "measured": measured})
    return file


@contextmanager
def renewed(key: str) -> Iterator[Path]:
    """Give a folder for a model's forms; it takes the place of the one before when the block ends well."""
    target = folder_of(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (target.with_name(f".{key[:16]}.{secrets.token_hex(4)}.{end}") for end in ("part", "old"))
    draft.mkdir()
    try:
        yield draft
        with locked(target.parent / ".lock"):
            for choice in target.glob("fastest-*.json") if target.is_dir() else ():
                shutil.copy2(choice, draft)  # those of other machines hold on
            if target.is_dir():
                target.replace(old)
            draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
