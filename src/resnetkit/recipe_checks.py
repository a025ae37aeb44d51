"""What cannot hold together in a recipe whose types are right."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass

from resnetkit.recipe import (
    Augmentation,
    ColorJitter,
    Flip,
    Muon,
    Normalize,
    PadCrop,
    ProgressiveCrop,
    RandAugment,
    RandomCrop,
    RandomErasing,
    RandomResizedCrop,
    Recipe,
    Resize,
    ScaleJitter,
    Sgd,
    StepDecay,
    SubtractMeanImage,
    TrivialAugment,
)

MAX_PADDING = 127  # pixels; the places of a crop are drawn as uint8

ABOVE_ZERO = {
    *("batch_size", "microbatch_size", "image_size", "total_epochs", "total_steps", "log_every_steps"),
    *(
        "eval_every_epochs",
        "save_every_steps",
        "clip_grad_norm",
        "lr",
        "sgd_lr",
        "max_grad_norm",
        "drop_factor",
        "alpha",
        "size",
    ),
    *("patience_evaluations", "min_size", "max_size", "resize_size", "crop_size", "loss_scale", "repeats", "round_to"),
    *("most_images", "num_ops", "min_area", "threads"),
}
NOT_NEGATIVE = {
    *("weight_decay", "final_factor", "min_improvement", "precise_bn_images", "level_std", "std", "val_images", "seed"),
    *(
        "warmup_epochs",
        "warmup_steps",
        "brightness",
        "contrast",
        "saturation",
        "hue",
        "penalty",
        "unfold_images",
        "head_lr_factor",
        "norm_bias_lr_factor",
    ),
}
BELOW_ONE = {"label_smoothing", "drop_path_rate", "momentum", "decay"}  # from 0
UP_TO_ONE = {"start_factor", "probability", "max_area"}  # from 0
LARGEST = 2**63  # of whole numbers


def contradictions(recipe: Recipe) -> list[str]:
    """List what cannot hold together in a recipe whose types are right."""
    found = range_problems(recipe)
    if (recipe.total_epochs is None) == (recipe.total_steps is None):
        found.append("expected one of total_epochs and total_steps: set one, and the other to null")
    if recipe.microbatch_size > 0 and recipe.batch_size % recipe.microbatch_size:
        found.append(
            f"batch_size: expected a multiple of microbatch_size {recipe.microbatch_size}, got {recipe.batch_size}"
        )
    if recipe.amp and recipe.amp.dtype == "bfloat16" and recipe.amp.loss_scale is not None:
        found.append("amp.loss_scale: expected null, bfloat16 needs no scale")
    if isinstance(recipe.optim, Sgd) and recipe.optim.nesterov and recipe.optim.momentum == 0:
        found.append("optim.nesterov: expected a momentum above 0, got momentum 0")
    if isinstance(recipe.optim, Muon) and recipe.batchnorm == "running":
        found.append("optim: expected Sgd or Lamb beside batchnorm=running: Muon sets the size of filters, which only "
                     "a batch's statistics do not see")  # fmt: skip
    if recipe.sync_batchnorm and recipe.precise_bn_images:
        found.append("precise_bn_images: expected 0 beside sync_batchnorm, whose statistics are of all devices already")
    found += start_contradictions(recipe)
    chances = sum(mix.probability for mix in recipe.mix)
    if chances > 1 + 1e-9:
        found.append(f"mix: expected probabilities that sum to 1 or less, got {chances:g}")
    return found + schedule_contradictions(recipe) + picture_contradictions(recipe)


def start_contradictions(recipe: Recipe) -> list[str]:
    """List what cannot hold of a run that starts from weights, or ends early."""
    found = []
    if recipe.unfold_images and recipe.init_from is None:
        found.append("unfold_images: expected 0 without init_from: new weights are not folded")
    if recipe.frozen_start and recipe.init_from is None:
        found.append("frozen_start: expected init_from, weights whose features tell something")
    if recipe.batchnorm == "running" and recipe.init_from is None:
        found.append("batchnorm: expected batch without init_from: new weights have no statistics")
    if recipe.batchnorm == "running" and (recipe.sync_batchnorm or recipe.precise_bn_images):
        found.append("batchnorm: expected batch beside sync_batchnorm and precise_bn_images, which take statistics")
    if recipe.early_stopping and recipe.precise_bn_images:
        found.append(
            "precise_bn_images: expected 0 beside early_stopping, whose weights are not those of the last step"
        )
    if recipe.balance == "sampling" and recipe.repeated_augmentation:
        found.append("balance: expected none or class_weights beside repeated_augmentation, which has its own order")
    return found


def range_problems(recipe: Recipe) -> list[str]:
    """List the numbers, at whatever depth, that are out of the range of their name."""
    found = []
    for path, name, value in numbers(recipe):
        if name in ABOVE_ZERO and value <= 0:
            found.append(f"{path}: expected more than 0, got {value}")
        elif name in NOT_NEGATIVE and not 0 <= value < LARGEST:
            most = " and less than 2**63" if isinstance(value, int) else ""
            found.append(f"{path}: expected 0 or more{most}, got {value}")
        elif name in BELOW_ONE and not 0 <= value < 1:
            found.append(f"{path}: expected 0 or more and less than 1, got {value}")
        elif name in UP_TO_ONE and not 0 <= value <= 1:
            found.append(f"{path}: expected 0 to 1, got {value}")
    return found


def numbers(value: object, path: str = "") -> Iterator[tuple[str, str, float]]:
    """Yield path, name of the field and value of every number in a recipe; lists of plain numbers are left out."""
    if isinstance(value, tuple):
        for place, item in enumerate(value):
            if is_dataclass(item):
                yield from numbers(item, f"{path}.{place}")
    elif is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from numbers(getattr(value, field.name), f"{path}.{field.name}".lstrip("."))
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield path, path.rpartition(".")[2], value


def schedule_contradictions(recipe: Recipe) -> list[str]:
    """List what is wrong with drops and warm-up."""
    found = []
    if isinstance(recipe.schedule, StepDecay):
        drops = (recipe.schedule.drop_epochs, recipe.schedule.drop_steps)
        if all(drops):
            found.append("schedule: expected drop_epochs or drop_steps, got both: set the other to []")
        found += [
            f"schedule: expected drops above 0 in rising order, got {list(drop)}"
            for drop in drops
            if list(drop) != sorted(set(drop)) or min(drop, default=1) <= 0
        ]
    if recipe.warmup:
        lengths = (recipe.warmup.warmup_epochs, recipe.warmup.warmup_steps)
        if sum(length > 0 for length in lengths) != 1:
            found.append("warmup: expected one of warmup_epochs and warmup_steps above 0, the other absent")
    return found


def picture_contradictions(recipe: Recipe) -> list[str]:
    """List what is wrong with preprocessing and augmentation."""
    found = []
    if isinstance(recipe.preprocess, Normalize):
        if (len(recipe.preprocess.mean), len(recipe.preprocess.std)) != (3, 3):
            found.append("preprocess: expected three numbers, R G B, in mean and in std")
        found += constants_problems("preprocess.mean", recipe.preprocess.mean, "preprocess.std", recipe.preprocess.std)
    elif recipe.view.crop_size != recipe.image_size:
        found.append(
            f"view.crop_size: expected image_size {recipe.image_size}, the size of the mean image, "
            f"got {recipe.view.crop_size}"
        )
    if recipe.view.resize_size < recipe.view.crop_size:
        sizes = f"view.crop_size {recipe.view.crop_size}, got {recipe.view.resize_size}"
        found.append(f"view.resize_size: expected at least {sizes}")
    for place, augmentation in enumerate(recipe.augment):
        path = f"augment.{place}"
        found += [f"{path}.{problem}" for problem in (*place_problems(augmentation), *colour_problems(augmentation))]
    return found + size_contradictions(recipe)


def place_problems(augmentation: Augmentation) -> list[str]:
    """List what is wrong with where an augmentation crops, erases or resizes."""
    match augmentation:
        case PadCrop(padding=padding) if not 0 <= padding <= MAX_PADDING:
            return [f"padding: expected 0 to {MAX_PADDING}, got {padding}"]
        case ScaleJitter(min_size=low, max_size=high) if low > high:
            return [f"min_size: expected at most max_size {high}, got {low}"]
        case ProgressiveCrop(sizes=sizes, until_epochs=epochs) if (
            not sizes or len(sizes) != len(epochs) or min(*sizes, *epochs) < 1 or list(epochs) != sorted(set(epochs))
        ):
            return [f"sizes: expected sizes and rising until_epochs, as many, above 0, got {sizes} and {epochs}"]
        case RandomResizedCrop() | RandomErasing() if augmentation.min_area > augmentation.max_area:
            return [f"min_area: expected at most max_area {augmentation.max_area}"]
        case RandomResizedCrop() | RandomErasing() if augmentation.max_ratio < 1:
            return [f"max_ratio: expected 1 or more, got {augmentation.max_ratio}"]
    return []


def colour_problems(augmentation: Augmentation) -> list[str]:
    """List what is wrong with an augmentation's strengths and colours."""
    match augmentation:
        case RandAugment(level=level) if not 0 <= level <= 10:
            return [f"level: expected 0 to 10, got {level}"]
        case RandAugment(fill=colour) | TrivialAugment(fill=colour) if not is_colour(colour):
            return [f"fill: expected three numbers of 0 to 255, got {list(colour)}"]
        case RandomErasing(color=tuple() as colour) if not is_colour(colour):
            return [f"color: expected null or three numbers of 0 to 255, got {list(colour)}"]
        case TrivialAugment(num_levels=num_levels) if num_levels < 2:
            return [f"num_levels: expected 2 or more, got {num_levels}"]
        case ColorJitter(hue=hue) if hue > 0.5:
            return [f"hue: expected at most 0.5, half of the circle, got {hue}"]
    return []


def size_contradictions(recipe: Recipe) -> list[str]:
    """List the augmentations that do not lead to images of the input size."""
    if changes_whole_batches(recipe):
        repeated = recipe.repeated_augmentation is not None
        problem = "repeated_augmentation: expected augmentations of photos, as RandomResizedCrop"
        return [problem] * repeated + progressive_problems(recipe)
    size = None if takes_any_size(recipe) else recipe.image_size  # of the sides that are known to be there at least
    found = []
    for place, augmentation in enumerate(recipe.augment):
        match augmentation:
            case RandomResizedCrop():
                size = recipe.image_size
            case Resize() | ScaleJitter():
                size = augmentation.size if isinstance(augmentation, Resize) else augmentation.min_size
            case RandomCrop() if size is None or size < recipe.image_size:
                wanted = f"a Resize or ScaleJitter to at least image_size {recipe.image_size} before RandomCrop"
                found.append(f"augment.{place}: expected {wanted}, got {size or 'none'}")
                size = recipe.image_size
            case RandomCrop():
                size = recipe.image_size
            case PadCrop(padding=padding) if size is None or size + 2 * padding < recipe.image_size:
                wanted = f"sides of at least image_size {recipe.image_size} with the padding"
                found.append(f"augment.{place}: expected {wanted}, got {size or 'none that are known'}")
                size = recipe.image_size
            case PadCrop():
                size = recipe.image_size
            case ProgressiveCrop() | Flip(alternating=True):
                name = "alternating Flip" if isinstance(augmentation, Flip) else "ProgressiveCrop"
                found.append(f"augment.{place}: expected no {name} beside those of single images")
    if size != recipe.image_size:
        found.append("augment: expected a RandomResizedCrop or RandomCrop, which gives image_size")
    return found


def progressive_problems(recipe: Recipe) -> list[str]:
    """List what is wrong with crops of a side that grows."""
    crops = [(n, each) for n, each in enumerate(recipe.augment) if isinstance(each, ProgressiveCrop)]
    found = [
        f"augment.{place}.sizes: expected at most image_size {recipe.image_size}, got {max(crop.sizes)}"
        for place, crop in crops
        if crop.sizes and max(crop.sizes) > recipe.image_size
    ]
    found += [f"augment.{place}: expected one ProgressiveCrop, got another" for place, _ in crops[1:]]
    if crops and isinstance(recipe.preprocess, SubtractMeanImage):
        found.append(f"augment.{crops[0][0]}: expected Normalize beside ProgressiveCrop: a mean image has one size")
    return found


def is_colour(numbers_: Sequence[int]) -> bool:
    """Say whether numbers are those of a colour, red, green and blue."""
    return len(numbers_) == 3 and all(0 <= number <= 255 for number in numbers_)


def takes_any_size(recipe: Recipe) -> bool:
    """Say whether the augmentations bring photos of any size to the input size; else images come in that size."""
    sizing = RandomResizedCrop | Resize | ScaleJitter | RandomCrop
    return any(isinstance(augmentation, sizing) for augmentation in recipe.augment)


def changes_whole_batches(recipe: Recipe) -> bool:
    """Say whether the augmentations are those of whole batches in memory, and not of one image after another."""
    return all(isinstance(augmentation, PadCrop | ProgressiveCrop | Flip) for augmentation in recipe.augment)


def constants_problems(
    mean_name: str, mean: Sequence[float] | None, std_name: str, std: Sequence[float] | None
) -> list[str]:
    """List what is wrong with a mean and a std of pixels in [0, 1]; the likeliest mistake is the 0 to 255 scale."""
    problems = []
    for name, numbers_, lowest in ((mean_name, mean or (), 0.0), (std_name, std or (), math.nextafter(0.0, 1.0))):
        wrong = [number for number in numbers_ if not lowest <= number <= 1.0]
        if wrong:
            scale = "; divide by 255" if wrong[0] > 1.0 else ""
            bound = "0 to 1" if lowest == 0.0 else "above 0 and at most 1"
            problems.append(f"{name}: expected {bound}, pixels are in [0, 1], got {wrong[0]}{scale}")
    return problems
