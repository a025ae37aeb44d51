"""What is in a checkpoint of another library: the tensors under our names, and what is recorded beside them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from resnetkit.errors import WeightsError
from resnetkit.layouts.recognise import shorten
from resnetkit.layouts.tables import AKAMASTER, HUGGINGFACE, openmmlab_rows, rename, to_ours
from resnetkit.models.resnet import StrideStyle

WRAPPERS = ("state_dict", "model_state_dict", "model", "net")  # keys that hold the tensors of a full checkpoint
MAX_WRAPPERS = 4  # one in another; a bound, because a file can name itself as its own content
AVERAGED = ("state_dict_ema", "model_ema")  # timm's, torchvision's; the raw weights are under a key of WRAPPERS
RAW = "ema_state_dict"  # mmengine's: there `state_dict` is what the averaging hook left to be evaluated
MMCV_COPY = "ema_"  # of mmcv 1.x: a copy of each parameter, its dots made underscores
COUNTERS = {"n_averaged", "steps"}  # of the averaging, beside the averaged tensors
WRAPPED = re.compile(r"(?:module\.|_orig_mod\.)+(.*)")  # DataParallel and torch.compile, in any order
HOLDERS = ("model.", "net.")  # attributes under which a trainer's own module keeps the net; all names have it
MAX_TEXT = 100  # of what is recorded; longer texts are whole configurations
MAX_NAME = 200  # characters of a tensor's name
MAX_KEY = 60
CONFIGS = ("cfg", "config")  # keys of meta that hold a whole OpenMMLab configuration as text
STYLE = re.compile(r"""\bstyle['"]?\s*[=:]\s*['"](pytorch|caffe)['"]""")
CONSTANTS = re.compile(
    r"""\b(mean|std)['"]?\s*[=:]\s*[\[(]\s*(\d+(?:\.\d*)?)\s*,\s*(\d+(?:\.\d*)?)\s*,\s*(\d+(?:\.\d*)?)\s*,?\s*[\])]"""
)
KEEPS_BGR = re.compile(r"""\bto_rgb['"]?\s*[=:]\s*False""")


@dataclass(frozen=True)
class Constants:
    """Mean and std of RGB pixels, in [0, 1] units."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class ForeignWeights:
    """Weights of another library under our names, in the dtype of the file."""

    layout: str
    tensors: dict[str, Tensor]
    class_names: tuple[str, ...] | None = None
    recorded: dict[str, Any] = field(default_factory=dict)  # plain numbers and short texts beside the tensors
    notes: tuple[str, ...] = ()  # which copy was taken, what was left aside
    stride_style: StrideStyle | None = None  # None: not recorded
    constants: Constants | None = None


def from_foreign(content: Any, *, raw: bool = False) -> ForeignWeights:
    """Find the tensors of a loaded file and bring them under our names.

    Where a file has averaged weights and raw ones, the averaged are taken, and said; `raw` takes the others.
    Raises WeightsError where there are none, and where two would get one name.
    """
    recorded, class_names, aside = look_around(content)
    tensors, notes = choose_copy(content, raw)
    tensors = unwrapped(strip_holder(unwrapped(tensors)))
    counters = [name for name in COUNTERS if name in tensors and tensors[name].numel() == 1]
    tensors = {name: value for name, value in tensors.items() if name not in counters}
    tensors, mmcv_notes = choose_mmcv_copy(tensors, raw and not notes)
    if raw and not (notes or mmcv_notes):
        raise WeightsError("--raw: the file has one copy of the weights only")
    layout, ours = under_our_names(tensors)
    aside += sorted(counters)
    left = [f"left aside: {shorten(aside)}"] if aside else []
    style, constants = read_configuration(content)
    return ForeignWeights(layout, ours, class_names, recorded, (*notes, *mmcv_notes, *left), style, constants)


def levels(content: Any) -> list[tuple[Mapping[Any, Any], str | None]]:
    """Return the mappings from the file's content down to the one with the tensors, each with the key that led on.

    Raises WeightsError where two ways lead to tensors: the file does not say which net is meant.
    """
    found: list[tuple[Mapping[Any, Any], str | None]] = []
    while isinstance(content, Mapping) and len(found) <= MAX_WRAPPERS:
        inner = [key for key in WRAPPERS if holds_tensors(content.get(key))]
        if len(inner) > 1:
            next_step = "next: save the one that is meant in a file of its own"
            raise WeightsError("the file holds more than one net", f"got tensors under {', '.join(inner)}", next_step)
        found.append((content, inner[0] if inner else None))
        content = content[inner[0]] if inner else None
    return found


def holds_tensors(content: Any, depth: int = 0) -> bool:
    """Tell whether a mapping has tensors by name, or leads to one that has."""
    if not isinstance(content, Mapping) or depth > MAX_WRAPPERS:
        return False
    if any(isinstance(value, Tensor) for value in content.values()):
        return True
    return any(holds_tensors(content.get(key), depth + 1) for key in WRAPPERS)


def find_tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors by name of a loaded file: the file itself, or what is under a usual key."""
    found = levels(content)
    if found:
        tensors = {str(name): value for name, value in found[-1][0].items() if isinstance(value, Tensor)}
        refuse_odd_names(tensors)
        if tensors and len(found) <= MAX_WRAPPERS:
            return tensors
    keys = f" with {shorten([shown(key) for key in content])}" if isinstance(content, Mapping) and content else ""
    where = ", ".join(WRAPPERS)
    next_step = f"expected tensors by name, in the file itself or under one of {where}"
    raise WeightsError("the file holds no tensors by name", f"got {type(content).__name__}{keys}", next_step)


def refuse_odd_names(names: Iterable[str]) -> None:
    """Refuse names that no net has: of any length, or such that a terminal would obey."""
    for name in names:
        if len(name) > MAX_NAME or not name.isprintable():
            raise WeightsError("a tensor's name is too long or cannot be printed", f"got {shown(name)}")


def shown(key: Any) -> str:
    """Write a key of a file so that it stays a short text of one line."""
    text = str(key)
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= MAX_KEY else f"{text[:MAX_KEY]}..."


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off what DataParallel and torch.compile put before names."""
    return rename(tensors, [lambda name: (m := WRAPPED.fullmatch(name)) and m[1]])


def choose_copy(content: Any, raw: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Return the averaged tensors or the raw ones, and what to say where there are both."""
    if isinstance(content, Mapping):
        averaged = averaged_key(content)
        if averaged:
            if raw:
                return find_tensors(content), [f"the raw weights; {averaged} has the averaged ones"]
            return find_tensors(content[averaged]), [f"the averaged weights, {averaged} (--raw takes the others)"]
        if holds_tensors(content.get(RAW)):
            if raw:
                return find_tensors(content[RAW]), [f"the raw weights, {RAW}; state_dict has the averaged ones"]
            return find_tensors(content), ["the averaged weights, state_dict (--raw takes ema_state_dict)"]
    return find_tensors(content), []


def averaged_key(content: Mapping[Any, Any]) -> str | None:
    """Return the key of a file's averaged weights beside the raw ones."""
    return next((key for key in AVERAGED if holds_tensors(content.get(key))), None)


def choose_mmcv_copy(tensors: dict[str, Tensor], raw: bool) -> tuple[dict[str, Tensor], list[str]]:
    """Settle the copies of mmcv 1.x, `ema_<name with underscores>` beside the tensors; unknown ones stay.

    Its hook exchanges the two after an epoch (mmcv/runner/hooks/ema.py).  Where it comes before the hook that saves,
    as OpenMMLab's configs have it (priority ABOVE_NORMAL or 49), the plain names have the average; no file says so.
    """
    copies = {name: f"{MMCV_COPY}{name.replace('.', '_')}" for name in tensors}
    copied = {name: copy for name, copy in copies.items() if copy in tensors}
    if not copied:
        return tensors, []
    those = set(copied.values())
    kept = {name: value for name, value in tensors.items() if name not in those}
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
    for number, (level, way) in enumerate(levels(content)):
        meta = level.get("meta")
        for source in (level, meta if isinstance(meta, Mapping) else {}):
            recorded |= {shown(key): value for key, value in source.items() if is_plain(value)}
            class_names = class_names or named_classes(source)
        # `choose_copy` says of these itself which was taken
        copy = (averaged_key(level) or RAW) if number == 0 else None
        rest = {key: value for key, value in level.items() if key not in {way, copy, "meta"} and not is_plain(value)}
        aside += [shown(key) for key, value in rest.items() if way or not isinstance(value, Tensor)]
    return recorded, class_names, aside


def read_configuration(content: Any) -> tuple[StrideStyle | None, Constants | None]:
    """Return stride style and constants from the text of the configuration that OpenMMLab's files have in `meta`.

    Taken only where the text has one value of each; nothing of it is run.
    """
    metas = [level.get("meta") for level, _ in levels(content)]
    texts = [meta[key] for meta in metas if isinstance(meta, Mapping) for key in CONFIGS
             if isinstance(meta.get(key), str)]  # fmt: skip
    text = "\n".join(texts)
    styles = set(STYLE.findall(text))
    numbers = {kind: {tuple(map(float, found[1:])) for found in CONSTANTS.findall(text) if found[0] == kind}
               for kind in ("mean", "std")}  # fmt: skip
    style: StrideStyle | None = ("caffe" if "caffe" in styles else "pytorch") if len(styles) == 1 else None
    means, stds = numbers["mean"], numbers["std"]
    if len(means) != 1 or len(stds) != 1:
        return style, None
    (mean,), (std,) = means, stds
    # Images of CIFAR come as RGB, all others as BGR: a net fed with BGR would need its channels turned.
    if not all(std) or max(*mean, *std) > 255 or (KEEPS_BGR.search(text) and "CIFAR" not in text):
        return style, None
    return style, Constants(tuple(number / 255 for number in mean), tuple(number / 255 for number in std))


def is_plain(value: Any) -> bool:
    """Tell whether a value is a number or a short text of a line."""
    if isinstance(value, str):
        return len(value) <= MAX_TEXT and value.isprintable()
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, bool) or (isinstance(value, int) and abs(value) < 2**63)


def named_classes(meta: Mapping[Any, Any]) -> tuple[str, ...] | None:
    """Return the class names that OpenMMLab's files have: CLASSES before 1.0, then dataset_meta.classes."""
    inner = meta.get("dataset_meta")
    for source in (meta, inner if isinstance(inner, Mapping) else {}):
        for key in ("CLASSES", "classes"):
            names = source.get(key)
            if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
                return tuple(names)
    return None
