"""Heat maps: where a model looks for a class, and how that is drawn over what it was shown.

Of a ResNet's last map that is exact (class activation maps, arXiv 1512.04150): the logit of a class is its bias and the
mean over the places of what each place says of it.  Nothing here imports torch.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Heat = NDArray[np.float32]  # [h, w]
Pixels = NDArray[np.uint8]  # [H, W, 3]
ANCHORS = np.array(
    [(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], np.float32
)  # dark to bright
LARGEST_SHARE = 0.7  # of the colour, where it is hottest
SHOWN_SIDE = 448  # pixels a side of an overlay, at least


def scaled(heat: Heat) -> Heat:
    """Bring heat to [0, 1]: what speaks against the class, or says nothing, is 0, the hottest place is 1."""
    positive = np.maximum(heat, 0)
    hottest = float(positive.max())
    return np.asarray(positive / hottest if hottest > 0 else positive, np.float32)


def overlay(pixels: Pixels, heat: Heat) -> Image.Image:
    """Draw heat over what a model was shown: the hotter, the more of the colour."""
    side = max(SHOWN_SIDE, *pixels.shape[:2])
    size = (
        round(pixels.shape[1] * side / max(pixels.shape[:2])),
        round(pixels.shape[0] * side / max(pixels.shape[:2])),
    )
    picture = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.BICUBIC)
    fine = np.asarray(Image.fromarray(scaled(heat)).resize(size, Image.Resampling.BICUBIC)).clip(0, 1)
    share = LARGEST_SHARE * fine[:, :, None]
    mixed = (1 - share) * np.asarray(picture, np.float32) + share * coloured(fine)
    return Image.fromarray(np.rint(mixed).astype(np.uint8))


def coloured(heat: Heat) -> NDArray[np.float32]:
    """Return the colours of heat in [0, 1]: [h, w, 3]; brightness grows with it, also for those who see few colours."""
    places = np.linspace(0, 1, len(ANCHORS))
    return np.stack([np.interp(heat, places, ANCHORS[:, channel]) for channel in range(3)], axis=2).astype(np.float32)


def to_png(image: Image.Image) -> bytes:
    """Encode an image as PNG, quickly."""
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=1)
    return content.getvalue()
