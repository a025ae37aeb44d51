"""Exported models: a file for one engine, with class names, preprocessing and the figures of its gate inside.

Read and used without torch, but for what torch.export wrote.  The graph takes images as they are after resizing and
cropping, uint8 [N, size, size, 3], and normalises them itself; resizing and cropping are declared in the facts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

from resnetkit.data.transforms import Preprocess, preprocess_from_json
from resnetkit.engines import Engine
from resnetkit.errors import BadRequest, DamagedFile, ResnetkitError
from resnetkit.home import file_sha256
from resnetkit.ways import AUTO, Format, Way, ways_of_file

FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
KEY = "resnetkit"  # of the facts in an artefact
VERSION = 1


@dataclass(frozen=True)
class Facts:
    """What an artefact says of itself."""

    format: Format
    net: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    has_map: bool  # the last feature map [N, C, h, w] is a second output
    weights_sha256: str  # of the file that was exported
    about: dict[str, Any]  # recipe, data, metrics, license, origin of the weights
    gate: dict[str, Any] | None  # its figures; None: it was not asked
    versions: dict[str, str]  # of the libraries that made it
    quantized: dict[str, Any] | None = None  # how, and by which images; None: float

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data."""
        return asdict(self) | {"version": VERSION, "preprocess": self.preprocess.to_json()}


@dataclass(frozen=True)
class Artefact:
    """An exported model, ready to be asked."""

    path: Path
    facts: Facts
    engine: Engine
    sha256: str  # of the file; of OpenVINO's two files that of the weights

    def origin(self) -> str:
        """Say in one line what this is."""
        kind = f"{self.facts.format}{', int8' if self.facts.quantized else ''}"
        return f"{self.path}: {self.facts.net}, exported as {kind} from weights {self.facts.weights_sha256[:12]}"


def is_artefact(path: Path) -> bool:
    """Say whether a file is an exported model by its ending."""
    return path.suffix in ENDINGS.values() and path.is_file()


def facts_from_json(text: str, path: Path) -> Facts:
    """Read the facts of an artefact; DamagedFile where they are none."""
    try:
        data = json.loads(text)
        if data.pop("version") != VERSION:
            raise BadRequest(f"{path} was exported by another version", "next: export it again")
        facts = Facts(**data)
        names = tuple(map(str, facts.class_names))
        return replace(facts, class_names=names, preprocess=preprocess_from_json(data["preprocess"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFile(f"{path}: its facts cannot be read", f"got {error}") from error


def format_of(path: Path) -> Format:
    """Return the format of an exported model, by its ending."""
    return next(form for form, ending in ENDINGS.items() if ending == path.suffix)


def open_artefact(path: Path, engine_name: str = AUTO) -> Artefact:
    """Open an exported model, ours or refused, on its own engine or one that is named.

    Raises BadRequest for an engine that does not run it, DamagedFile for a file that is not whole.
    """
    form = format_of(path)
    try:
        facts, engine = OPENERS[form](path, engine_name)
    except ImportError as error:
        raise BadRequest(f"{path} needs {error.name}", "next: pip install 'resnetkit[export]'") from error
    except ResnetkitError:
        raise
    except Exception as error:
        raise DamagedFile(
            f"{path} cannot be opened as {form}", f"got {str(error).strip().splitlines()[0][:200]}"
        ) from error
    weights = path.with_suffix(".bin") if form == "openvino" else path
    return Artefact(path, facts, engine, file_sha256(weights))


def way_of(facts: Facts, engine_name: str, path: Path) -> Way:
    """Return the way that is named, or an exported model's own; BadRequest for one that does not run it."""
    ways = {way.name: way for way in ways_of_file(facts.format, facts.quantized is not None)}
    if engine_name == AUTO:
        return next(iter(ways.values()))
    if engine_name not in ways:
        raise BadRequest(f"--engine {engine_name} does not run {path}", f"expected {' or '.join(ways)}")
    return ways[engine_name]


def open_onnx(path: Path, engine_name: str) -> tuple[Facts, Engine]:
    """Open an ONNX file."""
    from resnetkit.engines.of_onnx import OnnxEngine, open_session

    session = open_session(path)
    facts = facts_from_json(told(session.get_modelmeta().custom_metadata_map.get(KEY), path), path)
    way = way_of(facts, engine_name, path)
    if way.library == "openvino":
        from resnetkit.engines.of_openvino import read_model

        return facts, openvino_engine(read_model(path), facts, way)
    return facts, OnnxEngine(session, facts.preprocess, way.name)


def open_openvino(path: Path, engine_name: str) -> tuple[Facts, Engine]:
    """Open OpenVINO's pair of files."""
    from resnetkit.engines.of_openvino import read_model

    model = read_model(path)
    kept = model.get_rt_info([KEY]).astype(str) if model.has_rt_info([KEY]) else None
    facts = facts_from_json(told(kept, path), path)
    return facts, openvino_engine(model, facts, way_of(facts, engine_name, path))


def openvino_engine(model: Any, facts: Facts, way: Way) -> Engine:
    """Make what OpenVINO has read ready to run."""
    from resnetkit.engines.of_openvino import OpenVinoEngine, compile_model

    return OpenVinoEngine(compile_model(model, way.bfloat16), facts.preprocess, way.name)


def open_program(path: Path, engine_name: str) -> tuple[Facts, Engine]:
    """Open what torch.export wrote."""
    import torch

    from resnetkit.engines.of_program import ProgramEngine
    from resnetkit.engines.program_check import refuse_code

    refuse_code(path)
    extra = {f"{KEY}.json": ""}
    program = torch.export.load(path, extra_files=extra)
    facts = facts_from_json(told(extra[f"{KEY}.json"], path), path)
    return facts, ProgramEngine(program.module(), facts.preprocess, way_of(facts, engine_name, path).name)


def told(text: str | None, path: Path) -> str:
    """Return the facts in a file; BadRequest where it has none."""
    if not text:
        raise BadRequest(f"{path} was not exported by resnetkit", "it says nothing of classes and preprocessing",
                         "next: resnetkit export MODEL")  # fmt: skip
    return text


OPENERS: dict[Format, Callable[[Path, str], tuple[Facts, Engine]]] = {
    "onnx": open_onnx,
    "openvino": open_openvino,
    "torch-export": open_program,
}
