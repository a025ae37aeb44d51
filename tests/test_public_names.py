"""What users may import, and nothing by accident."""

from __future__ import annotations

import subprocess
import sys

import resnetkit

PUBLIC = [
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


def test_the_public_names_are_these() -> None:
    assert resnetkit.__all__ == PUBLIC


def test_every_public_name_is_there() -> None:
    for name in PUBLIC:
        assert getattr(resnetkit, name) is not None


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import sys, resnetkit; print('torch' in sys.modules); print(resnetkit.Recipe.__name__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "Recipe"]


def test_an_unknown_name_is_an_attribute_error() -> None:
    assert not hasattr(resnetkit, "no_such_name")
