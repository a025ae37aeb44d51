"""What is said of a model on the command line, beside its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resnetkit.classifier import Said
from resnetkit.data import imagenet
from resnetkit.data.spec import DATASETS
from resnetkit.errors import BadRequest


def take_said(arguments: dict[str, Any]) -> Said:
    """Take the options of `parser.add_model` out of a command's arguments; class names are read."""
    names = arguments.pop("class_names")
    return Said(
        mean=arguments.pop("mean"),
        std=arguments.pop("std"),
        class_names=read_class_names(names) if names else None,
        plain=arguments.pop("plain"),
        stride_style=arguments.pop("stride_style"),
        raw=arguments.pop("raw"),
    )


def read_class_names(given: str) -> tuple[str, ...]:
    """Return the class names of a data set, or of a file with a class a line, in the order of the classes."""
    if given in DATASETS:
        return tuple(DATASETS[given].class_names)
    if given == "imagenet":
        return imagenet.names()
    if not Path(given).is_file():
        known = ", ".join([*DATASETS, "imagenet"])
        raise BadRequest(f"--class-names: {given!r} is no file", f"expected a file or one of {known}")
    try:
        return tuple(Path(given).read_text(encoding="utf-8-sig").splitlines())
    except UnicodeDecodeError as error:
        raise BadRequest(f"--class-names: {given} is not UTF-8 text", f"{error}") from error
