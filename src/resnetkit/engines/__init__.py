"""Engines: what turns images, as evaluation sees them, into logits, whichever library does the arithmetic.

Nothing here imports torch, so that an exported model is used without it.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess


class Engine(Protocol):
    """A model that is ready to be asked."""

    @property
    def name(self) -> str:
        """Say which way this is, by its name in `ways`: "torch", "onnxruntime", "openvino-int8"."""

    @property
    def preprocess(self) -> Preprocess:
        """Return how images are resized and cropped before `logits` gets them."""

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""

    def last_map(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the last feature map [N, C, h, w], of a model that has it among its outputs."""


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return probabilities [N, classes] of logits."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)
