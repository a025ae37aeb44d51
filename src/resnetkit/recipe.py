"""The recipe: all that decides a training run's result, typed and frozen.

A recipe is read from JSON or from a file of `recipes/`, changed by overrides `field.path=value`, and refused as
a whole: every unknown field, wrong type and contradiction is listed at once, with near names.
`assemble.py` makes objects of a recipe and `train.py` follows it; the rest takes plain named arguments.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from resnetkit.errors import RecipeError, did_you_mean

KIND = "kind"  # names the class where a field may hold one of several
Json = Any  # what json.loads gives
MAX_PADDING = 127  # pixels; the places of a crop are drawn as uint8


@dataclass(frozen=True)
class Sgd:
    """Stochastic gradient descent with momentum."""

    lr: float  # at factor 1 of the schedule
    momentum: float = 0.9
    nesterov: bool = False
    weight_decay: float = 0.0
    decay_norms_and_biases: bool = True


@dataclass(frozen=True)
class StepDecay:
    """Multiply the rate by `drop_factor` at each drop, given in epochs or in steps."""

    drop_epochs: tuple[float, ...] = ()
    drop_steps: tuple[int, ...] = ()
    drop_factor: float = 0.1


@dataclass(frozen=True)
class Cosine:
    """Half a cosine from the full rate to `final_factor` of it, over all steps."""

    final_factor: float = 0.0


@dataclass(frozen=True)
class Linear:
    """A straight line from the full rate, at the end of the warm-up, to `final_factor` of it."""

    final_factor: float = 0.0


@dataclass(frozen=True)
class Warmup:
    """A smaller rate at first; its length is given in epochs or in steps."""

    shape: Literal["linear", "constant"]
    start_factor: float
    warmup_epochs: float = 0.0
    warmup_steps: int = 0


@dataclass(frozen=True)
class PadCrop:
    """Pad each side by `padding` pixels and take a random crop of the first size."""

    padding: int
    mode: Literal["zero", "reflect"] = "zero"


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability one half; alternating: each image in every second epoch."""

    alternating: bool = False


@dataclass(frozen=True)
class Normalize:
    """Subtract `mean` and divide by `std`, one number a channel, pixels in [0, 1]."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class SubtractMeanImage:
    """Subtract the mean of the training images at each pixel and channel, before augmentation (the paper)."""


@dataclass(frozen=True)
class AverageWeights:
    """Exponential moving average of the weights; it is what is evaluated and kept."""

    decay: float


@dataclass(frozen=True)
class Recipe:
    """All that decides a result."""

    name: str
    model: str  # a name of resnetkit.models
    data: Literal["cifar10"]
    batch_size: int  # images per optimizer step, over all devices
    microbatch_size: int  # images per forward pass; BatchNorm's statistics are those of a micro-batch
    optim: Sgd
    schedule: StepDecay | Cosine | Linear
    preprocess: Normalize | SubtractMeanImage
    augment: tuple[PadCrop | Flip, ...] = ()  # in this order
    total_epochs: float | None = None  # one of the two
    total_steps: int | None = None
    warmup: Warmup | None = None
    label_smoothing: float = 0.0
    drop_path_rate: float = 0.0
    zero_init_last: bool = False  # start the last norm of each block at zero
    average_weights: AverageWeights | None = None
    val_images: int = 0  # taken from the end of train and evaluated while training; 0: the test images are
    seed: int = 0
    channels_last: bool = True
    compile: bool = False  # torch.compile
    log_every_steps: int = 50
    eval_every_epochs: float = 1.0
    save_every_steps: int = 500


def recipe_to_json(recipe: Recipe) -> dict[str, Json]:
    """Return the recipe as plain JSON data; `read_recipe` gives it back equal."""
    return {field.name: value_to_json(getattr(recipe, field.name)) for field in fields(recipe)}


def value_to_json(value: object) -> Json:
    """Turn dataclasses into objects with their kind, and tuples into lists."""
    if isinstance(value, tuple):
        return [value_to_json(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {KIND: type(value).__name__, **{k: value_to_json(v) for k, v in vars(value).items()}}
    return value


def leaves(data: Json, path: str = "") -> list[tuple[str, Json]]:
    """List the leaves of JSON data by path, as an override names them; a list of plain values is one leaf."""
    named = data
    if isinstance(data, list) and any(isinstance(item, dict | list) for item in data):
        named = {str(index): item for index, item in enumerate(data)}
    if not isinstance(named, dict):
        return [(path, data)]
    return [row for name, value in named.items() for row in leaves(value, f"{path}.{name}".lstrip("."))]


def read_recipe(
    data: Json,
    overrides: Sequence[str] = (),
    check_names: Mapping[str, Callable[[str], str | None]] | None = None,
    check_whole: Callable[[Recipe], list[str]] = lambda recipe: [],
) -> Recipe:
    """Build the recipe of JSON data changed by overrides `field.path=value`.

    check_names: for a field, a function that returns what is wrong with a name, or None.
    check_whole: returns what is wrong with a recipe in the world around it.
    Raises RecipeError with every problem found.
    """
    problems: list[str] = []
    data = apply_overrides(data, overrides, problems)
    recipe = read_value(Recipe, data, "", problems)
    for name, check in (check_names or {}).items():
        value = data.get(name) if isinstance(data, dict) else None
        problem = check(value) if isinstance(value, str) else None
        if problem:
            problems.append(f"{name}: {problem}")
    if isinstance(recipe, Recipe):
        problems.extend(contradictions(recipe) + check_whole(recipe))
    if problems or not isinstance(recipe, Recipe):
        raise RecipeError(problems)
    return recipe


def apply_overrides(data: Json, overrides: Sequence[str], problems: list[str]) -> Json:
    """Return a copy of `data` with each `field.path=value` set; a new kind empties its object."""
    data = json.loads(json.dumps(data))
    for override in overrides:
        path, equals, text = override.partition("=")
        if not equals or not path:
            problems.append(f"override {override!r}: expected field.path=value")
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):  # not JSON, or more digits or brackets than Python reads
            value = text
        set_path(data, path.split("."), value, override, problems)
    return data


def set_path(data: Json, path: list[str], value: Json, override: str, problems: list[str]) -> None:
    """Set one value deep in `data`; lists take an index, a missing object is made."""
    *parents, last = path
    place = data
    for part in parents:
        if isinstance(place, list) and part.isdecimal() and int(part) < len(place):
            place = place[int(part)]
            continue
        if not isinstance(place, dict):
            problems.append(f"override {override!r}: there is no {part!r} to go into")
            return
        if place.get(part) is None:
            place[part] = {}
        place = place[part]
    if isinstance(place, list) and last.isdecimal() and int(last) < len(place):
        place[int(last)] = value
    elif not isinstance(place, dict):
        problems.append(f"override {override!r}: there is no {last!r} to set")
    elif last == KIND and place.get(KIND) != value:
        place.clear()
        place[KIND] = value
    else:
        place[last] = value


def read_value(kind: Any, data: Json, path: str, problems: list[str]) -> Any:
    """Check `data` against a type and convert it; what is wrong goes to `problems`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return read_union(args, data, path, problems)
    if origin is tuple:
        if not isinstance(data, list | tuple):
            problems.append(f"{path}: expected a list, got {data!r}")
            return None
        return tuple(read_value(args[0], item, f"{path}.{i}", problems) for i, item in enumerate(data))
    if origin is Literal:
        if data not in args:
            known = ", ".join(map(repr, args))
            problems.append(f"{path}: expected one of {known}, got {data!r}{did_you_mean(str(data), args)}")
        return data
    if is_dataclass(kind):
        return read_dataclass(kind, data, path, problems)
    return read_scalar(kind, data, path, problems)


def read_union(options: tuple[Any, ...], data: Json, path: str, problems: list[str]) -> Any:
    """Read one of several types: dataclasses by their kind, or a plain type that may be null."""
    if data is None and type(None) in options:
        return None
    options = tuple(option for option in options if option is not type(None))
    if len(options) == 1:
        return read_value(options[0], data, path, problems)
    by_kind = {option.__name__: option for option in options}
    got = data.get(KIND) if isinstance(data, dict) else data
    if not isinstance(got, str) or got not in by_kind:
        near = did_you_mean(got, by_kind) if isinstance(got, str) else ""
        problems.append(f"{path}.{KIND}: expected one of {', '.join(by_kind)}, got {got!r}{near}")
        return None
    return read_dataclass(by_kind[got], data, path, problems)


def read_dataclass(kind: Any, data: Json, path: str, problems: list[str]) -> Any:
    """Read an object into a dataclass; unknown and missing fields are problems."""
    if not isinstance(data, dict):
        problems.append(f"{path or 'recipe'}: expected an object, got {data!r}")
        return None
    before = len(problems)
    prefix = f"{path}." if path else ""
    known = {field.name: field for field in fields(kind)}
    types_of = get_type_hints(kind)
    if data.get(KIND, kind.__name__) != kind.__name__:
        problems.append(f"{prefix}{KIND}: expected {kind.__name__}, got {data[KIND]!r}")
    problems.extend(
        f"unknown field {prefix + name!r}{did_you_mean(name, known)}" for name in data if name not in {*known, KIND}
    )
    values = {}
    for name, field in known.items():
        if name in data:
            values[name] = read_value(types_of[name], data[name], prefix + name, problems)
        elif field.default is MISSING:
            problems.append(f"missing field {prefix + name!r}")
    return kind(**values) if len(problems) == before else None


def read_scalar(kind: type, data: Json, path: str, problems: list[str]) -> Any:
    """Read a number, a truth value or a string; a whole number is a fine float."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "a string"}
    if kind is float and type(data) is int:
        data = float(data) if abs(data) < 2**1023 else math.inf
    if type(data) is not kind:
        problems.append(f"{path}: expected {words[kind]}, got {data!r}")
    elif isinstance(data, float) and not math.isfinite(data):
        problems.append(f"{path}: expected a finite number, got {data}")
    return data


def contradictions(recipe: Recipe) -> list[str]:
    """List what cannot hold together in a recipe whose types are right."""
    positive = ("batch_size", "microbatch_size", "total_epochs", "total_steps", "log_every_steps",
                "eval_every_epochs", "save_every_steps")  # fmt: skip
    found = [
        f"{name}: expected more than 0, got {getattr(recipe, name)}"
        for name in positive
        if getattr(recipe, name) is not None and getattr(recipe, name) <= 0
    ]
    if (recipe.total_epochs is None) == (recipe.total_steps is None):
        found.append("expected one of total_epochs and total_steps: set one, and the other to null")
    if recipe.microbatch_size > 0 and recipe.batch_size % recipe.microbatch_size:
        found.append(
            f"batch_size: expected a multiple of microbatch_size {recipe.microbatch_size}, got {recipe.batch_size}"
        )
    for name, value in fractions(recipe).items():
        if not 0.0 <= value < 1.0:
            found.append(f"{name}: expected 0 or more and less than 1, got {value}")
    if recipe.optim.lr <= 0:
        found.append(f"optim.lr: expected more than 0, got {recipe.optim.lr}")
    if recipe.optim.weight_decay < 0:
        found.append(f"optim.weight_decay: expected 0 or more, got {recipe.optim.weight_decay}")
    if recipe.optim.nesterov and recipe.optim.momentum == 0:
        found.append("optim.nesterov: expected a momentum above 0, got momentum 0")
    found += [
        f"{name}: expected 0 or more and less than 2**63, got {value}"
        for name, value in {"val_images": recipe.val_images, "seed": recipe.seed}.items()
        if not 0 <= value < 2**63
    ]
    return found + schedule_contradictions(recipe) + picture_contradictions(recipe)


def fractions(recipe: Recipe) -> dict[str, float]:
    """Return the fields that are fractions below one."""
    named = {
        "label_smoothing": recipe.label_smoothing,
        "drop_path_rate": recipe.drop_path_rate,
        "optim.momentum": recipe.optim.momentum,
    }
    if recipe.average_weights:
        named["average_weights.decay"] = recipe.average_weights.decay
    return named


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
        if recipe.schedule.drop_factor <= 0:
            found.append(f"schedule.drop_factor: expected more than 0, got {recipe.schedule.drop_factor}")
    elif recipe.schedule.final_factor < 0:
        found.append(f"schedule.final_factor: expected 0 or more, got {recipe.schedule.final_factor}")
    if recipe.warmup:
        lengths = (recipe.warmup.warmup_epochs, recipe.warmup.warmup_steps)
        if min(lengths) < 0 or all(lengths) or not any(lengths):
            found.append("warmup: expected one of warmup_epochs and warmup_steps above 0, the other absent")
        if not 0.0 <= recipe.warmup.start_factor <= 1.0:
            found.append(f"warmup.start_factor: expected 0 to 1, got {recipe.warmup.start_factor}")
    return found


def picture_contradictions(recipe: Recipe) -> list[str]:
    """List what is wrong with preprocessing and augmentation."""
    found = []
    if isinstance(recipe.preprocess, Normalize):
        if (len(recipe.preprocess.mean), len(recipe.preprocess.std)) != (3, 3):
            found.append("preprocess: expected three numbers, R G B, in mean and in std")
        found += constants_problems("preprocess.mean", recipe.preprocess.mean, "preprocess.std", recipe.preprocess.std)
    return found + [
        f"augment.{place}.padding: expected 0 to {MAX_PADDING}, got {augmentation.padding}"
        for place, augmentation in enumerate(recipe.augment)
        if isinstance(augmentation, PadCrop) and not 0 <= augmentation.padding <= MAX_PADDING
    ]


def constants_problems(
    mean_name: str, mean: Sequence[float] | None, std_name: str, std: Sequence[float] | None
) -> list[str]:
    """List what is wrong with a mean and a std of pixels in [0, 1]; the likeliest mistake is the 0 to 255 scale."""
    problems = []
    for name, numbers, lowest in ((mean_name, mean or (), 0.0), (std_name, std or (), math.nextafter(0.0, 1.0))):
        wrong = [number for number in numbers if not lowest <= number <= 1.0]
        if wrong:
            scale = "; divide by 255" if wrong[0] > 1.0 else ""
            bound = "0 to 1" if lowest == 0.0 else "above 0 and at most 1"
            problems.append(f"{name}: expected {bound}, pixels are in [0, 1], got {wrong[0]}{scale}")
    return problems


def total_steps_of(recipe: Recipe, steps_per_epoch: int) -> int:
    """Return how many steps the recipe takes on data of this many steps an epoch."""
    return recipe.total_steps or round((recipe.total_epochs or 0) * steps_per_epoch)


def recipe_differences(old: Recipe, new: Recipe) -> list[str]:
    """List the fields in which two recipes differ, as `field: old -> new`."""
    before, after = recipe_to_json(old), recipe_to_json(new)
    return [f"{name}: {before[name]!r} -> {after[name]!r}" for name in before if before[name] != after[name]]
