"""The table of timm's published weights against timm's own registry."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from figures import Figure
from timm.models import get_pretrained_cfg, list_pretrained

from resnetkit.published import PUBLISHED
from resnetkit.published_tables import DEFAULTS

NETS = r"resnet(18|34|50|101|152)[cd]?|wide_resnet(50|101)_2"  # what an Architecture of ours can be


def timm_names() -> list[str]:
    """Return the weights of timm's ResNets that have a URL of their own."""
    names: list[str] = [name for name in list_pretrained() if re.fullmatch(NETS, name.partition(".")[0])]
    return [name for name in names if get_pretrained_cfg(name).url]


def published_figures() -> Iterator[Figure]:
    """Compare every entry, the names of all, and what the plain name of a net means."""
    names = timm_names()
    ours = {name.removeprefix("timm/") for name in PUBLISHED if name.startswith("timm/")}
    yield Figure("names", "all", "timm", len(ours ^ set(names)), 0.0)
    for name in names:
        yield Figure("weights", name, "timm", float(differences(name)), 0.0)
    for net, tag in DEFAULTS["timm"].items():
        yield Figure("default", net, "timm", float(get_pretrained_cfg(net).tag != tag), 0.0)


def differences(name: str) -> int:
    """Count in what our entry differs from timm's: URL, licence, crop, resize, interpolation, constants, classes."""
    entry, cfg = PUBLISHED[f"timm/{name}"], get_pretrained_cfg(name)
    crop = (cfg.test_input_size or cfg.input_size)[1]
    view = entry.preprocess
    pairs = (
        (entry.url, cfg.url),
        (entry.licence, cfg.license),
        (view.image_size, crop),
        (view.resize_size, math.floor(crop / (cfg.test_crop_pct or cfg.crop_pct))),
        (view.family, f"pillow-{cfg.interpolation}"),
        ([round(float(number), 6) for number in (*view.mean, *view.std)], [*cfg.mean, *cfg.std]),
        (entry.class_list, "imagenet" if cfg.num_classes == 1000 else None),
        (view.keep_ratio, cfg.crop_mode == "center"),
    )
    return sum(ours != theirs for ours, theirs in pairs)
