"""The ways to run a model, by the names that `--engine` takes: a library, on weights or an exported form of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Format = Literal["onnx", "openvino", "torch-export"]
Library = Literal["torch", "onnxruntime", "openvino", "torch-export"]
AUTO = "auto"  # what `bench` found to be the fastest here, else the model's own way


@dataclass(frozen=True)
class Way:
    """One way to run a model."""

    name: str
    library: Library
    form: Format | None = None  # what it runs of weights; None: the weights themselves
    int8: bool = False
    bfloat16: bool = False  # products of three digits, where the CPU has them

    @property
    def is_rounded(self) -> bool:
        """Say whether its logits may differ from the model's by more than float32 rounds."""
        return self.int8 or self.bfloat16


WAYS: dict[str, Way] = {
    way.name: way
    for way in (
        Way("torch", "torch"),  # channels last in memory
        Way("torch-channels-first", "torch"),  # as nets come
        Way("torch-compile", "torch"),
        Way("torch-export", "torch-export", "torch-export"),
        Way("onnxruntime", "onnxruntime", "onnx"),
        Way("openvino", "openvino", "openvino"),
        Way("openvino-bf16", "openvino", "openvino", bfloat16=True),
        Way("onnxruntime-int8", "onnxruntime", "onnx", int8=True),
        Way("openvino-int8", "openvino", "openvino", int8=True),
    )
}
RUNNERS: dict[Format, tuple[Library, ...]] = {  # of a file of a format, its own first
    "onnx": ("onnxruntime", "openvino"),
    "openvino": ("openvino",),
    "torch-export": ("torch-export",),
}


def ways_of_file(form: Format, int8: bool) -> tuple[Way, ...]:
    """Return the ways to run an exported model, its own first."""
    return tuple(way for library in RUNNERS[form] for way in WAYS.values()
                 if way.library == library and way.int8 == int8)  # fmt: skip


def has_cpu_flag(*names: str) -> bool:
    """Say whether the CPU has one of these instructions, by Linux's names for them."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False
    return not set(names).isdisjoint(flags)


def has_vnni() -> bool:
    """Say whether the CPU multiplies bytes without overflow; without, ONNX Runtime's weights get 7 bits."""
    return has_cpu_flag("avx512_vnni", "avx_vnni", "asimddp")


def has_bfloat16() -> bool:
    """Say whether the CPU multiplies bfloat16; without, it is slower than float32."""
    return has_cpu_flag("avx512_bf16", "amx_bf16", "bf16")
