"""A program of torch.export as an engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess
from resnetkit.engines import CLASS_MAPS, LAST_MAP, LOGITS


@dataclass(frozen=True)
class ProgramEngine:
    """An exported program on the CPU."""

    module: Callable[[torch.Tensor], Any]  # uint8 [N, H, W, 3] -> logits, or logits and the last map
    preprocess: Preprocess
    name: str = "torch-export"
    has_map: bool = False
    temperature: float = 1.0

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        return self.output(LOGITS, images)

    @torch.inference_mode()
    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return an output by its name."""
        outputs = self.module(torch.from_numpy(images))
        place = (LOGITS, LAST_MAP, CLASS_MAPS).index(name)
        found: NDArray[np.float32] = (outputs[place] if isinstance(outputs, tuple) else outputs).numpy()
        return found
