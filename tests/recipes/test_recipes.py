"""The recipes against recipes.md's tables of mmclassification 0.x and mmpretrain 1.x, and the rate at every step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from resnetkit.assemble import build_schedule
from resnetkit.cost import recipe_cost
from resnetkit.errors import BadRequest, DamagedFile, RecipeError
from resnetkit.models import find_architecture
from resnetkit.recipe import (
    Amp,
    BinaryCrossEntropy,
    Cosine,
    CrossEntropy,
    CutMix,
    Flip,
    Lamb,
    Mixup,
    Normalize,
    PadCrop,
    PcaLighting,
    Plateau,
    RandAugment,
    RandomCrop,
    RandomResizedCrop,
    Recipe,
    RepeatedAugmentation,
    Resize,
    ScaleJitter,
    Sgd,
    StepDecay,
    SubtractMeanImage,
    View,
    Warmup,
)
from resnetkit.recipe_json import recipe_to_json
from resnetkit.recipes import RECIPES, load_recipe

C10 = [f"resnet{depth}_8xb16_cifar10" for depth in (18, 34, 50, 101, 152)]
IN_CV2 = [f"resnet{depth}_8xb32_in1k" for depth in (18, 34, 50, 101, 152)]
IN_PIL = [f"resnetv1{kind}{depth}_8xb32_in1k" for kind in "cd" for depth in (50, 101, 152)]
WIDE = ["wide-resnet50_8xb32_in1k", "wide-resnet101_8xb32_in1k"]
FP16, CUB = "resnet50_8xb32-fp16_in1k", "resnet50_8xb8_cub"
A1, A2, A3 = (f"resnet50_8xb256-rsb-{row}_in1k" for row in ("a1-600e", "a2-300e", "a3-100e"))
PAGE = [*C10, "resnet50_8xb16_cifar100", *IN_CV2, *IN_PIL, FP16, *WIDE, A1, A2, A3, CUB]
SIBLINGS = [
    "resnet50_8xb16-mixup_cifar10",
    *(f"resnet50_8xb32-{kind}_in1k" for kind in ("coslr", "coslr-preciseBN", "lbs", "mixup", "cutmix", "fp16-dynamic")),
    *(f"resnet50_32xb64-{kind}_in1k" for kind in ("warmup", "warmup-coslr", "warmup-lbs")),
    "resnet50_8xb128_coslr-90e_in21k",
    "wide-resnet50_timm_8xb32_in1k",
]
OF_1X = [f"{name}-mmpretrain1x" for name in (A1, A2, A3, CUB, *(s for s in SIBLINGS if "32xb64" in s))]
PAPER = [f"{kind}{depth}" for kind in ("resnet", "plain") for depth in (20, 32, 44, 56, 110, 1202)][:-1]
PAPER_IMAGENET = [
    *("plain18", "plain34", "resnet18_a", "resnet18", "resnet18_c", "resnet34_a", "resnet34", "resnet34_c"),
    *("resnet50_caffe", "resnet101_caffe", "resnet152_caffe"),
]


def test_every_recipe_is_known_here() -> None:
    known = ["quickstart", "fast_resnet20", *PAGE, *SIBLINGS, *OF_1X, *PAPER, *PAPER_IMAGENET]
    assert sorted(RECIPES) == sorted(known)
    assert (len(PAGE), len(SIBLINGS), len(OF_1X), len(PAPER), len(PAPER_IMAGENET)) == (24, 12, 7, 11, 11)


def constants(recipe: Recipe) -> tuple[list[float], list[float]]:
    """Return mean and std in units of 0 to 255, as OpenMMLab writes them."""
    assert isinstance(recipe.preprocess, Normalize)
    return ([round(value * 255, 4) for value in numbers] for numbers in (recipe.preprocess.mean, recipe.preprocess.std))  # type: ignore[return-value]


def test_constants_of_every_row() -> None:
    for name in (*PAGE, *SIBLINGS, *OF_1X):
        mean, std = constants(RECIPES[name])
        expected = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
        if "cifar100" in name:
            expected = ([129.304, 124.07, 112.434], [68.17, 65.392, 70.418])
        elif "cifar10" in name:
            expected = ([125.307, 122.961, 113.8575], [51.5865, 50.847, 51.255])
        assert (mean, std) == expected, name


# What differs between the rows; all else must be as the defaults below.
CV2, PILLOW, BICUBIC = (
    {"view": View(256, 224, family), "augment": (RandomResizedCrop(family), Flip())}
    for family in ("cv2-bilinear", "pillow-bilinear", "pillow-bicubic")
)
STEPS_100 = StepDecay(drop_epochs=(30, 60, 90), drop_factor=0.1)
IN = {
    "data": "imagenet1k", "image_size": 224, "batch_size": 8 * 32, "microbatch_size": 32, "total_epochs": 100.0,
    "optim": Sgd(0.1, 0.9, nesterov=False, weight_decay=1e-4, decay_norms_and_biases=True), "schedule": STEPS_100,
    **CV2,
}  # fmt: skip
C = {
    "data": "cifar10", "image_size": 32, "batch_size": 8 * 16, "microbatch_size": 16, "total_epochs": 200.0,
    "optim": Sgd(0.1, 0.9, nesterov=False, weight_decay=1e-4, decay_norms_and_biases=True),
    "schedule": StepDecay(drop_epochs=(100, 150), drop_factor=0.1), "view": View(32, 32),
    "augment": (PadCrop(4, "zero"), Flip()),
}  # fmt: skip
EPOCH_COSINE = Cosine(0.0, "every_epoch", after_warmup=False)


def rsb(level: float, lr: float, decay: float, epochs: float, **more: object) -> dict[str, object]:
    return {
        **IN, "batch_size": 8 * 256, "microbatch_size": 256, "total_epochs": epochs, "sync_batchnorm": True,
        "optim": Lamb(lr, decay, decay_norms_and_biases=False, max_grad_norm=1.0),
        "schedule": Cosine(1e-6 / lr, "every_epoch", after_warmup=False),
        "warmup": Warmup("linear", 1e-4, warmup_epochs=5, full_rate_at="step_after"),
        "view": View(236, 224, "cv2-bilinear"),
        "augment": (RandomResizedCrop("cv2-bilinear", 0.08, 1.0, 4 / 3), Flip(),
                    RandAugment(level, 0.5, 2, (124, 116, 104))),
        "loss": BinaryCrossEntropy(0.0, "sum_over_classes"), "mix": (Mixup(0.1, 0.5), CutMix(1.0, 0.5)), **more,
    }  # fmt: skip


def same(names: list[str], values: dict[str, object]) -> dict[str, dict[str, object]]:
    return {name: dict(values) for name in names}


TWICE = {"repeated_augmentation": RepeatedAugmentation(3, 256), "drop_path_rate": 0.05, "drop_path_shape": "constant"}
CUB_VALUES: dict[str, object] = {
    "data": "cub200", "image_size": 448, "batch_size": 64, "microbatch_size": 8, "total_epochs": 100.0,
    "optim": Sgd(0.01, 0.9, nesterov=True, weight_decay=5e-4), "schedule": EPOCH_COSINE,
    "warmup": Warmup("linear", 0.01, warmup_epochs=5), "view": View(600, 448, "cv2-bilinear", keep_ratio=False),
    "augment": (Resize(600, "cv2-bilinear", keep_ratio=False), RandomCrop(), Flip()),
    "init_from": "resnet50-mill_in21k", "zero_init_last": False, "log_every_steps": 20,
}  # fmt: skip
LARGE = {**IN, "batch_size": 32 * 64, "microbatch_size": 64, "warmup": Warmup("linear", 0.25, warmup_steps=2500),
         "optim": Sgd(0.8, 0.9, nesterov=True, weight_decay=1e-4)}  # fmt: skip
LAST: Literal["last_step"] = "last_step"
VALUES: dict[str, dict[str, object]] = {
    **same(C10, C),
    "resnet50_8xb16_cifar100": {
        **C, "data": "cifar100", "optim": Sgd(0.1, 0.9, weight_decay=5e-4),
        "schedule": StepDecay(drop_epochs=(60, 120, 160), drop_factor=0.2),
    },
    "resnet50_8xb16-mixup_cifar10": {**C, "mix": (Mixup(1.0, 1.0),)},
    **same(IN_CV2, IN),
    **same(IN_PIL + WIDE, {**IN, **PILLOW}),
    "wide-resnet50_timm_8xb32_in1k": {**IN, **BICUBIC},
    FP16: {**IN, "amp": Amp("float16", 512.0)},
    A1: rsb(7, 0.005, 0.01, 600, loss=CrossEntropy(0.1), mix=(Mixup(0.2, 0.5), CutMix(1.0, 0.5)), **TWICE),
    A2: rsb(7, 0.005, 0.02, 300, **TWICE),
    A3: rsb(6, 0.008, 0.02, 100, image_size=160),
    CUB: CUB_VALUES,
    "resnet50_8xb32-coslr_in1k": {**IN, "schedule": EPOCH_COSINE},
    "resnet50_8xb32-coslr-preciseBN_in1k": {**IN, "schedule": EPOCH_COSINE, "precise_bn_images": 8192},
    "resnet50_8xb32-lbs_in1k": {**IN, "loss": CrossEntropy(0.1)},
    "resnet50_8xb32-mixup_in1k": {**IN, "mix": (Mixup(0.2, 1.0),)},
    "resnet50_8xb32-cutmix_in1k": {**IN, "mix": (CutMix(1.0, 1.0),)},
    "resnet50_8xb32-fp16-dynamic_in1k": {**IN, "amp": Amp("float16", None)},
    "resnet50_32xb64-warmup_in1k": LARGE,
    "resnet50_32xb64-warmup-coslr_in1k": {**LARGE, "schedule": EPOCH_COSINE},
    "resnet50_32xb64-warmup-lbs_in1k": {**LARGE, "loss": CrossEntropy(0.1)},
    "resnet50_8xb128_coslr-90e_in21k": {
        **IN, "data": "imagenet21k", "batch_size": 1024, "microbatch_size": 128, "total_epochs": 90.0,
        "optim": Sgd(0.8, 0.9, weight_decay=5e-5), "schedule": EPOCH_COSINE,
        "warmup": Warmup("linear", 0.1, warmup_epochs=5),
    },
}  # fmt: skip


def changed_in_1x(level: float, lr: float) -> dict[str, object]:
    return {
        "image_size": 224, "view": View(236, 224, "pillow-bicubic"),
        "schedule": Cosine(1e-6 / lr, "every_epoch", after_warmup=True),
        "warmup": Warmup("linear", 1e-4, warmup_epochs=5, full_rate_at=LAST),
        "augment": (RandomResizedCrop("pillow-bicubic"), Flip(), RandAugment(level)), "drop_path_shape": "linear",
    }  # fmt: skip


ALL = {"repeated_augmentation": RepeatedAugmentation(3, 1)}
AFTER = Cosine(0.0, "every_epoch", after_warmup=True)
VALUES |= {
    f"{A1}-mmpretrain1x": {**VALUES[A1], **changed_in_1x(7, 0.005), "loss": BinaryCrossEntropy(0.1), **ALL},
    f"{A2}-mmpretrain1x": {**VALUES[A2], **changed_in_1x(7, 0.005), **ALL},
    f"{A3}-mmpretrain1x": {**VALUES[A3], **changed_in_1x(6, 0.008)},
    f"{CUB}-mmpretrain1x": {
        **CUB_VALUES, "schedule": AFTER, "warmup": Warmup("linear", 0.01, warmup_epochs=5, full_rate_at=LAST),
    },
    "resnet50_32xb64-warmup_in1k-mmpretrain1x": {
        **LARGE, "warmup": Warmup("linear", 0.25, warmup_steps=2500, full_rate_at=LAST),
    },
    "resnet50_32xb64-warmup-lbs_in1k-mmpretrain1x": {
        **LARGE, "warmup": Warmup("linear", 0.25, warmup_steps=2500, full_rate_at=LAST), "loss": CrossEntropy(0.1),
    },
    "resnet50_32xb64-warmup-coslr_in1k-mmpretrain1x": {
        **LARGE, "warmup": Warmup("linear", 0.25, warmup_epochs=5, full_rate_at=LAST), "schedule": AFTER,
    },
}  # fmt: skip
DEFAULTS: dict[str, object] = {
    "total_steps": None, "warmup": None, "loss": CrossEntropy(0.0), "mix": (), "repeated_augmentation": None,
    "init_from": None, "drop_path_rate": 0.0, "zero_init_last": True, "sync_batchnorm": False, "precise_bn_images": 0,
    "clip_grad_norm": None, "amp": None, "average_weights": None, "val_images": 0, "seed": 0, "log_every_steps": 50,
    "eval_every_epochs": 1.0,
}  # fmt: skip


@pytest.mark.parametrize("name", [*PAGE, *SIBLINGS, *OF_1X])
def test_rows_have_the_values_of_their_configs(name: str) -> None:
    recipe = RECIPES[name]
    assert {field: getattr(recipe, field) for field in DEFAULTS | VALUES[name]} == DEFAULTS | VALUES[name]


def test_rows_train_their_nets() -> None:
    nets = {
        **{name: f"{name.partition('_')[0]}_cifar" for name in (*C10, "resnet50_8xb16_cifar100")},
        **{name: name.partition("_")[0] for name in (*IN_CV2, *IN_PIL)},
        **{name: f"wide_{name.partition('_')[0].removeprefix('wide-')}_2" for name in WIDE},
        **dict.fromkeys((FP16, A1, A2, A3, CUB), "resnet50"),
    }
    assert {name: RECIPES[name].model for name in PAGE} == nets
    blocks = {name: find_architecture(RECIPES[name].model) for name in C10}
    assert [(arch.block, arch.depths) for arch in blocks.values()] == [
        ("basic", (2, 2, 2, 2)),
        ("basic", (3, 4, 6, 3)),
        ("bottleneck", (3, 4, 6, 3)),
        ("bottleneck", (3, 4, 23, 3)),
        ("bottleneck", (3, 8, 36, 3)),
    ]
    assert {(arch.stem, arch.stem_width, arch.shortcut) for arch in blocks.values()} == {("3x3", 64, "B")}


@pytest.mark.parametrize("name", PAPER)
def test_nets_of_the_paper(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.optim == Sgd(lr=0.1, momentum=0.9, nesterov=False, weight_decay=1e-4, decay_norms_and_biases=True)
    assert (recipe.batch_size, recipe.microbatch_size) == (2 * 64, 64)
    assert recipe.schedule == StepDecay(drop_steps=(32_000, 48_000), drop_factor=0.1)
    assert (recipe.total_epochs, recipe.total_steps) == (None, 64_000)
    assert recipe.preprocess == SubtractMeanImage()
    assert recipe.augment == (PadCrop(padding=4, mode="zero"), Flip(alternating=False))
    assert not recipe.zero_init_last
    assert (recipe.loss, recipe.drop_path_rate, recipe.average_weights) == (CrossEntropy(), 0, None)
    at_a_tenth = Warmup(shape="constant", start_factor=0.1, warmup_steps=400)
    assert recipe.warmup == (at_a_tenth if name in ("resnet110", "plain110") else None)
    arch = find_architecture(recipe.model)
    depth = int(name.removeprefix("resnet").removeprefix("plain"))
    assert arch.depths == (((depth - 2) // 6),) * 3
    assert arch.widths == (16, 32, 64)
    assert arch.shortcut == ("A" if name.startswith("resnet") else "plain")


@pytest.mark.parametrize("name", PAPER_IMAGENET)
def test_imagenet_nets_of_the_paper(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.model == name
    assert recipe.optim == Sgd(lr=0.1, momentum=0.9, nesterov=False, weight_decay=1e-4, decay_norms_and_biases=True)
    assert (recipe.batch_size, recipe.image_size, recipe.total_steps) == (256, 224, 600_000)
    assert isinstance(recipe.schedule, Plateau) and recipe.schedule.drop_factor == 0.1
    assert isinstance(recipe.preprocess, SubtractMeanImage)
    jitter, *rest = recipe.augment
    assert isinstance(jitter, ScaleJitter) and (jitter.min_size, jitter.max_size) == (256, 480)
    assert rest == [RandomCrop(), Flip(), PcaLighting(0.1)]
    assert (recipe.view.resize_size, recipe.view.crop_size, recipe.warmup, recipe.mix) == (256, 224, None, ())
    assert not recipe.zero_init_last


def drops(steps: list[int], factor: float = 0.1, lr: float = 0.1) -> Callable[[int], float]:
    return lambda step: lr * factor ** sum(step >= drop for drop in steps)


def warmed(rate: Callable[[int], float], steps: int, ratio: float) -> Callable[[int], float]:
    """Apply mmcv 1.x's linear warm-up."""
    return lambda step: rate(step) * (1 - (1 - step / steps) * (1 - ratio) if step < steps else 1)


def cosine(lr: float, end: float, epochs: int, per_epoch: int) -> Callable[[int], float]:
    """Follow mmcv 1.x: constant inside an epoch, unshifted."""
    return lambda step: end + (lr - end) * (1 + math.cos(math.pi * (step // per_epoch) / epochs)) / 2


def quickstart_rate(step: int) -> float:
    """Draw the triangle from its corners: 0.05 at step 0, 0.5 after one epoch, 0 after four."""
    return 0.05 + 0.45 * step / 391 if step < 391 else 0.5 * (4 * 391 - step) / (3 * 391)


def of_epochs(per_epoch: int, *epochs: int) -> list[int]:
    return [per_epoch * epoch for epoch in epochs]


RATES: dict[str, tuple[int, int, Callable[[int], float]]] = {  # steps an epoch, epochs, the rate of a step
    "quickstart": (391, 4, quickstart_rate),
    **dict.fromkeys([*C10, "resnet50_8xb16-mixup_cifar10"], (391, 200, drops(of_epochs(391, 100, 150)))),
    "resnet50_8xb16_cifar100": (391, 200, drops(of_epochs(391, 60, 120, 160), 0.2)),
    **dict.fromkeys([*IN_CV2, *IN_PIL, *WIDE, FP16], (5005, 100, drops(of_epochs(5005, 30, 60, 90)))),
    A1: (626, 600, warmed(cosine(0.005, 1e-6, 600, 626), 3130, 1e-4)),
    A2: (626, 300, warmed(cosine(0.005, 1e-6, 300, 626), 3130, 1e-4)),
    A3: (626, 100, warmed(cosine(0.008, 1e-6, 100, 626), 3130, 1e-4)),
    CUB: (94, 100, warmed(cosine(0.01, 0.0, 100, 94), 5 * 94, 0.01)),
    "resnet50_8xb32-coslr_in1k": (5005, 100, cosine(0.1, 0.0, 100, 5005)),
    "resnet50_32xb64-warmup_in1k": (626, 100, warmed(drops(of_epochs(626, 30, 60, 90), lr=0.8), 2500, 0.25)),
    "resnet50_32xb64-warmup-coslr_in1k": (626, 100, warmed(cosine(0.8, 0.0, 100, 626), 2500, 0.25)),
    "resnet50_8xb128_coslr-90e_in21k": (13865, 90, warmed(cosine(0.8, 0.0, 90, 13865), 5 * 13865, 0.1)),
    **dict.fromkeys(
        [name for name in PAPER if "110" not in name and "1202" not in name],
        (391, 164, drops([32_000, 48_000])),
    ),
    "resnet110": (391, 164, lambda step: 0.01 if step < 400 else drops([32_000, 48_000])(step)),
}


@pytest.mark.parametrize("name", RATES)
def test_learning_rate_at_every_step(name: str) -> None:
    recipe = RECIPES[name]
    steps_per_epoch, epochs, expected = RATES[name]
    cost = recipe_cost(recipe)
    total = recipe.total_steps or steps_per_epoch * epochs
    assert (cost.steps_per_epoch, cost.steps) == (steps_per_epoch, total)
    lr_at = build_schedule(recipe, steps_per_epoch, total)
    looked_at = range(total) if total < 100_000 else (*range(5000), *range(5000, total, 7), total - 1)
    wrong = [s for s in looked_at if not math.isclose(lr_at(s), expected(s), rel_tol=1e-9, abs_tol=1e-18)]
    assert wrong == []


@pytest.mark.parametrize(("row", "lr", "epochs"), [(A1, 0.005, 600), (A2, 0.005, 300), (A3, 0.008, 100)])
def test_rate_of_mmpretrain_1x(row: str, lr: float, epochs: int) -> None:
    lr_at = build_schedule(RECIPES[f"{row}-mmpretrain1x"], 626, 626 * epochs)
    assert lr_at(0) == pytest.approx(lr * 1e-4)
    assert lr_at(1564) == pytest.approx(lr * (1e-4 + (1 - 1e-4) * 1564 / 3129))
    assert lr_at(3129) == lr_at(3130) == lr_at(6 * 626 - 1) == pytest.approx(lr)
    middle = 5 + (epochs - 5) // 5
    expected = 1e-6 + (lr - 1e-6) * (1 + math.cos(math.pi * (middle - 5) / (epochs - 5))) / 2
    assert lr_at(middle * 626) == lr_at(middle * 626 + 625) == pytest.approx(expected)


def test_a_schedule_in_epochs_follows_the_length_of_the_epoch() -> None:
    recipe = RECIPES["resnet18_8xb16_cifar10"]
    lr_at = build_schedule(recipe, 352, 352 * 200)  # 45,000 images
    assert [lr_at(352 * 100 - 1), lr_at(352 * 100)] == pytest.approx([0.1, 0.01])


# --- from a name or a file ---


def test_load_by_name_and_by_file(tmp_path: Path) -> None:
    assert load_recipe("resnet20") == RECIPES["resnet20"]
    assert load_recipe("resnet20", ["val_images=5000"]) == replace(RECIPES["resnet20"], val_images=5000)
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(recipe_to_json(RECIPES["resnet20"]) | {"name": "mine"}))
    assert load_recipe(str(file), ["seed=2"]) == replace(RECIPES["resnet20"], name="mine", seed=2)


def test_an_unknown_recipe_gives_near_and_all_names(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="unknown recipe 'quikstart'; did you mean 'quickstart'") as caught:
        load_recipe("quikstart")
    assert all(name in str(caught.value) for name in RECIPES)
    with pytest.raises(BadRequest, match="unknown recipe"):
        load_recipe(str(tmp_path / "absent.json"))


def test_an_unknown_model_is_listed_among_the_problems() -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", ["model=resnet21", "seed=-1"])
    models, seed = sorted(caught.value.problems)
    assert models.startswith("model: unknown model 'resnet21'; did you mean 'resnet")
    assert seed.startswith("seed: ")


def test_data_is_a_known_name_or_a_folder(tmp_path: Path) -> None:
    assert load_recipe("quickstart", [f"data={tmp_path}"]).data == str(tmp_path)
    with pytest.raises(
        RecipeError,
        match=r"data: expected a folder of photos, a list of them, or one of cifar10, .*; did you mean 'cub200'",
    ):
        load_recipe("quickstart", ["data=cub20"])
    with pytest.raises(RecipeError, match="val_images: expected less than the 50000 training images, got 50000"):
        load_recipe("quickstart", ["val_images=50000"])


def test_a_file_that_is_not_json_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text("{")
    with pytest.raises(DamagedFile, match=r"mine\.json is not JSON"):
        load_recipe(str(file))
