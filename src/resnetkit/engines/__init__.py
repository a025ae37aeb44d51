"""Engines: what turns images, as evaluation sees them, into logits, whichever library does the arithmetic.

Nothing here imports torch, so that an exported model is used without it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess

LOGITS = "logits"  # [N, classes]
LAST_MAP = "map"  # the last feature map [N, C, h, w]
CLASS_MAPS = "class_maps"  # what the last map says of each class [N, classes, h, w]; its mean and the bias: the logit


class Engine(Protocol):
    """A model that is ready to be asked."""

    @property
    def name(self) -> str:
        """Say which way this is, by its name in `ways`: "torch", "onnxruntime", "openvino-int8"."""

    @property
    def has_map(self) -> bool:
        """Say whether `output` has the maps beside the logits."""

    @property
    def preprocess(self) -> Preprocess:
        """Return how images are resized and cropped before `logits` gets them."""

    @property
    def temperature(self) -> float:
        """Return what logits are divided by before the softmax."""

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""

    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return an output by its name: the logits, or of a model that has them the maps below."""
