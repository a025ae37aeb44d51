"""ONNX Runtime as an engine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess
from resnetkit.engines import LOGITS
from resnetkit.provenance import cores_of_process


def one_path() -> Any:
    """Return the options of a run that computes only what is asked for."""
    options = library().RunOptions()
    options.only_execute_path_to_fetches = True
    return options


@dataclass(frozen=True)
class OnnxEngine:
    """A session on the CPU, with a thread for each core of this process."""

    session: Any
    preprocess: Preprocess
    name: str = "onnxruntime"
    has_map: bool = False
    temperature: float = 1.0
    options: Any = field(default_factory=one_path)

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        return self.output(LOGITS, images)

    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return an output by its name, and compute nothing for the others."""
        inputs = {self.session.get_inputs()[0].name: images}
        found: NDArray[np.float32] = self.session.run([name], inputs, self.options)[0]
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
