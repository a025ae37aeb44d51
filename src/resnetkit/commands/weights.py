"""The commands `show FILE` and `convert`: what a weights file holds, and the same under other names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from resnetkit.checkpoint import tensors_sha256
from resnetkit.classifier import Said
from resnetkit.conversion import convert as convert_weights
from resnetkit.errors import BadRequest
from resnetkit.hub import push as push_weights
from resnetkit.layouts.recognise import dtype_name
from resnetkit.load import find_model, read_model_file
from resnetkit.models import name_of
from resnetkit.models.resnet import StrideStyle
from resnetkit.predict import find_images
from resnetkit.printing import OUT, print_conversion, print_weights
from resnetkit.weights_file import WeightsFile, metadata_of, read_weights_file


def show_weights(name: str, as_json: bool, plain: bool, stride_style: StrideStyle | None, raw: bool) -> int:
    """Print everything that a weights file says of itself, ours or foreign."""
    facts = weights_facts(read_model_file(name, plain=plain, stride_style=stride_style, raw=raw))
    if as_json:
        print(json.dumps(facts, indent=1, ensure_ascii=False, default=str))
    else:
        print_weights(facts)
    return 0


def push(model: str, repo: str, private: bool) -> int:
    """Push a weights file of ours to the hub, with its card."""
    _, path = find_model(model)
    file = read_weights_file(path)
    if file.layout != "resnetkit":
        next_step = f"next: resnetkit convert {path} FILE.safetensors --to resnetkit"
        raise BadRequest(f"{path} does not describe itself", "expected a weights file of ours", next_step)
    about = metadata_of(file.arch, file.preprocess, file.class_names, file.about)
    OUT.print(push_weights(path, about, repo, private=private))
    return 0


def weights_facts(file: WeightsFile) -> dict[str, Any]:
    """Gather what is known of a weights file, as JSON data."""
    dtypes = sorted({dtype_name(value) for value in file.tensors.values() if value.is_floating_point()})
    buffers = ("running_mean", "running_var", "num_batches_tracked")
    return {
        "path": str(file.path),
        "container": file.container,
        "sha256": file.sha256,
        "layout": file.layout,
        "net": name_of(file.arch),
        "architecture": asdict(file.arch),
        "tensors_used": len(file.tensors),
        "tensors_sha256": tensors_sha256(file.tensors),
        "parameters": sum(value.numel() for key, value in file.tensors.items() if not key.endswith(buffers)),
        "dtypes": dtypes,
        "not_finite": [key for key, value in file.tensors.items()
                       if value.is_floating_point() and not bool(value.isfinite().all())],
        "num_classes": file.arch.num_classes,
        "class_names": list(file.class_names),
        "preprocess": file.preprocess.to_json(),
        **file.about,
        "recorded": file.recorded,
        "notes": list(file.notes),
        "assumptions": list(file.assumptions),
    }  # fmt: skip


def convert(
    model: str,
    out: str,
    to: str,
    images: Sequence[str] | None,
    said: Said,
    license: str | None,  # noqa: A002
    as_json: bool,
) -> int:
    """Write weights in another layout, checked on images."""
    files = find_images(images) if images else None
    done = convert_weights(model, out, to, images=files, license=license, **said)
    if as_json:
        facts = asdict(done) | {"files": [str(path) for path in done.files]}
        print(json.dumps(facts, indent=1))
    else:
        print_conversion(done, OUT)
    return 0
