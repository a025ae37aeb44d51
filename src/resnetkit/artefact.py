"""Exported models: a file for one engine, with class names, preprocessing and the figures of its gate inside.

Read and used without torch, but for what torch.export wrote.  The graph takes images as they are after resizing and
cropping, uint8 [N, size, size, 3], and normalises them itself; resizing and cropping are declared in the facts.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, get_args

import numpy as np

from resnetkit.confidence import temperature_of
from resnetkit.data.transforms import Preprocess, are_printable, preprocess_from_json, refuse_unsound_preprocess
from resnetkit.engines import Engine
from resnetkit.errors import BadRequest, DamagedFile, EngineRefused, ResnetkitError, first_line
from resnetkit.home import file_sha256
from resnetkit.ways import AUTO, WAYS, Format, Way, has_vnni, ways_of_file

FORMATS: tuple[Format, ...] = get_args(Format)
ENDINGS: dict[Format, str] = {"onnx": ".onnx", "openvino": ".xml", "torch-export": ".pt2"}
KEY = "resnetkit"  # of the facts in an artefact
OF_ONNX = ("framework", KEY)  # where OpenVINO has them of an ONNX file
VERSION = 2


@dataclass(frozen=True)
class Facts:
    """What an artefact says of itself."""

    format: Format
    net: str
    class_names: tuple[str, ...]
    preprocess: Preprocess
    has_map: bool  # the last feature map and what it says of each class are outputs too
    weights_sha256: str  # of the file that was exported
    about: dict[str, Any]  # recipe, data, metrics, license, origin, temperature of the weights
    gate: dict[str, Any] | None  # its figures; None: it was not asked
    versions: dict[str, str]  # of the libraries that made it
    quantized: dict[str, Any] | None = None  # how, and by which images; None: float

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax."""
        return temperature_of(self.about)

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
        facts = replace(facts, class_names=tuple(map(str, facts.class_names)),
                        preprocess=preprocess_from_json(data["preprocess"]))  # fmt: skip
        refuse_unsound_facts(facts)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DamagedFile(f"{path}: its facts cannot be read", f"got {error}") from error
    return facts


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
        raise DamagedFile(f"{path} cannot be opened as {form}", f"got {first_line(error)}") from error
    return Artefact(path, facts, engine, artefact_sha256(path))


def artefact_sha256(path: Path) -> str:
    """Return the SHA-256 of an exported model: of OpenVINO's two files that of the weights."""
    return file_sha256(path.with_suffix(".bin") if path.suffix == ENDINGS["openvino"] else path)


def refuse_unsound_facts(facts: Facts) -> None:
    """Refuse facts that no export has: ValueError says which."""
    refuse_unsound_preprocess(facts.preprocess, channels=3)
    texts = (*facts.class_names, facts.net, facts.weights_sha256)
    if not are_printable(texts):
        raise ValueError("names that cannot be printed")
    kinds = ((facts.about, dict), (facts.gate, dict | None), (facts.quantized, dict | None), (facts.format, str))
    if not all(isinstance(value, kind) for value, kind in kinds) or not isinstance(
        facts.about.get("data"), dict | None
    ):
        raise ValueError("parts that are not what they must be")
    temperature_of(facts.about)  # ValueError for one that can be none


def way_of(facts: Facts, engine_name: str, path: Path) -> Way:
    """Return the way that is named, or an exported model's own; BadRequest for one that does not run it."""
    ways = {way.name: way for way in ways_of_file(facts.format, facts.quantized is not None)}
    if engine_name == AUTO:
        return next(iter(ways.values()))
    if engine_name not in ways:
        raise EngineRefused(f"--engine {engine_name} does not run {path}", f"expected {' or '.join(ways)}")
    return ways[engine_name]


def open_onnx(path: Path, engine_name: str) -> tuple[Facts, Engine]:
    """Open an ONNX file."""
    if engine_name in WAYS and WAYS[engine_name].library == "openvino":
        return open_by_openvino(path, engine_name, OF_ONNX)
    from resnetkit.engines.of_onnx import OnnxEngine, open_session

    session = open_session(path)
    facts = facts_from_json(told(session.get_modelmeta().custom_metadata_map.get(KEY), path), path)
    way = way_of(facts, engine_name, path)
    refuse_overflow(facts, path)
    refuse_other_width(facts, session.get_outputs()[0].shape[1], path)
    return facts, OnnxEngine(session, facts.preprocess, way.name, facts.has_map, facts.temperature)


def open_openvino(path: Path, engine_name: str) -> tuple[Facts, Engine]:
    """Open OpenVINO's pair of files."""
    return open_by_openvino(path, engine_name, (KEY,))


def open_by_openvino(path: Path, engine_name: str, place: tuple[str, ...]) -> tuple[Facts, Engine]:
    """Open a file that OpenVINO reads, with its facts at a place of what it says of the model."""
    from resnetkit.engines.of_openvino import OpenVinoEngine, compile_model, for_logits, read_model

    model = read_model(path)
    kept = model.get_rt_info(list(place)).astype(str) if model.has_rt_info(list(place)) else None
    facts = facts_from_json(told(kept, path), path)
    way = way_of(facts, engine_name, path)
    refuse_other_width(facts, model.output(0).partial_shape[1].get_length(), path)
    whole = cache(partial(compile_model, model, way.bfloat16)) if facts.has_map else None
    compiled = compile_model(for_logits(model) if facts.has_map else model, way.bfloat16)
    return facts, OpenVinoEngine(compiled, facts.preprocess, way.name, whole, facts.temperature)


def open_program(path: Path, engine_name: str) -> tuple[Facts, Engine]:
    """Open what torch.export wrote."""
    import torch

    from resnetkit.engines.of_program import ProgramEngine
    from resnetkit.engines.program_check import checked_copy

    extra = {f"{KEY}.json": ""}
    program = torch.export.load(checked_copy(path), extra_files=extra)
    facts = facts_from_json(told(extra[f"{KEY}.json"], path), path)
    way = way_of(facts, engine_name, path)
    engine = ProgramEngine(program.module(), facts.preprocess, way.name, facts.has_map, facts.temperature)
    side = facts.preprocess.image_size
    refuse_other_width(facts, engine.logits(np.zeros((1, side, side, 3), np.uint8)).shape[1], path)
    return facts, engine


def refuse_other_width(facts: Facts, classes: int, path: Path) -> None:
    """Refuse a file whose names are not as many as its logits."""
    if len(facts.class_names) != classes:
        raise DamagedFile(f"{path}: its facts are not of its net", f"got {len(facts.class_names)} class names for "
                          f"{classes} logits")  # fmt: skip


def refuse_overflow(facts: Facts, path: Path) -> None:
    """Refuse bytes of 8 bits on a CPU without VNNI: ONNX Runtime's sums of products overflow there, silently."""
    if facts.quantized and facts.quantized.get("weight_bits") == 8 and not has_vnni():
        raise BadRequest(f"{path} was quantised for CPUs with VNNI", "this one has none, where its sums would overflow",
                         "next: export it here, or for openvino")  # fmt: skip


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
