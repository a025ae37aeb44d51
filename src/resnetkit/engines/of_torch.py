"""torch as an engine: the model itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from resnetkit.data.transforms import Preprocess


@dataclass(frozen=True)
class TorchEngine:
    """A model on the device where it is; in eval mode while it is asked."""

    model: nn.Module
    preprocess: Preprocess
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    name: str = "torch"

    @torch.inference_mode()
    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        batch = self.preprocess.normalize(torch.from_numpy(images).to(self.device))
        was_training = self.model.training
        self.model.eval()
        try:
            found: NDArray[np.float32] = self.model(batch).float().cpu().numpy()
        finally:
            self.model.train(was_training)
        return found


def on_device(model: nn.Module, preprocess: Preprocess, device: torch.device, name: str = "torch") -> TorchEngine:
    """Move a model to a device, in the memory layout that is fastest there, or run it in another way of torch's."""
    layout = torch.contiguous_format if name == "torch-channels-first" else torch.channels_last
    moved: nn.Module = model.to(device, memory_format=layout)  # type: ignore[call-overload]
    ready = torch.compile(moved) if name == "torch-compile" else moved
    assert isinstance(ready, nn.Module)
    return TorchEngine(ready, preprocess, device, name)
