"""Recipes in and out of JSON, changed by overrides, and refused as a whole.

Every unknown field, wrong type and contradiction is listed at once, with near names.
"""

from __future__ import annotations

import json
import math
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from resnetkit.errors import RecipeError, did_you_mean
from resnetkit.recipe import Recipe
from resnetkit.recipe_checks import contradictions

KIND = "kind"  # names the class where a field may hold one of several
Json = Any  # what json.loads gives


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


def recipe_differences(old: Recipe, new: Recipe) -> list[str]:
    """List the fields in which two recipes differ, as `field: old -> new`."""
    before, after = recipe_to_json(old), recipe_to_json(new)
    return [f"{name}: {before[name]!r} -> {after[name]!r}" for name in before if before[name] != after[name]]
