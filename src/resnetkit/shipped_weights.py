"""Weights that come with the package, by the names of their nets in the zoo: trained by our own recipes.

Each file says what it is: net, classes, preprocessing, recipe, data, figures, temperature, and the run that it is of.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent / "shipped"
SHIPPED: dict[str, Path] = {file.stem: file for file in sorted(FOLDER.glob("*.safetensors"))}
