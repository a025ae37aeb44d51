"""From a model to a file for another engine: the graph, the facts that it carries, and the gate before it is kept."""

from __future__ import annotations

import copy
import io
import json
import logging
import os
import secrets
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from resnetkit.artefact import ENDINGS, KEY, Artefact, Facts, open_artefact
from resnetkit.data.transforms import Preprocess
from resnetkit.engines import CLASS_MAPS, LAST_MAP, LOGITS
from resnetkit.engines.of_torch import class_maps
from resnetkit.errors import BadRequest, ExportFailed, ResnetkitError, first_line
from resnetkit.home import sync_folder
from resnetkit.load import LoadedModel
from resnetkit.models import ResNet, name_of
from resnetkit.models.batchnorm import fold
from resnetkit.provenance import installed
from resnetkit.quantize import Int8, quantize_onnx, quantize_openvino
from resnetkit.ways import Format

OPSET = 18  # of ONNX
MAKERS: dict[Format, tuple[str, ...]] = {
    "onnx": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "openvino": ("torch", "onnx", "onnxscript", "openvino"),
    "torch-export": ("torch",),
}


class Deployed(nn.Module):
    """A net whose norms are folded, with normalisation before it: uint8 [N, H, W, C] to logits [N, classes].

    With `has_map` also the last map [N, C, h, w], and what it says of each class [N, classes, h, w]: its mean over the
    places is the logit less its bias, since pooling and the one linear layer may change places (arXiv 1512.04150).
    """

    def __init__(self, model: ResNet, preprocess: Preprocess, has_map: bool) -> None:
        super().__init__()
        size = preprocess.image_size
        self.has_map = has_map
        self.model = copy.deepcopy(model).cpu().to(memory_format=torch.contiguous_format).eval()
        fold(self.model, torch.zeros(1, model.arch.in_channels, size, size))
        self.register_buffer("mean", torch.from_numpy(preprocess.mean))  # one a channel, or an image [H, W, C]
        self.register_buffer("std", torch.from_numpy(preprocess.std))

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor, Tensor]:
        """Return logits, or logits, the last map [N, C, h, w] and maps of the classes [N, classes, h, w]."""
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.std, Tensor)
        inputs = ((images.to(torch.float32) / 255 - self.mean) / self.std).permute(0, 3, 1, 2)
        last = self.model.features(inputs)[-1]
        logits: Tensor = self.model.fc(last.mean((2, 3)))
        return (logits, last, class_maps(self.model.fc.weight, last)) if self.has_map else logits


def facts_of(loaded: LoadedModel, form: Format, has_map: bool) -> Facts:
    """Return what an artefact of a model says of itself before its gate."""
    return Facts(
        format=form,
        net=name_of(loaded.model.arch),
        class_names=loaded.class_names,
        preprocess=loaded.preprocess,
        has_map=has_map,
        weights_sha256=loaded.sha256,
        about=loaded.about,
        gate=None,
        versions={name: version(name) for name in MAKERS[form]},
    )


def refuse_missing(form: Format, int8: bool) -> None:
    """Refuse a format whose libraries are not installed."""
    wanted = (*MAKERS[form], *(("nncf",) if int8 and form == "openvino" else ()))
    missing = [name for name in wanted if installed(name) is None]
    if missing:
        raise BadRequest(f"{form} needs {', '.join(missing)}", "next: pip install 'resnetkit[export]'")


def check_target(path: Path, form: Format) -> None:
    """Refuse a file that cannot be written as asked: another ending, something there, no folder."""
    ending = ENDINGS[form]
    problems = []
    if path.suffix != ending:
        problems.append(f"{path}: expected a name that ends in {ending}, for {form}")
    if any(os.path.lexists(file) for file in files_of(path, form)):
        problems.append(f"{path} exists already; next: name another file, or remove it")
    if not path.absolute().parent.is_dir():
        problems.append(f"no such folder: {path.parent}")
    if problems:
        raise BadRequest(problems[0], *problems[1:])


def files_of(path: Path, form: Format) -> tuple[Path, ...]:
    """Return the files that an artefact is made of."""
    return (path, path.with_suffix(".bin")) if form == "openvino" else (path,)


@contextmanager
def drafted(path: Path) -> Iterator[Path]:
    """Give a folder beside the target to write an artefact in, for as long as nobody knows whether it is good."""
    folder = path.absolute().parent / f".{path.name}.{secrets.token_hex(4)}.part"
    folder.mkdir()
    try:
        yield folder / path.name
    finally:
        shutil.rmtree(folder)


def keep(draft: Path, path: Path, form: Format) -> None:
    """Move an artefact from its draft to where it belongs, the file that is opened last."""
    for own, target in reversed(list(zip(files_of(draft, form), files_of(path, form), strict=True))):
        with own.open("rb") as file:
            os.fsync(file.fileno())
        own.replace(target)
    sync_folder(path.absolute().parent)


def draft_of(loaded: LoadedModel, facts: Facts, draft: Path, int8: Int8 | None = None) -> Artefact:
    """Write an artefact, and open it as a user will."""
    for file in files_of(draft, facts.format):  # of an attempt before; one that is still open keeps what it had
        file.unlink(missing_ok=True)
    module = Deployed(loaded.model, loaded.preprocess, facts.has_map).eval()
    size, channels = loaded.preprocess.image_size, loaded.model.arch.in_channels
    example = torch.zeros(2, size, size, channels, dtype=torch.uint8)  # of one image, the batch would stay at one
    try:
        with quiet():
            WRITERS[facts.format](module, example, draft, int8)
    except ResnetkitError:
        raise
    except Exception as error:
        kind = f"{facts.format}{', int8' if int8 else ''}"
        raise ExportFailed(
            f"{kind}: the exporter failed", f"got {type(error).__name__}: {first_line(error)}"
        ) from error
    write_facts(draft, replace(facts, quantized=int8.to_json() if int8 else None))
    return open_artefact(draft)


def write_facts(path: Path, facts: Facts) -> None:
    """Put facts into an artefact, in place of those that it has."""
    STAMPS[facts.format](path, json.dumps(facts.to_json()))


@contextmanager
def quiet() -> Iterator[None]:
    """Keep to itself what exporters and quantisers tell of their own insides: logs, warnings, progress bars."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# --- the formats ---


def batch_of_any_size() -> tuple[dict[int, Any]]:
    """Return the one dimension that is not fixed, of the one input."""
    return ({0: torch.export.Dim("batch", min=1)},)


def onnx_model(module: nn.Module, example: Tensor) -> Any:
    """Return a module as an ONNX model, without what the exporter tells of this machine's files."""
    names = [LOGITS, LAST_MAP, CLASS_MAPS] if getattr(module, "has_map", False) else [LOGITS]
    program = torch.onnx.export(module, (example,), dynamo=True, input_names=["images"], output_names=names,
                                dynamic_shapes=batch_of_any_size(), opset_version=OPSET, verbose=False)  # fmt: skip
    assert program is not None
    model = program.model_proto
    del model.metadata_props[:]
    graph = model.graph
    for part in (graph, *graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        part.doc_string = ""
        del part.metadata_props[:]
    return model


def write_onnx(module: nn.Module, example: Tensor, path: Path, int8: Int8 | None) -> None:
    """Write an ONNX file."""
    import onnx

    model = onnx_model(module, example)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    if int8:
        whole = path.with_name(f"float-{path.name}")
        path.replace(whole)
        quantize_onnx(whole, path, int8.calibration, int8.places)
        whole.unlink()


def stamp_onnx(path: Path, text: str) -> None:
    """Put facts into an ONNX file."""
    import onnx

    model = onnx.load(path)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, {KEY: text})
    onnx.save(model, path)


def write_openvino(module: nn.Module, example: Tensor, path: Path, int8: Int8 | None) -> None:
    """Write OpenVINO's pair of files, by way of ONNX."""
    import onnx

    from resnetkit.engines.of_openvino import library, read_model

    openvino = library()
    from openvino.passes import ConstantFolding, Manager

    passing = path.with_suffix(".onnx")
    onnx.save(onnx_model(module, example), passing)
    model = read_model(passing)
    folding = Manager()  # biases whose shapes are computed are not known for biases, and quantised as sums
    folding.register_pass(ConstantFolding())
    folding.run_passes(model)
    if int8:
        model = quantize_openvino(model, int8.calibration, int8.places)
    openvino.save_model(model, path, compress_to_fp16=False)
    passing.unlink()


def stamp_openvino(path: Path, text: str) -> None:
    """Put facts into OpenVINO's files: they are written anew, as the old ones are still mapped."""
    from resnetkit.engines.of_openvino import library, read_model

    model = read_model(path)
    model.set_rt_info(text, [KEY])
    anew = path.with_name(f"anew-{path.name}")
    library().save_model(model, anew, compress_to_fp16=False)
    for own, target in zip(files_of(anew, "openvino"), files_of(path, "openvino"), strict=True):
        own.replace(target)


def write_program(module: nn.Module, example: Tensor, path: Path, int8: Int8 | None) -> None:
    """Write a program of torch.export, without the images that it was traced by."""
    assert int8 is None, "torch-export is float only"
    program = torch.export.export(module, (example,), dynamic_shapes=batch_of_any_size())
    program.example_inputs = None
    for node in program.graph.nodes:  # what it tells of this machine's files
        for name in ("stack_trace", "nn_module_stack", "torch_fn"):
            node.meta.pop(name, None)
    torch.export.save(program, path)


def stamp_program(path: Path, text: str) -> None:
    """Put facts into a program's file."""
    torch.export.save(torch.export.load(path), path, extra_files={f"{KEY}.json": text})


WRITERS: dict[Format, Callable[[nn.Module, Tensor, Path, Int8 | None], None]] = {
    "onnx": write_onnx,
    "openvino": write_openvino,
    "torch-export": write_program,
}
STAMPS: dict[Format, Callable[[Path, str], None]] = {
    "onnx": stamp_onnx,
    "openvino": stamp_openvino,
    "torch-export": stamp_program,
}
