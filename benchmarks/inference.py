"""How fast is a prediction, beside timm, mmpretrain, and the engines called directly?

run: .venv-parity/bin/python benchmarks/inference.py PHOTOS WEIGHTS CALIBRATION
                                                 writes results/inference.json; about 15 minutes
PHOTOS       ImageNet photos in folders named by synset
WEIGHTS      a ResNet-18 for ImageNet
CALIBRATION  other photos, to quantise the ResNet-18 by
needs: an idle machine, make parity (the peers' environment)

ResNet-50 has random weights, and no gate: it is about speed alone.  ResNet-18 goes through the gate.  Each side is a
process of its own, in turns; `resnetkit bench` does the timing, the peers are sides like its own.
"auto" is what predict opens after bench: the fastest way, behind our engine and preprocessing.
"""

from __future__ import annotations

import itertools
import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.bench_worker import Opened, Side, opened
from resnetkit.data.transforms import Preprocess
from resnetkit.engine_store import form_file
from resnetkit.home import write_json
from resnetkit.provenance import provenance
from resnetkit.ways import WAYS, Way

if TYPE_CHECKING:  # what a side does not need is not imported in its process, which imports this file
    from resnetkit.bench import Candidate, Measured

RESULT = Path(__file__).parents[1] / "results" / "inference.json"
DRAWN = "resnet50_8xb32_in1k"
NETS = {"resnet50": "resnet50_8xb32_in1k", "resnet18": "resnet18_8xb32_in1k"}  # of timm, and mmpretrain's configs
GOALS = {"times_timm": {"1": 7, "16": 7}, "times_fastest_float32": 2.5, "beside_direct": 1.03, "file_times_timm": 5}
FILE, DIRECT = "file to label: ", "called directly: "
SIDE = Preprocess(224, np.zeros(3, np.float32), np.ones(3, np.float32), 256)


def say(line: str) -> None:
    """Tell how far it is."""
    print(line, file=sys.stderr, flush=True)


# --- sides: each loads in a process of its own ---


def timm_net(name: str, channels_last: bool) -> Opened:
    """Open a net of timm, as its own benchmark does: normalised float32 images are ready."""
    import timm
    import torch

    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = timm.create_model(name).eval().to(memory_format=layout)
    return ready_tensors(model), SIDE


def mmpretrain_net(name: str) -> Opened:
    """Open a net of mmpretrain's, on normalised float32 images that are ready."""
    return ready_tensors(mmpretrain_inferencer(name).model.eval()), SIDE


def ready_tensors(model: Any) -> Callable[[NDArray[np.uint8]], object]:
    """Ask a model for the logits of tensors that are there before the clock starts."""
    import torch

    tensors: dict[int, torch.Tensor] = {}

    @torch.inference_mode()
    def logits(images: NDArray[np.uint8]) -> object:
        if len(images) not in tensors:
            tensors[len(images)] = torch.randn(len(images), 3, 224, 224)
        return model(tensors[len(images)])

    return logits


def mmpretrain_inferencer(name: str) -> Any:
    """Open mmpretrain's usual way from files to labels."""
    import mmpretrain
    from mmpretrain.apis import ImageClassificationInferencer

    config = Path(mmpretrain.__file__).parent / ".mim" / "configs" / "resnet" / f"{NETS[name]}.py"
    return ImageClassificationInferencer(str(config), pretrained=False, device="cpu")


def direct(library: str, file: Path) -> Opened:
    """Open a file by its library alone, with its own settings but that float32 is computed in float32."""
    if library == "openvino":
        import openvino

        core = openvino.Core()
        model = core.read_model(file)
        model = openvino.Model([model.get_results()[0]], model.get_parameters())  # the logits, as the others compute
        compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return lambda images: compiled(images)[0], SIDE
    import onnxruntime

    session = onnxruntime.InferenceSession(file)
    return lambda images: session.run(["logits"], {"images": images})[0], SIDE


def files_by_timm(name: str, photos: Path) -> Opened:
    """Name files by timm's usual path: Pillow, its own transform, a batch of one, softmax, top 5."""
    import timm
    import torch
    from PIL import Image

    model = timm.create_model(name).eval()
    transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model), is_training=False)
    files = endless(photos)

    @torch.inference_mode()
    def label(images: NDArray[np.uint8]) -> object:
        with Image.open(next(files)) as image:
            return model(transform(image.convert("RGB")).unsqueeze(0)).softmax(1).topk(5)

    return label, SIDE


def files_by_mmpretrain(name: str, photos: Path) -> Opened:
    """Name files by mmpretrain's inferencer."""
    inferencer = mmpretrain_inferencer(name)
    inferencer.show_progress = False
    files = endless(photos)
    return lambda images: inferencer(str(next(files))), SIDE


def files_by_ours(side: Side, photos: Path) -> Opened:
    """Name files as `predict` does, one at a time."""
    from resnetkit.predict import predict

    logits, preprocess = opened(side)
    files = endless(photos)

    class Opening:
        name = side.way

        def __init__(self) -> None:
            self.preprocess, self.logits = preprocess, logits

    engine: Any = Opening()
    return lambda images: list(predict(engine, [str(next(files))])), preprocess


def endless(photos: Path) -> itertools.cycle[Path]:
    """Return the photos again and again."""
    return itertools.cycle(sorted(photos.rglob("*.JPEG")))


# --- the runs ---


def peers(name: str) -> list[Candidate]:
    """Return the peers' sides."""
    from resnetkit.bench import Candidate

    sides = {"timm eager": partial(timm_net, name, False), "timm channels last": partial(timm_net, name, True),
             "mmpretrain eager": partial(mmpretrain_net, name)}  # fmt: skip
    return [Candidate(label, load, "a peer", passed=False) for label, load in sides.items()]


def beside(way: Way, folder: Path) -> Candidate:
    """Return the side that calls a way's library directly."""
    from resnetkit.bench import Candidate

    assert way.form
    load = partial(direct, way.library, form_file(folder, way.form, way.int8))
    return Candidate(DIRECT + way.name, load, "no code of ours between", passed=False)


def files_sides(name: str, torch_side: Side, fastest: Side, photos: Path) -> list[Candidate]:
    """Return the sides from a file to its label."""
    from resnetkit.bench import Candidate

    sides: dict[str, Callable[[], Opened]] = {
        "timm": partial(files_by_timm, name, photos),
        "mmpretrain": partial(files_by_mmpretrain, name, photos),
        "torch": partial(files_by_ours, torch_side, photos),
        "auto": partial(files_by_ours, fastest, photos),
    }
    return [Candidate(FILE + label, load, "", passed=False) for label, load in sides.items()]


def run(name: str, photos: Path, weights: Path | None, calibration: Path | None) -> dict[str, Any]:
    """Measure one net."""
    from resnetkit.bench import exported_candidates, own_candidates, time_candidates
    from resnetkit.classifier import classifier_of
    from resnetkit.gate import Bounds
    from resnetkit.gated import calibrated, judge_of
    from resnetkit.load import drawn_model, load_model
    from resnetkit.models import ResNet
    from resnetkit.models.counting import count
    from resnetkit.quantize import Calibration

    loaded = load_model(weights) if weights else drawn_model(DRAWN)
    torch_side = Side("torch", weights=str(weights)) if weights else Side("torch", drawn=DRAWN)
    judge = judge_of(classifier_of(loaded), str(photos)) if weights else None
    shown = (
        calibrated(loaded, str(calibration), 300, judge, say)
        if calibration
        else Calibration(np.random.default_rng(0).integers(0, 256, (8, 224, 224, 3), np.uint8), "generated")
    )
    macs = count(lambda: ResNet(loaded.model.arch), 224).macs
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        ours = own_candidates(torch_side, None)
        exported = list(exported_candidates(loaded, folder, judge, Bounds(), shown, say))
        runnable = [each.name for each in exported if each.load]
        exact = [WAYS[way] for way in runnable if not WAYS[way].bfloat16]
        pairs = [side for each in exported for side in (each, *(beside(way, folder) for way in exact
                                                               if way.name == each.name))]  # fmt: skip
        arithmetic = time_candidates([*peers(name), *ours, *pairs], macs, say)
        fastest = next(row.candidate.name for row in arithmetic.rows if row.candidate.name in (choosable(exported)))
        way = WAYS[fastest]
        assert way.form
        auto = Side(fastest, form_file(folder, way.form, way.int8))
        labels = time_candidates(files_sides(name, torch_side, auto, photos), macs, say, batch_sizes=(1,))
    return {"auto": fastest, "arithmetic": arithmetic.to_json(), "files": labels.to_json(),
            "found": compared(fastest, arithmetic, labels)}  # fmt: skip


def choosable(exported: list[Candidate]) -> list[str]:
    """Return the ways that may be chosen: those that passed, or without a gate all."""
    passed = [each.name for each in exported if each.passed]
    return passed or [each.name for each in exported if each.load]


def compared(auto: str, arithmetic: Measured, labels: Measured) -> dict[str, Any]:
    """Return the ratios that the goals are about."""
    rates = {row.candidate.name: {timing.batch_size: timing.images_per_second for timing in row.timings}
             for measured in (arithmetic, labels) for row in measured.rows}  # fmt: skip
    float32 = [way.name for way in WAYS.values() if not way.is_rounded and way.name in rates]
    floats = [*float32, *(way.name for way in WAYS.values() if way.bfloat16 and way.name in rates)]

    def beside_fastest(names: list[str]) -> dict[str, float]:
        return {str(size): rates[auto][size] / max(rates[name][size] for name in names) for size in (1, 16)}

    return {
        "times_timm": {str(size): rates[auto][size] / rates["timm eager"][size] for size in (1, 16)},
        "times_timm_channels_last": {
            str(size): rates[auto][size] / rates["timm channels last"][size] for size in (1, 16)
        },
        "times_mmpretrain": {str(size): rates[auto][size] / rates["mmpretrain eager"][size] for size in (1, 16)},
        "times_fastest_float32": beside_fastest(float32),
        "times_fastest_float": beside_fastest(floats),
        "beside_direct": {
            name: {str(size): rates[DIRECT + name][size] / rates[name][size] for size in (1, 16)}
            for name in rates
            if DIRECT + name in rates
        },
        "file_times_timm": rates[FILE + "auto"][1] / rates[FILE + "timm"][1],
        "file_times_mmpretrain": rates[FILE + "auto"][1] / rates[FILE + "mmpretrain"][1],
    }


def main() -> None:
    """Measure both nets and write it down."""
    photos, weights, calibration = map(Path, sys.argv[1:4])
    result = {"resnet50, drawn weights, no gate": run("resnet50", photos, None, None),
              "resnet18": run("resnet18", photos, weights, calibration)}  # fmt: skip
    libraries = ("timm", "mmpretrain", "onnxruntime", "openvino", "nncf")
    facts = {"command": ".venv-parity/bin/python benchmarks/inference.py PHOTOS WEIGHTS CALIBRATION",
             "peers": {name: version(name) for name in libraries}}  # fmt: skip
    said = {"goals_of_resnet50": GOALS, "inference": result, "provenance": provenance() | facts}
    write_json(RESULT, said)
    for name, each in result.items():
        print(name, json.dumps(each["found"], indent=1))


if __name__ == "__main__":
    main()
