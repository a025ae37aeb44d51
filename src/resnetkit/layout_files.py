"""Files of every layout, written whole or not at all."""

from __future__ import annotations

import io
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from resnetkit import checkpoint
from resnetkit.home import atomic_write, sync_folder
from resnetkit.layouts.folders import CONFIG, PROCESSOR, processor_config, to_json_bytes, transformers_config
from resnetkit.layouts.recognise import dtype_name, tensor_shapes
from resnetkit.layouts.tables import Target
from resnetkit.layouts.targets import to_layout
from resnetkit.weights_file import WeightsFile, are_placeholders, metadata_of

HUGGINGFACE_WEIGHTS = "model.safetensors"


def write_layout(path: Path, file: WeightsFile, target: Target) -> tuple[Path, ...]:
    """Write a net's weights in a layout; returns the files.  `path` must not be there yet."""
    tensors = {name: own_memory(value) for name, value in to_layout(in_order(file, target), file.arch, target).items()}
    if target == "huggingface":
        return write_huggingface(path, tensors, file)
    if target == "resnetkit":
        checkpoint.save_weights(path, tensors, metadata_of(file.arch, file.preprocess, file.class_names, file.about))
    elif path.suffix == ".safetensors":
        with atomic_write(path) as out:
            out.write(safetensors.torch.save(tensors, {"format": "pt"}))
    else:
        content = {"meta": openmmlab_meta(file), "state_dict": tensors} if target == "openmmlab" else tensors
        with atomic_write(path) as out:
            out.write(torch_bytes(content))
    return (path,)


def in_order(file: WeightsFile, target: Target) -> dict[str, Tensor]:
    """Return a file's tensors in the order of the net, for other libraries with the counters that old files lack."""
    zeros = {} if target == "resnetkit" else dict.fromkeys(missing_counters(file.tensors), torch.tensor(0))
    known = file.tensors | zeros
    return {name: known[name] for name in tensor_shapes(file.arch) if name in known}


def missing_counters(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of counters that belong to the norms of a net and are not there."""
    norms = [name.removesuffix("running_mean") for name in tensors if name.endswith("running_mean")]
    return [counter for norm in norms if (counter := f"{norm}num_batches_tracked") not in tensors]


def own_memory(value: Tensor) -> Tensor:
    """Return a tensor that has its storage for itself, or torch would write all of what it is a part of."""
    return value.detach().cpu().clone(memory_format=torch.contiguous_format)


def torch_bytes(content: Any) -> bytes:
    """Return what torch.save writes; equal content gives equal bytes."""
    out = io.BytesIO()
    torch.save(content, out)
    return out.getvalue()


def openmmlab_meta(file: WeightsFile) -> dict[str, Any]:
    """Return the metadata that mmpretrain and mmcls read, of plain values."""
    if are_placeholders(file.class_names):
        return {}
    return {"CLASSES": list(file.class_names), "dataset_meta": {"classes": list(file.class_names)}}


def write_huggingface(folder: Path, tensors: dict[str, Tensor], file: WeightsFile) -> tuple[Path, ...]:
    """Write a folder that transformers' from_pretrained reads, beside its place and then renamed."""
    dtypes = {dtype_name(value) for value in tensors.values() if value.is_floating_point()}
    names = file.class_names
    if are_placeholders(names):
        names = tuple(f"LABEL_{index}" for index in range(len(names)))  # as transformers calls them
    config = transformers_config(file.arch, names, min(dtypes))
    parts = {HUGGINGFACE_WEIGHTS: safetensors.torch.save(tensors, {"format": "pt"}), CONFIG: to_json_bytes(config)}
    if processor := processor_config(file.preprocess):
        parts[PROCESSOR] = to_json_bytes(processor)
    temporary = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        temporary.mkdir()
        for name, data in parts.items():
            with atomic_write(temporary / name) as out:
                out.write(data)
        temporary.rename(folder)
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(temporary)
        raise
    sync_folder(folder.parent)
    return tuple(folder / name for name in parts)
