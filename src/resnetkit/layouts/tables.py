"""The names of tensors in other libraries: one table a layout, read from left to right and from right to left.

A row says what tensors are called there and here; `{...}` stands for the same text on both sides.  The first row
that fits a whole name decides, and a name that fits none stays as it is.  Sources: torchvision/models/resnet.py,
timm/models/resnet.py, mmpretrain/models/backbones/resnet.py, transformers/models/resnet/modeling_resnet.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Literal, get_args

from torch import Tensor

from resnetkit.errors import WeightsError

Rows = tuple[tuple[str, str], ...]  # (theirs, ours)
Target = Literal["torchvision", "openmmlab", "timm", "huggingface", "resnetkit"]
TARGETS: tuple[Target, ...] = get_args(Target)
NUMBER = r"\d+"  # what stands for {block}
MAX_STAGES = 8  # of the nets that the tables of transformers know

AKAMASTER: Rows = (("linear.{leaf}", "fc.{leaf}"), ("{place}.shortcut.{leaf}", "{place}.downsample.{leaf}"))

OPENMMLAB_HEAD: Rows = (("head.fc.{leaf}", "fc.{leaf}"),)
OPENMMLAB_DEEP_STEM: Rows = (
    ("backbone.stem.0.conv.{leaf}", "conv1.0.{leaf}"),
    ("backbone.stem.0.bn.{leaf}", "conv1.1.{leaf}"),
    ("backbone.stem.1.conv.{leaf}", "conv1.3.{leaf}"),
    ("backbone.stem.1.bn.{leaf}", "conv1.4.{leaf}"),
    ("backbone.stem.2.conv.{leaf}", "conv1.6.{leaf}"),
    ("backbone.stem.2.bn.{leaf}", "bn1.{leaf}"),
)
# V1D: a shortcut is (pool, conv, bn), but the first one, of stride 1, has no pool there; ours keeps its place
OPENMMLAB_POOLED: Rows = (
    ("backbone.layer1.0.downsample.0.{leaf}", "layer1.0.downsample.1.{leaf}"),
    ("backbone.layer1.0.downsample.1.{leaf}", "layer1.0.downsample.2.{leaf}"),
)
OPENMMLAB_REST: Rows = (("backbone.{name}", "{name}"),)

# stages, blocks' layers and the shortcut's parts are counted from zero there
_STAGES = [(f"resnet.encoder.stages.{stage}.layers.{{block}}", f"layer{stage + 1}.{{block}}")
           for stage in range(MAX_STAGES)]  # fmt: skip
HUGGINGFACE: Rows = (
    ("resnet.embedder.embedder.convolution.{leaf}", "conv1.{leaf}"),
    ("resnet.embedder.embedder.normalization.{leaf}", "bn1.{leaf}"),
    ("classifier.1.{leaf}", "fc.{leaf}"),
    *(
        (f"{theirs}.{their_part}.{{leaf}}", f"{ours}.{our_part}.{{leaf}}")
        for theirs, ours in _STAGES
        for their_part, our_part in (
            ("shortcut.convolution", "downsample.0"),
            ("shortcut.normalization", "downsample.1"),
            *((f"layer.{layer}.convolution", f"conv{layer + 1}") for layer in range(3)),
            *((f"layer.{layer}.normalization", f"bn{layer + 1}") for layer in range(3)),
        )
    ),
)


def openmmlab_rows(*, deep_stem: bool, pooled: bool) -> Rows:
    """Return OpenMMLab's table for a net with or without a deep stem and V1D's pooled shortcuts."""
    return (
        *OPENMMLAB_HEAD,
        *(OPENMMLAB_DEEP_STEM if deep_stem else ()),
        *(OPENMMLAB_POOLED if pooled else ()),
        *OPENMMLAB_REST,
    )


def to_ours(tensors: Mapping[str, Tensor], rows: Rows) -> dict[str, Tensor]:
    """Rename from their names to ours; WeightsError where two would get one name."""
    return rename(tensors, (_renamer(theirs, ours) for theirs, ours in rows))


def to_theirs(tensors: Mapping[str, Tensor], rows: Rows) -> dict[str, Tensor]:
    """Rename from our names to theirs; WeightsError where two would get one name."""
    return rename(tensors, (_renamer(ours, theirs) for theirs, ours in rows))


Renamer = Callable[[str], str | None]


def rename(tensors: Mapping[str, Tensor], renamers: Iterable[Renamer]) -> dict[str, Tensor]:
    """Rename by the first of `renamers` that knows a name; other names stay."""
    tried = list(renamers)
    renamed: dict[str, Tensor] = {}
    for name, value in tensors.items():
        target = next((new for new in (renamer(name) for renamer in tried) if new is not None), name)
        if target in renamed:
            raise WeightsError(f"two tensors of the file would both be {target!r}")
        renamed[target] = value
    return renamed


@lru_cache(maxsize=1000)
def _renamer(pattern: str, target: str) -> Renamer:
    """Return what turns a name like `pattern` into one like `target`, and any other into None."""
    parts = re.split(r"\{(\w+)\}", pattern)  # literal, field, literal, field, ..., literal
    literals, fields = map(re.escape, parts[::2]), parts[1::2]
    groups = [f"(?P<{field}>{NUMBER if field == 'block' else '.+'})" for field in fields]
    whole = re.compile("".join(part for pair in zip(literals, [*groups, ""], strict=True) for part in pair))

    def renamer(name: str) -> str | None:
        found = whole.fullmatch(name)
        return target.format(**found.groupdict()) if found else None

    return renamer
