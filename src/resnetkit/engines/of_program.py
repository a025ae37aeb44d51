"""A program of torch.export as an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess


@dataclass(frozen=True)
class ProgramEngine:
    """An exported program on the CPU."""

    module: Callable[[torch.Tensor], Any]  # uint8 [N, H, W, 3] -> logits, or logits and the last map
    preprocess: Preprocess
    name: str = "torch-export"

    @torch.inference_mode()
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        outputs = self.module(torch.from_numpy(images))
        found: NDArray[np.float32] = (outputs[0] if isinstance(outputs, tuple) else outputs).numpy()
        return found

    @torch.inference_mode()
    def last_map(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the last feature map [N, C, h, w], of a model that was exported with it."""
        found: NDArray[np.float32] = self.module(torch.from_numpy(images))[1].numpy()
        return found
