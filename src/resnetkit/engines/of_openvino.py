"""OpenVINO as an engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess
from resnetkit.provenance import cores_of_process

Precision = Literal["f32", "bf16"]  # of sums and products that are not quantised


@dataclass(frozen=True)
class OpenVinoEngine:
    """A compiled model on the CPU, with a thread for each core of this process."""

    compiled: Any
    preprocess: Preprocess
    name: str = "openvino"

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        return np.array(self.compiled(images)[0], np.float32)  # what it returns is written over by the next call


def read_model(file: Path) -> Any:
    """Read a model of OpenVINO's own format or ONNX; raises RuntimeError for a damaged one.

    `openvino.convert_model` would do it too, and tell its makers.
    """
    import openvino

    return openvino.Core().read_model(file)


def compile_model(model: Any, precision: Precision = "f32") -> Any:
    """Make a model ready to run.

    On a CPU with bfloat16 OpenVINO takes that by default, three digits in place of seven: here only where asked.
    """
    import openvino

    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision,
             "INFERENCE_NUM_THREADS": cores_of_process()}  # fmt: skip
    return openvino.Core().compile_model(model, "CPU", hints)
