"""Random changes of brightness, contrast, saturation and hue, in random order, with Pillow's own operations.

Equal to torchvision's ColorJitter on images of Pillow, given the same factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageEnhance

from resnetkit.data.resize import Pixels


def shifted_hue(image: Image.Image, share: float) -> Image.Image:
    """Turn the hue by a share of the circle; hues are whole numbers of 1/256 here."""
    hue, saturation, value = image.convert("HSV").split()
    turned = np.asarray(hue) + np.array(share * 255).astype(np.int64).astype(np.uint8)  # wraps round
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


CHANGES: dict[str, Callable[[Image.Image, float], Image.Image]] = {
    "brightness": lambda image, factor: ImageEnhance.Brightness(image).enhance(factor),
    "contrast": lambda image, factor: ImageEnhance.Contrast(image).enhance(factor),
    "saturation": lambda image, factor: ImageEnhance.Color(image).enhance(factor),
    "hue": shifted_hue,
}


@dataclass(frozen=True)
class ColorJitter:
    """Multiply by factors of 1 - x to 1 + x, at least 0, and turn the hue by -x to x of the circle; 0 leaves it out."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # at most 0.5

    def __call__(self, pixels: Pixels, rng: np.random.Generator) -> Pixels:
        """Change uint8 [H, W, 3]."""
        image = Image.fromarray(np.ascontiguousarray(pixels))
        for name in rng.permutation(list(CHANGES)):
            most = getattr(self, name)
            middle = 0.0 if name == "hue" else 1.0
            if most:
                factor = rng.uniform(middle - most if name == "hue" else max(0.0, middle - most), middle + most)
                image = CHANGES[name](image, factor)
        return np.asarray(image)
