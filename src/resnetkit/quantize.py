"""Int8: post-training quantisation of an exported graph, calibrated on images that the user names.

Weights are quantised per channel, activations per tensor.  Layers that hurt are found by quantising one at a time,
in torch, whatever the engine, so that they can be named and kept in float first.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from resnetkit.data.photos import PhotoSplit
from resnetkit.data.seen import seen
from resnetkit.data.spec import Split
from resnetkit.data.transforms import Preprocess
from resnetkit.engines import CLASS_MAPS, of_onnx, of_openvino
from resnetkit.feed import spread
from resnetkit.ways import has_vnni

CALIBRATION_IMAGES = 300
TOLD_BY = 64  # of them tell which layers hurt
LEVELS = 255  # of an activation; weights have 127 on each side
INPUT = "images"  # of the graph
LAYERS_OF_ONNX = ("Conv", "Gemm")  # convolutions and linear layers


@dataclass(frozen=True)
class Calibration:
    """Images that ranges of activations are taken from, as the graph takes them: uint8 [N, side, side, C]."""

    images: NDArray[np.uint8]
    place: str  # where they are from

    def one_by_one(self) -> Iterator[NDArray[np.uint8]]:
        """Yield each image as a batch of one."""
        return (self.images[place : place + 1] for place in range(len(self.images)))


@dataclass(frozen=True)
class Int8:
    """How a graph is quantised."""

    calibration: Calibration
    in_float: tuple[tuple[int, str], ...] = ()  # layers that stay: their places in the order that they run, and names

    @property
    def places(self) -> list[int]:
        """Return the places of the layers that stay in float."""
        return [place for place, _ in self.in_float]

    def to_json(self) -> dict[str, Any]:
        """Return what an artefact says of it."""
        images = {"data": self.calibration.place, "images": len(self.calibration.images)}
        return {"calibration": images, "in_float": [name for _, name in self.in_float],
                "weight_bits": 8 if has_vnni() else 7}  # fmt: skip


def calibration_of(split: Split | PhotoSplit, preprocess: Preprocess, place: str, most: int) -> Calibration:
    """Take some images of a split, evenly spread, as evaluation sees them."""
    some = split.part(spread(len(split), min(most, len(split))))
    return Calibration(np.concatenate([images for images, _ in seen(some, preprocess)]), place)


# --- which layers hurt ---


@torch.inference_mode()
def layers_that_hurt(module: nn.Module, images: NDArray[np.uint8]) -> list[tuple[int, str, float]]:
    """Return the layers of a deployed module, those first that change its logits most when they alone are quantised.

    Each is its place among the convolutions and linear layers in the order that they run, its name, and the mean
    squared change of the logits by their mean square.
    """
    batch = torch.from_numpy(images[:TOLD_BY])
    layers = layers_in_order(module, batch[:1])
    wanted = logits_of(module, batch)
    ranges: dict[nn.Module, tuple[float, float]] = {}
    with hooked(layers, lambda layer, inputs: ranges.update({layer: (float(inputs.min()), float(inputs.max()))})):
        module(batch)
    changes = []
    for place, (name, layer) in enumerate(layers):
        kept = layer.weight.data
        layer.weight.data = rounded_weights(kept)
        low, high = ranges[layer]
        with hooked([(name, layer)], partial(rounded_inputs, low=low, high=high)):
            apart = (logits_of(module, batch) - wanted).square().mean() / wanted.square().mean()
        layer.weight.data = kept
        changes.append((place, name, float(apart)))
    return sorted(changes, key=lambda change: -change[2])


def layers_in_order(module: nn.Module, batch: Tensor) -> list[tuple[str, Any]]:
    """Return the convolutions and linear layers in the order that they run."""
    names = {each: name for name, each in module.named_modules() if isinstance(each, nn.Conv2d | nn.Linear)}
    order: list[tuple[str, Any]] = []
    handles = [each.register_forward_hook(lambda layer, inputs, output: order.append((names[layer], layer)))
               for each in names]  # fmt: skip
    try:
        module(batch)
    finally:
        for handle in handles:
            handle.remove()
    return order


@contextmanager
def hooked(layers: Sequence[tuple[str, Any]], change: Callable[[Any, Tensor], Tensor | None]) -> Iterator[None]:
    """Call a function with each layer and its inputs; what it returns, if anything, is taken in their place."""

    def before(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        changed = change(layer, inputs[0])
        return None if changed is None else (changed,)

    handles = [layer.register_forward_pre_hook(before) for _, layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def logits_of(module: nn.Module, batch: Tensor) -> Tensor:
    """Return the logits of a deployed module."""
    outputs = module(batch)
    logits: Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return logits


def rounded_weights(weight: Tensor) -> Tensor:
    """Round weights to 127 steps on each side of zero, of a size of its own in each output channel."""
    steps = weight.abs().flatten(1).amax(1).clamp_min(1e-12).div(LEVELS // 2).reshape(-1, *[1] * (weight.ndim - 1))
    return (weight / steps).round() * steps


def rounded_inputs(layer: nn.Module, inputs: Tensor, low: float, high: float) -> Tensor:
    """Round a layer's inputs to 255 steps of a range."""
    step = max(high - low, 1e-12) / LEVELS
    return ((inputs.clamp(low, high) - low) / step).round() * step + low


# --- the engines' own quantisers ---


def quantize_onnx(source: Path, target: Path, calibration: Calibration, in_float: Sequence[int]) -> None:
    """Write an ONNX file with quantised layers (QDQ), but for those at some places among convolutions and products."""
    import onnx

    of_onnx.library()
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.images = calibration.one_by_one()

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.images, None)
            return None if image is None else {INPUT: image}

    layers = [node for node in onnx.load(source).graph.node if node.op_type in LAYERS_OF_ONNX]
    nodes = [node.name for node in layers if CLASS_MAPS not in node.output]
    beside = [node.name for node in layers if CLASS_MAPS in node.output]  # to explain with: exact, and never in the way
    quantize_static(source, target, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    reduce_range=not has_vnni(), activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    nodes_to_exclude=[*beside, *(nodes[place] for place in in_float)],
                    op_types_to_quantize=["Conv", "Gemm", "Add", "MaxPool", "Relu"])  # fmt: skip


def quantize_openvino(model: Any, calibration: Calibration, in_float: Sequence[int]) -> Any:
    """Return an OpenVINO model with quantised layers, but for those at some places among convolutions and products."""
    of_openvino.library()  # first: NNCF then reports nothing either
    import nncf

    layers = [op for op in model.get_ordered_ops() if op.get_type_name() in ("Convolution", "MatMul")]
    beside = [op for op in layers if any(to.get_node().get_type_name() == "Result"
                                         for to in op.output(0).get_target_inputs())]  # fmt: skip
    ops = [op for op in layers if op not in beside]  # without the maps of the classes, which stay exact
    # Their names are those of torch's exporter, which counts in the order that they run; branches may be turned here.
    ops.sort(key=lambda op: (op.get_type_name() == "MatMul", number_in(op.get_friendly_name())))
    nodes = [op.get_friendly_name() for op in ops]
    return nncf.quantize(
        model,
        nncf.Dataset(list(calibration.one_by_one())),
        subset_size=len(calibration.images),
        preset=nncf.QuantizationPreset.PERFORMANCE,
        ignored_scope=nncf.IgnoredScope(
            names=[*(op.get_friendly_name() for op in beside), *(nodes[place] for place in in_float)]
        ),
    )


def number_in(name: str) -> int:
    """Return the number of a node's name: 12 of node_conv2d_12/WithoutBiases, 0 of node_conv2d."""
    found = re.match(r"node_[a-z0-9]+_(\d+)", name)
    return int(found[1]) if found else 0
