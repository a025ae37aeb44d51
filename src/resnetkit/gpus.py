"""Published training throughput of ResNet-50 at 224 pixels on named GPUs, and what it says of other nets.

NVIDIA: github.com/NVIDIA/DeepLearningExamples, PyTorch/Classification/ConvNets/resnet50v1.5/README.md, "Training
performance results": whole training with its input, container pytorch-21.03.
timm: github.com/huggingface/pytorch-image-models, results/benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv: forward,
backward and update on generated images, batches of 512.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["AMP", "TF32", "FP32"]

RESNET50_MACS = 4_089_184_256  # multiply-adds of the published net, an image of 224 pixels a side
NVIDIA = "NVIDIA DeepLearningExamples, PyTorch resnet50v1.5"
TIMM = "timm, benchmark-train-amp-nhwc-pt112-cu113-rtx3090.csv"


@dataclass(frozen=True)
class Published:
    """One published figure."""

    gpu: str
    gpus: int
    precision: Precision
    images_per_second: float  # ResNet-50 at 224 pixels, all GPUs together
    source: str


PUBLISHED = (
    Published("A100 80GB", 1, "AMP", 2470, NVIDIA),
    Published("A100 80GB", 8, "AMP", 16_621, NVIDIA),
    Published("A100 80GB", 1, "TF32", 938, NVIDIA),
    Published("A100 80GB", 8, "TF32", 7248, NVIDIA),
    Published("V100 16GB", 1, "AMP", 1200, NVIDIA),
    Published("V100 16GB", 8, "AMP", 8322, NVIDIA),
    Published("V100 16GB", 1, "FP32", 367, NVIDIA),
    Published("V100 16GB", 8, "FP32", 2855, NVIDIA),
    Published("RTX 3090", 1, "AMP", 1218.01, TIMM),
)


@dataclass(frozen=True)
class GpuForecast:
    """How a recipe would go on named GPUs: a published figure scaled by multiply-adds."""

    gpu: str
    gpus: int
    precision: Precision
    precision_of_recipe: bool  # AMP where the recipe says so, and only there
    published_images_per_second: float  # ResNet-50 at 224 pixels
    source: str
    images_per_second: float  # scaled to the recipe's net and image size
    hours: float  # of training


def forecast_gpus(macs: int, samples: int, mixed_precision: bool) -> tuple[GpuForecast, ...]:
    """Scale every published figure to a net of `macs` multiply-adds an image that sees `samples` images."""
    return tuple(scaled(row, macs, samples, mixed_precision) for row in PUBLISHED)


def scaled(row: Published, macs: int, samples: int, mixed_precision: bool) -> GpuForecast:
    """Scale one published figure in inverse proportion to multiply-adds."""
    rate = row.images_per_second * RESNET50_MACS / macs
    return GpuForecast(
        gpu=row.gpu,
        gpus=row.gpus,
        precision=row.precision,
        precision_of_recipe=(row.precision == "AMP") == mixed_precision,
        published_images_per_second=row.images_per_second,
        source=row.source,
        images_per_second=rate,
        hours=samples / rate / 3600,
    )
