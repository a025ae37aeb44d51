"""The command `export`: plain arguments in, exit code returned."""

from __future__ import annotations

from pathlib import Path

from resnetkit.artefact import ENDINGS
from resnetkit.classifier import Said, classifier_of
from resnetkit.errors import BadRequest
from resnetkit.export import check_target, drafted, facts_of, keep, refuse_missing
from resnetkit.gate import Bounds
from resnetkit.gated import calibrated, data_of, judge_of, write_gated
from resnetkit.load import LoadedModel, load_model
from resnetkit.printing import OUT
from resnetkit.quantize import Int8
from resnetkit.ways import Format


def export(
    model: str,
    said: Said,
    form: Format,
    out: str | None,
    data: str | None,
    last_map: bool,
    min_agreement: float,
    max_drop: float,
    int8: bool,
    calibration: str | None,
    images: int,
    no_gate: bool,
) -> int:
    """Write a model for another engine, if it answers there as it does here."""
    loaded = load_model(model, **said)
    own = Path(model).stem if Path(model).is_file() else Path(model).name
    target = Path(out or f"{own or 'model'}{ENDINGS[form]}")
    check_target(target, form)
    refuse_missing(form, int8)
    refuse_odd(loaded, form, int8, calibration)
    classifier = classifier_of(loaded)
    judge = None if no_gate else judge_of(classifier, data_of(classifier, data))
    OUT.print(loaded.origin)
    how = Int8(calibrated(loaded, str(calibration), images, judge, OUT.print)) if int8 else None
    bounds = Bounds(min_agreement / 100, max_drop / 100, exact=not int8)
    with drafted(target) as draft:
        artefact = write_gated(loaded, facts_of(loaded, form, last_map), draft, judge, bounds, how, OUT.print)
        if judge is None:
            OUT.print("no gate, as asked: nobody knows whether it answers like the model")
        keep(draft, target, form)
    OUT.print(f"exported {target}, for {artefact.engine.name}")
    OUT.print(f"next: resnetkit predict {target} PHOTO...")
    return 0


def refuse_odd(loaded: LoadedModel, form: Format, int8: bool, calibration: str | None) -> None:
    """Refuse what does not go together, all at once."""
    problems = []
    if loaded.model.arch.in_channels != 3:
        problems.append(f"images have 3 channels, the model takes {loaded.model.arch.in_channels}")
    if int8 and form == "torch-export":
        problems.append("--int8: expected --format onnx or openvino; torch-export is float only")
    if int8 and not calibration:
        problems.append("--int8: expected --calibration DIR, images like those that it will see")
    if calibration and not int8:
        problems.append("--calibration: expected --int8 beside it")
    if problems:
        raise BadRequest(problems[0], *problems[1:])
