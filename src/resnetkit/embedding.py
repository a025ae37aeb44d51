"""Features of images: what a net sees before its head decides."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.data.resize import view, view_of
from resnetkit.errors import BadRequest
from resnetkit.load import LoadedModel
from resnetkit.predict import read_pixels

BATCH_SIZE = 32


@torch.inference_mode()
def features(
    loaded: LoadedModel,
    images: Sequence[str | Path | NDArray[np.uint8]],
    *,
    stage: int | None = None,  # 1 is the first; None: the last, whose features the head gets
    pooled: bool = True,  # average over the places of the map
) -> NDArray[np.float32]:
    """Return features float32 [N, C] of images, or the maps [N, C, h, w] of a stage where not `pooled`.

    An image is a file or pixels uint8 [H, W, 3] in RGB; it is resized, cropped and normalised as the weights say.
    Raises BadImage for a file that cannot be read, BadRequest for a stage that the net has not.
    """
    stages = len(loaded.model.arch.depths)
    place = stages if stage is None else stage
    if not 1 <= place <= stages:
        raise BadRequest(f"stage: expected 1 to {stages}, got {stage}")
    if not len(images):
        raise BadRequest("no images to take features of")
    device = next(loaded.model.parameters()).device
    found = []
    for start in range(0, len(images), BATCH_SIZE):
        pixels = np.stack([pixels_of(image, loaded) for image in images[start : start + BATCH_SIZE]])
        batch = loaded.preprocess.normalize(torch.from_numpy(pixels).to(device))
        maps = loaded.model.eval().features(batch)[place - 1]  # [N, C, h, w]
        found.append((maps.mean(dim=(2, 3)) if pooled else maps).float().cpu().numpy())
    return np.concatenate(found)


def pixels_of(image: str | Path | NDArray[Any], loaded: LoadedModel) -> NDArray[np.uint8]:
    """Return an image as the net is shown it: uint8 [side, side, C]."""
    if isinstance(image, str | Path):
        return read_pixels(str(image), loaded.preprocess)
    channels = loaded.model.arch.in_channels
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != channels:
        raise BadRequest(f"expected pixels uint8 [H, W, {channels}]", f"got {image.dtype} {list(image.shape)}")
    return view(image, **view_of(loaded.preprocess))
