"""The exported forms that `bench` made of a model, and which way of running it was the fastest here.

They are kept in RESNETKIT_HOME/engines, in a folder for each model: weights, net, preprocessing and class names.
What was the fastest counts on the machine, and with the versions of libraries, that it was measured with.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnetkit import checkpoint
from resnetkit.artefact import ENDINGS
from resnetkit.checkpoint import tensors_sha256
from resnetkit.errors import DamagedFile
from resnetkit.home import file_sha256, home, locked, read_json, write_json
from resnetkit.provenance import installed, processor, usable_cores

if TYPE_CHECKING:
    from resnetkit.load import LoadedModel
from resnetkit.ways import AUTO, WAYS, Format, Way

FOLDER = "engines"
VERSIONED = ("torch", "onnxruntime", "openvino")  # libraries whose speed and answers a choice is about


def key_of(loaded: LoadedModel) -> str:
    """Return the name of a model's folder: by its tensors, as a file may have two sets, and by how they are used.

    What another version of resnetkit makes of them is another model.
    """
    said = [installed("resnetkit"), tensors_sha256(loaded.model.state_dict()), asdict(loaded.model.arch),
            loaded.preprocess.to_json(), loaded.class_names, loaded.temperature]  # fmt: skip
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
    return {"processor": processor(), "cores": usable_cores(), "resnetkit": installed("resnetkit"),
            "versions": {name: installed(name) for name in VERSIONED}}  # fmt: skip


def way_for(key: str, engine_name: str | None) -> Way:
    """Return the way that is named, or the fastest here, or torch: where nothing is known, or its form is not there."""
    if engine_name != AUTO:
        return WAYS[engine_name or "torch"]
    way = WAYS[remembered(key) or "torch"]
    return way if way.form is None or file_of(key, way) else WAYS["torch"]


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


# --- weights files that are known, so that their net need not be built ---


@dataclass(frozen=True)
class Known:
    """What `bench` knew of a weights file."""

    path: Path
    sha256: str
    key: str
    origin: str  # what follows the path
    assumptions: tuple[str, ...]


def known_file(name: str, said: Mapping[str, Any]) -> Known | None:
    """Return what is known of the weights file that a name means, used as is said; None for all else."""
    path = weights_path(name)
    if path is None:
        return None
    sha256 = file_sha256(path)
    note = note_file(sha256, said)
    if not note.is_file():
        return None
    kept = read_json(note)
    try:
        return Known(path, sha256, str(kept["key"]), str(kept["origin"]), tuple(map(str, kept["assumptions"])))
    except (TypeError, KeyError) as error:
        raise DamagedFile(f"{note} is not whole", f"got {error!r}", "next: remove it") from error


def know_file(name: str, said: Mapping[str, Any], loaded: LoadedModel) -> None:
    """Keep what was found of a weights file."""
    path = weights_path(name)
    if path is None:
        return
    note = note_file(loaded.sha256, said)
    note.parent.mkdir(parents=True, exist_ok=True)
    facts = {"key": key_of(loaded), "origin": loaded.origin.removeprefix(str(path)), "assumptions": loaded.assumptions}
    write_json(note, facts)


def weights_path(name: str) -> Path | None:
    """Return the file that a name means by itself: a file, or that of a run directory."""
    path = Path(name)
    if (path / checkpoint.RECIPE).is_file():
        path = path / checkpoint.WEIGHTS
    return path if path.is_file() else None


def note_file(sha256: str, said: Mapping[str, Any]) -> Path:
    """Return the file with what is known of a weights file that is used so."""
    told = {option: value for option, value in sorted(said.items()) if value}
    digest = hashlib.sha256(json.dumps([installed("resnetkit"), sha256, told]).encode()).hexdigest()
    return home() / FOLDER / "files" / f"{digest}.json"


def may_have_gpu() -> bool:
    """Say whether there may be a GPU that torch would rather use, without asking torch."""
    return any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/dxg"))


@contextmanager
def renewed(key: str) -> Iterator[Path]:
    """Give a folder for a model's forms; it takes the place of the one before when the block ends well.

    What was chosen among the forms before goes with them, also on other machines that share the folder.
    """
    target = folder_of(key)
    target.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (target.with_name(f".{key[:16]}.{secrets.token_hex(4)}.{end}") for end in ("part", "old"))
    draft.mkdir()
    try:
        yield draft
        with locked(target.parent / ".lock"):
            if target.is_dir():
                target.replace(old)
            draft.replace(target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
