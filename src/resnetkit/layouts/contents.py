"""What is in a checkpoint of another library: the tensors under our names, and what is recorded beside them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from resnetkit.errors import WeightsError
from resnetkit.layouts.tables import AKAMASTER, HUGGINGFACE, openmmlab_rows, rename, to_ours

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # keys that hold the tensors of a full checkpoint
MAX_WRAPPERS = 4  # one in another; a bound, because a file can name itself as its own content
AVERAGED = ("state_dict_ema", "model_ema")  # timm's, torchvision's; the raw weights are under a key of WRAPPERS
RAW = "ema_state_dict"  # mmengine's: there `state_dict` is what the averaging hook left to be evaluated
MMCV_COPY = "ema_"  # of mmcv 1.x: a copy of each parameter, its dots made underscores
COUNTERS = {"n_averaged", "steps"}  # of the averaging, beside the averaged tensors
WRAPPED = re.compile(r"(?:module\.|_orig_mod\.)+(.*)")  # DataParallel and torch.compile, in any order
HOLDERS = ("model.", "net.")  # attributes under which a trainer's own module keeps the net; all names have it
MAX_TEXT = 100  # of what is recorded; longer texts are whole configurations


@dataclass(frozen=True)
class ForeignWeights:
    """Weights of another library under our names, in the dtype of the file."""

    layout: str
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None = None
    recorded: dict[str, Any] = field(default_factory=dict)  # plain numbers and short texts beside the tensors
    notes: tuple[str, ...] = ()  # which copy was taken, what was left aside


def from_foreign(content: Any, *, raw: bool = False) -> ForeignWeights:
    """Find the tensors of a loaded file and bring them under our names.

    Where a file has averaged weights and raw ones, the averaged are taken, and said; `raw` takes the others.
    Raises WeightsError where there are none, and where two would get one name.
    """
    recorded, class_names, aside = look_around(content)
    tensors, notes = choose_copy(content, raw)
    unwrapped = strip_holder(rename(tensors, [lambda name: (m := WRAPPED.fullmatch(name)) and m[1]]))
    counted = {name: value for name, value in unwrapped.items() if not (name in COUNTERS and value.numel() == 1)}
    counted, mmcv_notes = choose_mmcv_copy(counted, raw and not notes)
    if raw and not (notes or mmcv_notes):
        raise WeightsError("--raw: the file has one copy of the weights only")
    layout, ours = under_our_names(counted)
    left = [f"left aside: {', '.join(aside)}"] if aside else []
    return ForeignWeights(layout, ours, class_names, recorded, (*notes, *mmcv_notes, *left))


def levels(content: Any) -> list[Mapping[Any, Any]]:
    """Return the mappings from the file's content down to the one with the tensors."""
    found: list[Mapping[Any, Any]] = []
    while isinstance(content, Mapping) and len(found) <= MAX_WRAPPERS:
        found.append(content)
        content = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
    return found


def find_tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors by name of a loaded file: the file itself, or what is under a usual key."""
    found = levels(content)
    if found:
        tensors = {str(name): value for name, value in found[-1].items() if isinstance(value, Tensor)}
        if tensors and len(found) <= MAX_WRAPPERS:
            return tensors
    raise WeightsError("the file holds no tensors by name", f"got {type(content).__name__}")


def choose_copy(content: Any, raw: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Return the averaged tensors or the raw ones, and what to say where there are both."""
    if isinstance(content, Mapping):
        averaged = next((key for key in AVERAGED if isinstance(content.get(key), Mapping)), None)
        if averaged:
            if raw:
                return find_tensors(content), [f"the raw weights; {averaged} has the averaged ones"]
            return find_tensors(content[averaged]), [f"the averaged weights, {averaged} (--raw takes the others)"]
        if isinstance(content.get(RAW), Mapping):
            if raw:
                return find_tensors(content[RAW]), [f"the raw weights, {RAW}; state_dict has the averaged ones"]
            return find_tensors(content), ["the averaged weights, state_dict (--raw takes ema_state_dict)"]
    return find_tensors(content), []


def choose_mmcv_copy(tensors: dict[str, Tensor], raw: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Settle the copies of mmcv 1.x, `ema_<name with underscores>` beside the tensors; unknown ones stay.

    Its hook exchanges the two after an epoch (mmcv/runner/hooks/ema.py).  Where it comes before the hook that saves,
    as OpenMMLab's configs have it (priority ABOVE_NORMAL or 49), the plain names have the average; no file says so.
    """
    copies = {name: f"{MMCV_COPY}{name.replace('.', '_')}" for name in tensors}
    copied = {name: copy for name, copy in copies.items() if copy in tensors}
    if not copied:
        return tensors, []
    kept = {name: value for name, value in tensors.items() if name not in copied.values()}
    if raw:
        raws = {name: tensors[copy] for name, copy in copied.items()}
        return kept | raws, [
            f"the weights called {MMCV_COPY}*, {len(copied)} tensors: raw where plain names are averaged"
        ]
    told = (
        "the weights under plain names, averaged if mmcv's EMA hook came before its saving, as in OpenMMLab's configs"
    )
    return kept, [told, f"{len(copied)} copies called {MMCV_COPY}* left aside (--raw takes them)"]


def strip_holder(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off the one attribute name that all tensors begin with, where it is a trainer's."""
    for holder in HOLDERS:
        if all(name.startswith(holder) for name in tensors):
            return {name.removeprefix(holder): value for name, value in tensors.items()}
    return tensors


def under_our_names(tensors: dict[str, Tensor]) -> tuple[str, dict[str, Tensor]]:
    """Tell the layout by its names, and rename."""
    if any(name.startswith("backbone.") for name in tensors):
        deep = any(name.startswith("backbone.stem.") for name in tensors)
        pooled = "backbone.layer2.0.downsample.2.weight" in tensors
        return "openmmlab", to_ours(tensors, openmmlab_rows(deep_stem=deep, pooled=pooled))
    if any(name.startswith("embedder.embedder.") for name in tensors):  # saved without a head
        tensors = {f"resnet.{name}": value for name, value in tensors.items()}
    if any(name.startswith("resnet.embedder.") for name in tensors):
        return "huggingface", to_ours(tensors, HUGGINGFACE)
    if "linear.weight" in tensors:
        return "akamaster", to_ours(tensors, AKAMASTER)
    # Where there is no deep stem, timm's names are torchvision's; both are ours.
    return "timm" if "conv1.0.weight" in tensors else "torchvision", tensors


def look_around(content: Any) -> tuple[dict[str, Any], tuple[str, ...] | None, list[str]]:
    """Return what a file records beside its tensors, the class names in it, and the keys of all else."""
    recorded: dict[str, Any] = {}
    class_names: tuple[str, ...] | None = None
    aside: list[str] = []
    for level in levels(content):
        meta = level.get("meta")
        for source in (level, meta if isinstance(meta, Mapping) else {}):
            recorded |= {str(key): value for key, value in source.items() if is_plain(value)}
            class_names = class_names or named_classes(source)
        known = {*WRAPPERS, *AVERAGED, RAW, "meta"}
        aside += [str(key) for key, value in level.items()
                  if key not in known and not isinstance(value, Tensor) and not is_plain(value)]  # fmt: skip
    return recorded, class_names, aside


def is_plain(value: Any) -> bool:
    """Tell whether a value is a number or a short text of a line."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    return isinstance(value, bool | float) or (isinstance(value, int) and abs(value) < 2**63)


def named_classes(meta: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Return the class names that OpenMMLab's files have: CLASSES before 1.0, then dataset_meta.classes."""
    inner = meta.get("dataset_meta")
    for source in (meta, inner if isinstance(inner, Mapping) else {}):
        for key in ("CLASSES", "classes"):
            names = source.get(key)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
    return None
