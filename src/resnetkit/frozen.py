"""What a net whose weights stay makes of images: the features that its head decides by."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.data.photos import PhotoSplit
from resnetkit.data.seen import seen
from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess
from resnetkit.models import ResNet


@torch.inference_mode()
def feature_batches(
    model: ResNet, split: Split | PhotoSplit, preprocess: Preprocess, device: torch.device
) -> Iterator[NDArray[np.float32]]:
    """Yield the pooled features float32 [n, C] of a split's images, batch after batch, as evaluation sees them.

    The model is put into eval mode for the while.  BadImage names a photo that cannot be read.
    """
    was_training = model.training
    model.eval()
    try:
        for images, _ in seen(split, preprocess):
            batch = preprocess.normalize(torch.from_numpy(images).to(device))
            yield model.features(batch)[-1].mean(dim=(2, 3)).float().cpu().numpy()
    finally:
        model.train(was_training)
