"""The folders in which transformers and timm keep a model: weights, config.json, and how images are prepared.

Facts: transformers' ResNetConfig, ConvNextImageProcessor and BitImageProcessor; timm/models/_hub.py.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from resnetkit.data.transforms import Preprocess
from resnetkit.errors import DamagedFile, WeightsError
from resnetkit.home import read_json
from resnetkit.layouts.contents import is_plain
from resnetkit.models import Architecture
from resnetkit.models.resnet import StrideStyle
from resnetkit.recipe import ResizeFamily

CONFIG, PROCESSOR = "config.json", "preprocessor_config.json"
WEIGHTS = ("model.safetensors", "pytorch_model.bin")  # the first that is there
RESAMPLES: dict[Any, ResizeFamily] = {2: "pillow-bilinear", 3: "pillow-bicubic"}  # numbers of Pillow
INTERPOLATIONS: dict[Any, ResizeFamily] = {"bilinear": "pillow-bilinear", "bicubic": "pillow-bicubic"}
TIMM_NETS = re.compile(r"(?:wide_)?resnet\d+[cdst]?(?:_2)?")  # not resnetaa50, resnetblur50, resnet50_gn, ...
TOLD_BY_TENSORS = {"block", "layers", "channels", "base_width", "stem_width", "stem_type", "avg_down",
                   "num_classes", "in_chans", "zero_init_last", "drop_rate", "drop_path_rate"}  # fmt: skip
USUAL_ARGUMENTS = {"global_pool": "avg", "output_stride": 32, "cardinality": 1, "act_layer": "relu",
                   "aa_layer": None, "attn_layer": None, "down_kernel_size": 1, "replace_stem_pool": False}  # fmt: skip
WARPED_FROM = 384  # pixels: from this size on ConvNextImageProcessor squeezes and does not crop


@dataclass(frozen=True)
class ModelFolder:
    """What such a folder says beside the tensors."""

    weights: Path
    stride_style: StrideStyle | None  # None: it does not say
    class_names: tuple[str, ...] | None
    preprocess: Preprocess | None
    recorded: dict[str, Any]
    license: str | None


def is_model_folder(folder: Path) -> bool:
    """Tell whether a folder is one of transformers or timm."""
    return (folder / CONFIG).is_file()


def read_model_folder(folder: Path) -> ModelFolder:
    """Read a folder's config; WeightsError where it is no ResNet of ours, or has no weights."""
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None:
        raise WeightsError(f"{folder} has a {CONFIG} and no weights", f"expected {' or '.join(WEIGHTS)}")
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict):
        raise DamagedFile(f"{folder / CONFIG}: expected an object, got {type(config).__name__}")
    processor = read_json(folder / PROCESSOR) if (folder / PROCESSOR).is_file() else {}
    try:
        if config.get("model_type") == "resnet":
            return read_transformers(weights, config, processor)
        return read_timm(weights, config)
    except (KeyError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
        raise DamagedFile(f"{folder} has a config that is not sound", f"got {error!r}") from error


def read_transformers(weights: Path, config: Mapping[str, Any], processor: Mapping[str, Any]) -> ModelFolder:
    """Read the config of ResNetForImageClassification, and its image processor's."""
    odd = {"downsample_in_first_stage": False, "hidden_act": "relu"}
    wrong = [f"{key} {config[key]!r}" for key, usual in odd.items() if config.get(key, usual) != usual]
    if wrong:
        raise WeightsError(f"{weights.parent / CONFIG}: a net that is not here", f"got {', '.join(wrong)}")
    labels = config.get("id2label") or {}
    names = [labels[key] for key in sorted(labels, key=int)]
    placeholders = names == [f"LABEL_{index}" for index in range(len(names))]
    return ModelFolder(
        weights,
        "caffe" if config.get("downsample_in_bottleneck") else "pytorch",
        None if placeholders else tuple(map(str, names)),
        read_processor(processor) if processor else None,
        {key: value for key, value in plain_facts(config).items() if key == "transformers_version"},
        None,
    )


def read_processor(processor: Mapping[str, Any]) -> Preprocess | None:
    """Read how an image processor prepares images; None for one that is not of the two kinds known."""
    kind = str(processor.get("image_processor_type") or processor.get("feature_extractor_type"))
    size, family = processor["size"], RESAMPLES.get(processor.get("resample"))
    # until 2022 a size was one number
    edge = int(size if isinstance(size, int) else size.get("shortest_edge") or size.get("height"))
    mean, std = (np.asarray(processor[key], np.float32) for key in ("image_mean", "image_std"))
    if family is None:
        return None
    if kind.startswith("ConvNext"):
        squeezed = edge >= WARPED_FROM
        resize = edge if squeezed else int(edge / processor["crop_pct"])
        return Preprocess(edge, mean, std, resize, family, not squeezed)
    if kind.startswith("Bit") and processor.get("do_center_crop"):
        crop = int(processor["crop_size"]["height"])
        return Preprocess(crop, mean, std, edge, family, "shortest_edge" in size)
    return None


def read_timm(weights: Path, config: Mapping[str, Any]) -> ModelFolder:
    """Read the config that timm puts beside its weights on the hub."""
    given = config["pretrained_cfg"]
    refuse_other_timm_nets(weights.parent / CONFIG, config)
    names = config.get("label_names")
    family = INTERPOLATIONS.get(given.get("interpolation"))
    mean, std = (np.asarray(given[key], np.float32) for key in ("mean", "std"))
    crop = int((given.get("test_input_size") or given["input_size"])[1])
    share = float(given.get("test_crop_pct") or given.get("crop_pct") or 0.875)
    usual = family and given.get("crop_mode", "center") == "center"
    preprocess = Preprocess(crop, mean, std, math.floor(crop / share), family or "pillow-bilinear") if usual else None
    recorded = plain_facts(config) | plain_facts(given)
    return ModelFolder(weights, "pytorch", tuple(names) if names else None, preprocess, recorded, given.get("license"))


def refuse_other_timm_nets(place: Path, config: Mapping[str, Any]) -> None:
    """Refuse nets whose tensors are those of a plain ResNet and whose function is another."""
    wrong = []
    if not TIMM_NETS.fullmatch(config["architecture"]):
        wrong.append(f"architecture {config['architecture']!r}")
    arguments = config.get("model_args") or {}
    wrong += [f"model_args {key}={value!r}" for key, value in arguments.items()
              if key not in TOLD_BY_TENSORS and value != USUAL_ARGUMENTS.get(key, ...)]  # fmt: skip
    if config.get("global_pool", "avg") != "avg":
        wrong.append(f"global_pool {config['global_pool']!r}")
    if wrong:
        raise WeightsError(f"{place}: a net that is not here", f"got {', '.join(wrong)}")


def plain_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers and short texts of a config."""
    return {key: value for key, value in config.items() if is_plain(value)}


def transformers_config(arch: Architecture, class_names: tuple[str, ...], dtype: str) -> dict[str, Any]:
    """Write the config of ResNetForImageClassification for a net."""
    return {
        "architectures": ["ResNetForImageClassification"],
        "model_type": "resnet",
        "num_channels": arch.in_channels,
        "embedding_size": arch.stem_width,
        "hidden_sizes": [width * arch.expansion for width in arch.widths],
        "depths": list(arch.depths),
        "layer_type": arch.block,
        "hidden_act": "relu",
        "downsample_in_first_stage": False,
        "downsample_in_bottleneck": arch.stride_style == "caffe",
        "id2label": {str(index): name for index, name in enumerate(class_names)},
        "label2id": {name: index for index, name in enumerate(class_names)},
        "torch_dtype": dtype,
    }


def processor_config(preprocess: Preprocess) -> dict[str, Any] | None:
    """Write the image processor that prepares images in this way; None where none of transformers does."""
    resamples = {family: number for number, family in RESAMPLES.items()}
    if preprocess.family not in resamples or preprocess.mean.ndim != 1:
        return None
    resize = preprocess.resize_size or preprocess.image_size
    side = {"height": preprocess.image_size, "width": preprocess.image_size}
    return {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": resize} if preprocess.keep_ratio else {"height": resize, "width": resize},
        "resample": resamples[preprocess.family],
        "do_center_crop": True,
        "crop_size": side,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": json_floats(preprocess.mean),
        "image_std": json_floats(preprocess.std),
        "do_convert_rgb": True,
    }


def json_floats(numbers: Any) -> list[float]:
    """Return float32 numbers as the shortest decimals that are read back to them."""
    return [float(str(number)) for number in numbers]


def to_json_bytes(data: Any) -> bytes:
    """Write JSON for people."""
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()
