"""One function a command, called by `cli.py` with its arguments by name; only its own module is imported."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

HOMES = {
    "data": ("data",),
    "show": ("show", "zoo"),
    "plan": ("plan",),
    "doctor": ("doctor",),
    "training": ("train", "report"),
    "finetune": ("finetune",),
    "evaluate": ("evaluate",),
    "verify": ("verify",),
    "predict": ("predict",),
    "weights": ("convert", "push"),
    "export": ("export",),
    "bench": ("bench",),
    "explain": ("explain",),
    "serve": ("serve",),
}


def command(name: str) -> Callable[..., int]:
    """Return the function of a command."""
    home = next(home for home, names in HOMES.items() if name in names)
    function: Callable[..., int] = getattr(import_module(f"resnetkit.commands.{home}"), name)
    return function
