"""ONNX Runtime as an engine."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess
from resnetkit.provenance import cores_of_process

LOGITS, LAST_MAP = "logits", "map"  # outputs


@dataclass(frozen=True)
class OnnxEngine:
    """A session on the CPU, with a thread for each core of this process."""

    session: Any
    preprocess: Preprocess
    name: str = "onnxruntime"

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        return self.output(LOGITS, images)

    def last_map(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the last feature map [N, C, h, w], of a model that was exported with it."""
        return self.output(LAST_MAP, images)

    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return one output."""
        found: NDArray[np.float32] = self.session.run([name], {self.session.get_inputs()[0].name: images})[0]
        return found


def library() -> Any:
    """Import ONNX Runtime with its reports switched off: the import alone would begin them (its Privacy.md)."""
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    return onnxruntime


def open_session(file: Path) -> Any:
    """Open a file; raises what ONNX Runtime does for one that is damaged."""
    onnxruntime = library()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = cores_of_process()
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
