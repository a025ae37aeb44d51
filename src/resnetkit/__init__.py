"""Residual networks for image classification: published recipes, exact resume, numbers anybody can check.

The public names are loaded when they are first used, so that `import resnetkit` costs nothing.
The three verbs are functions of their modules: `from resnetkit.train import train`, and so `evaluate`, `predict`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnetkit.conversion import Conversion, convert
    from resnetkit.data.sources import load_dataset
    from resnetkit.embedding import features
    from resnetkit.errors import ResnetkitError
    from resnetkit.evaluate import Evaluation
    from resnetkit.load import LoadedModel, load_model, save
    from resnetkit.models import MODELS, Architecture, ResNet
    from resnetkit.recipe import Recipe
    from resnetkit.recipes import RECIPES, load_recipe
    from resnetkit.zoo import ZOO

__version__ = "0.1.0"

HOMES = {
    "conversion": ("Conversion", "convert"),
    "data.sources": ("load_dataset",),
    "embedding": ("features",),
    "errors": ("ResnetkitError",),
    "evaluate": ("Evaluation",),
    "load": ("LoadedModel", "load_model", "save"),
    "models": ("MODELS", "Architecture", "ResNet"),
    "recipe": ("Recipe",),
    "recipes": ("RECIPES", "load_recipe"),
    "zoo": ("ZOO",),
}

__all__ = [
    "MODELS",
    "RECIPES",
    "ZOO",
    "Architecture",
    "Conversion",
    "Evaluation",
    "LoadedModel",
    "Recipe",
    "ResNet",
    "ResnetkitError",
    "__version__",
    "convert",
    "features",
    "load_dataset",
    "load_model",
    "load_recipe",
    "save",
]


def __getattr__(name: str) -> object:
    for home, names in HOMES.items():
        if name in names:
            return getattr(import_module(f"resnetkit.{home}"), name)
    raise AttributeError(f"module 'resnetkit' has no attribute {name!r}")
