"""Each recipe against the config file of its row, setting by setting: the files that mmpretrain 1.2.0 installs.

They are the 1.x values, so a row whose values changed is compared as its `-mmpretrain1x` variant.
Schedules and losses are compared by what they do: rates.py, targets.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import mmpretrain
from figures import Figure
from mmengine.config import Config
from numpy import array
from peers import mmpretrain_config

from resnetkit import recipe as r
from resnetkit.models import find_architecture
from resnetkit.recipes import RECIPES
from resnetkit.zoo import PAGE

VARIANT = "-mmpretrain1x"
WEIGHTS_ONLY = "resnet50-mill_in21k"
ROWS = tuple(row.name for row in PAGE if row.name != WEIGHTS_ONLY)
SIBLINGS = (  # configs beside the page (recipes.md, 1.5)
    "resnet50_8xb16-mixup_cifar10",
    *(f"resnet50_8xb32-{name}_in1k" for name in ("lbs", "mixup", "cutmix", "fp16-dynamic", "coslr", "coslr-preciseBN")),
    *(f"resnet50_32xb64-warmup{name}_in1k" for name in ("", "-lbs", "-coslr")),
    "resnet50_8xb128_coslr-90e_in21k",
    "wide-resnet50_timm_8xb32_in1k",
)
NOT_OF_THE_NET = ("num_stages", "out_indices", "norm_cfg", "drop_path_rate", "init_cfg")
Settings = dict[str, Any]


@cache
def read_config(row: str) -> Mapping[str, Any]:
    """Read a row's config with all that it inherits."""
    folder = Path(mmpretrain.__file__).parent / ".mim" / "configs" / ("wrn" if row.startswith("wide") else "resnet")
    config: dict[str, Any] = Config.fromfile(folder / f"{row}.py").to_dict()
    return config


def recipe_of_1x(row: str) -> r.Recipe:
    """Return the recipe that has the 1.x values of a row: its variant, or the row's own where nothing changed."""
    return RECIPES.get(row + VARIANT, RECIPES[row])


def config_figures() -> Iterator[Figure]:
    """Count the settings that differ; the names of those that do are told with the row."""
    for row in (*ROWS, *SIBLINGS):
        recipe = recipe_of_1x(row)
        different = differing_settings(settings_of_recipe(recipe), settings_of_config(read_config(row)))
        subject = f"{recipe.name}{': ' if different else ''}{', '.join(different)}"
        yield Figure("settings", subject, "mmpretrain config", len(different), 0.0)


def differing_settings(ours: Settings, theirs: Settings) -> list[str]:
    """Return the names of the settings of theirs that ours has not, or has otherwise."""
    return sorted(name for name in theirs if name not in ours or ours[name] != theirs[name])


def settings_of_config(config: Mapping[str, Any]) -> Settings:
    """Return the settings of a config in the words of both sides."""
    backbone, wrapper, loader = config["model"]["backbone"], config["optim_wrapper"], config["train_dataloader"]
    optimizer = {"momentum": 0.0, "nesterov": False, "max_grad_norm": 1.0} | wrapper["optimizer"]
    hooks = {hook["type"]: hook for hook in config.get("custom_hooks", ())}
    steps = {step["type"]: step for step in loader["dataset"]["pipeline"]}
    scale = wrapper.get("loss_scale", "dynamic") if wrapper.get("type") == "AmpOptimWrapper" else None
    pretrained = backbone.get("init_cfg", {}).get("type") == "Pretrained"
    view = {"view": view_of_config(config)} if config.get("val_dataloader") else {}
    return view | {
        "net": {name: value for name, value in backbone.items() if name not in NOT_OF_THE_NET},
        "norms synchronised": backbone.get("norm_cfg", {}).get("type") == "SyncBN",
        "drop path": backbone.get("drop_path_rate", 0.0),
        "starts from weights": pretrained,
        "last norms start at zero": not pretrained,  # their default, which an init_cfg of one kind switches off
        "optimizer": {name: optimizer[name] for name in optimizer_settings(optimizer["type"])},
        "decay of norms and biases": "paramwise_cfg" not in wrapper,
        "images": (loader["batch_size"], config["auto_scale_lr"]["base_batch_size"]),
        "epochs": config["train_cfg"]["max_epochs"],
        "pixels": rounded(config["data_preprocessor"]["mean"], config["data_preprocessor"]["std"]),
        "mixes": mixes_of_config(config["model"].get("train_cfg", {}).get("augments", [])),
        "repeated augmentation": loader["sampler"]["type"] == "RepeatAugSampler",
        "loss scale": scale,
        "precise BatchNorm": hooks["PreciseBNHook"]["num_samples"] if hooks else 0,
        "train": [step for name in steps for step in train_step_of_config(steps[name])],
    }


def optimizer_settings(kind: str) -> tuple[str, ...]:
    """Return the settings that an optimizer has."""
    return ("type", "lr", "weight_decay", *(("momentum", "nesterov") if kind == "SGD" else ("max_grad_norm",)))


def rounded(mean: Any, std: Any) -> list[float]:
    """Return mean and std, pixels 0 to 255, as they are written."""
    return [round(float(value), 4) for value in (*mean, *std)]


def mixes_of_config(augments: Any) -> list[tuple[str, float]]:
    """Return kinds and alphas; 1.x takes one of them for every batch, all equally likely."""
    listed = augments if isinstance(augments, list) else [augments]
    return [(mix["type"].removeprefix("Batch"), mix["alpha"]) for mix in listed]


def resize_family(step: Mapping[str, Any]) -> str:
    """Return library and interpolation of a step that resizes."""
    return f"{step.get('backend', 'cv2')}-{step.get('interpolation', 'bilinear')}"


def train_step_of_config(step: Mapping[str, Any]) -> list[Any]:
    """Return a step of the training pipeline in the words of both sides; none for reading and packing."""
    match step:
        case {"type": "RandomResizedCrop"}:
            areas, ratios = step.get("crop_ratio_range", (0.08, 1.0)), step.get("aspect_ratio_range", (3 / 4, 4 / 3))
            return [("resized crop", step["scale"], resize_family(step), areas, round(ratios[1], 9))]
        case {"type": "RandomFlip", "prob": 0.5, "direction": "horizontal"}:
            return ["flip"]
        case {"type": "RandomCrop"}:
            return [("crop", step["crop_size"], step.get("padding", 0))]
        case {"type": "Resize"}:
            return [("resize", step["scale"], resize_family(step))]
        case {"type": "RandAugment", "policies": "timm_increasing", "total_level": 10}:
            fill = tuple(reversed(step["hparams"]["pad_val"]))  # their images are BGR here
            return [("augment", step["num_policies"], step["magnitude_level"], step["magnitude_std"], fill)]
    return [] if step["type"] in {"LoadImageFromFile", "PackInputs"} else [step]


def view_of_config(config: Mapping[str, Any]) -> Any:
    """Return what evaluation sees: sizes, resizing, and whether the ratio is kept; None: images as they are."""
    steps = {step["type"]: step for step in config["val_dataloader"]["dataset"]["pipeline"]}
    resize = steps.get("ResizeEdge", steps.get("Resize"))
    if resize is None:
        return None
    return resize["scale"], steps["CenterCrop"]["crop_size"], resize_family(resize), "ResizeEdge" in steps


def settings_of_recipe(recipe: r.Recipe) -> Settings:
    """Return the settings of a recipe in the words of both sides."""
    optim, pixels = recipe.optim, recipe.preprocess
    assert isinstance(pixels, r.Normalize)
    assert not isinstance(optim, r.Muon)
    optimizer = vars(optim) | {"type": "SGD" if isinstance(optim, r.Sgd) else "Lamb"}
    linear = recipe.drop_path_shape == "linear" or recipe.drop_path_rate == 0.0
    return {
        "net": mmpretrain_config(find_architecture(recipe.model))["backbone"],
        "norms synchronised": recipe.sync_batchnorm,
        "drop path": recipe.drop_path_rate if linear else "constant",
        "starts from weights": recipe.init_from is not None,
        "last norms start at zero": recipe.zero_init_last,
        "optimizer": {name: optimizer[name] for name in optimizer_settings(optimizer["type"])},
        "decay of norms and biases": optim.decay_norms_and_biases,
        "images": (recipe.microbatch_size, recipe.batch_size),
        "epochs": recipe.total_epochs,
        "pixels": rounded(255 * array(pixels.mean), 255 * array(pixels.std)),
        "mixes": mixes_of_recipe(recipe),
        "repeated augmentation": recipe.repeated_augmentation is not None,
        "loss scale": recipe.amp and (recipe.amp.loss_scale or "dynamic"),
        "precise BatchNorm": recipe.precise_bn_images,
        "train": [train_step_of_recipe(step, recipe.image_size) for step in recipe.augment],
        "view": view_of_recipe(recipe),
    }


def mixes_of_recipe(recipe: r.Recipe) -> Any:
    """Return kinds and alphas, and the probabilities where they are not equal or leave a batch as it is."""
    equal = all(abs(mix.probability * len(recipe.mix) - 1) < 1e-9 for mix in recipe.mix)
    return [(type(mix).__name__, mix.alpha) for mix in recipe.mix] if equal else recipe.mix


def train_step_of_recipe(step: r.Augmentation, image_size: int) -> Any:
    """Return an augmentation in the words of both sides; itself where there are none."""
    told: Any = step
    match step:
        case r.RandomResizedCrop():
            areas = (step.min_area, step.max_area)
            told = "resized crop", image_size, step.family, areas, round(step.max_ratio, 9)
        case r.Flip(alternating=False):
            told = "flip"
        case r.PadCrop(mode="zero"):
            told = "crop", image_size, step.padding
        case r.RandomCrop():
            told = "crop", image_size, 0
        case r.Resize(keep_ratio=False):
            told = "resize", step.size, step.family
        case r.RandAugment():
            told = "augment", step.num_ops, step.level, step.level_std, step.fill
    return told


def view_of_recipe(recipe: r.Recipe) -> Any:
    """Return what evaluation sees, as `view_of_config` does."""
    view = recipe.view
    if view.resize_size == view.crop_size == recipe.image_size:
        return None
    return view.resize_size, view.crop_size, view.family, view.keep_ratio
