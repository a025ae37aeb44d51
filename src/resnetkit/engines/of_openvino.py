"""OpenVINO as an engine."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from resnetkit.data.transforms import Preprocess
from resnetkit.engines import LOGITS
from resnetkit.provenance import cores_of_process


@dataclass(frozen=True)
class OpenVinoEngine:
    """A compiled model on the CPU, with a thread for each core of this process."""

    compiled: Any  # for the logits alone
    preprocess: Preprocess
    name: str = "openvino"
    whole: Callable[[], Any] | None = None  # compiles all outputs, for those that ask for another
    temperature: float = 1.0

    @property
    def has_map(self) -> bool:
        """Say whether it has the maps beside the logits."""
        return self.whole is not None

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return logits [N, classes] of images [N, image_size, image_size, 3]."""
        return np.array(self.compiled(images)[0], np.float32)  # what it returns is written over by the next call

    def output(self, name: str, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return an output by its name."""
        if name == LOGITS:
            return self.logits(images)
        assert self.whole
        return np.array(self.whole()(images)[name], np.float32)


def library() -> Any:
    """Import OpenVINO without the package that reports its use.

    With it, the import alone writes an identifier below the user's home; OpenVINO and NNCF do without where it is not
    to be had.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def read_model(file: Path) -> Any:
    """Read a model of OpenVINO's own format or ONNX; raises RuntimeError for a damaged one."""
    return library().Core().read_model(file)


def for_logits(model: Any) -> Any:
    """Return a model without its other outputs, which would be computed each time."""
    return library().Model([model.get_results()[0]], model.get_parameters(), "logits")


def compile_model(model: Any, bfloat16: bool = False) -> Any:
    """Make a model ready to run.

    On a CPU with bfloat16 OpenVINO takes that by default, three digits in place of seven: here only where asked.
    """
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if bfloat16 else "f32",
             "INFERENCE_NUM_THREADS": cores_of_process()}  # fmt: skip
    with own_signal_stack():
        return library().Core().compile_model(model, "CPU", hints)


class SignalStack(ctypes.Structure):
    """stack_t of Linux: where a thread's signal handlers run."""

    _fields_ = (("address", ctypes.c_void_p), ("flags", ctypes.c_int), ("size", ctypes.c_size_t))


@contextmanager
def own_signal_stack() -> Iterator[None]:
    """Put a thread's signal stack back as it was.

    OpenVINO 2026.4 sets one as it compiles, and unmaps it with the model: the next signal, as of Ctrl-C, would end the
    process by a segmentation fault.
    """
    if not sys.platform.startswith("linux"):
        yield
        return
    libc, before = ctypes.CDLL(None), SignalStack()
    libc.sigaltstack(None, ctypes.byref(before))
    try:
        yield
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
