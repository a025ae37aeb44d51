"""torch as an engine: the model itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnetkit.data.transforms import Preprocess
from resnetkit.engines import LAST_MAP, LOGITS


@dataclass(frozen=True)
class TorchEngine:
    """A model on the device where it is; in eval mode while it is asked."""

    model: Any  # a ResNet, as it is or compiled
    preprocess: Preprocess
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    name: str = "torch"
    has_map: bool = True
    temperature: float = 1.0

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        return self.computed(images, self.model)

    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return an output by its name."""
        if name == LOGITS:
            return self.logits(images)

        def compute(batch: Tensor) -> Tensor:
            last: Tensor = self.model.features(batch)[-1]
            return last if name == LAST_MAP else class_maps(self.model.fc.weight, last)

        return self.computed(images, compute)

    @torch.inference_mode()
    def computed(self, images: NDArray[np.uint8], compute: Callable[[Tensor], Any]) -> NDArray[np.float32]:
        """Return what is computed of a normalised batch, in eval mode."""
        batch = self.preprocess.normalize(torch.from_numpy(images).to(self.device))
        was_training = self.model.training
        self.model.eval()
        try:
            found: NDArray[np.float32] = compute(batch).float().cpu().numpy()
        finally:
            self.model.train(was_training)
        return found


def class_maps(weight: Tensor, last: Tensor) -> Tensor:
    """Return what the last map [N, C, h, w] says of each class [N, classes, h, w], by the last layer's weight."""
    return torch.nn.functional.conv2d(last, weight[:, :, None, None])


def on_device(
    model: nn.Module, preprocess: Preprocess, device: torch.device, name: str = "torch", temperature: float = 1.0
) -> TorchEngine:
    """Move a model to a device, in the memory layout that is fastest there, or run it in another way of torch's."""
    layout = torch.contiguous_format if name == "torch-channels-first" else torch.channels_last
    moved: nn.Module = model.to(device, memory_format=layout)  # type: ignore[call-overload]
    ready = torch.compile(moved) if name == "torch-compile" else moved
    assert isinstance(ready, nn.Module)
    return TorchEngine(ready, preprocess, device, name, temperature=temperature)
