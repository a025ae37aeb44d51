"""A model card, made of what a weights file of ours says of itself: nothing in it is typed by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from resnetkit.metrics import wilson_interval

UNKNOWN_LICENCE = "unknown"
SHOWN_CLASSES = 20


def model_card(metadata: Mapping[str, Any], repo: str) -> str:
    """Return the README.md of a repository on the hub for weights with this metadata."""
    sections = (
        front_matter(metadata, repo),
        f"# {repo.rpartition('/')[2]}\n\n{summary(metadata)}\n",
        "## Use\n\n" + use(repo),
        figures(metadata),
        "## What it is\n\n" + "\n".join(f"- {key}: {value}" for key, value in facts(metadata)) + "\n",
    )
    return "\n".join(section for section in sections if section)


def front_matter(metadata: Mapping[str, Any], repo: str) -> str:
    """Write the YAML that the hub reads; strings as JSON, which is YAML too."""
    lines = [
        "library_name: resnetkit",
        f"license: {quoted(metadata['license'] or UNKNOWN_LICENCE)}",
        "pipeline_tag: image-classification",
        "tags: [resnet, image-classification]",
    ]
    counted = {name: found for name, found in metadata["metrics"].items() if has_figures(found)}
    if counted:
        lines += ["model-index:", f"- name: {quoted(repo.rpartition('/')[2])}", "  results:"]
    for name, found in counted.items():
        lines += [
            "  - task: {type: image-classification}",
            f"    dataset: {{name: {quoted(name)}, type: {quoted((metadata['data'] or {}).get('name') or name)}}}",
            "    metrics:",
            *(
                f"    - {{type: accuracy, name: {key}, value: {found[key]}}}"
                for key in ("top1", "top5")
                if found.get(key)
            ),
        ]
    return "\n".join(("---", *lines, "---", ""))


def quoted(text: str) -> str:
    """Write a text so that YAML takes it for nothing else."""
    return json.dumps(text, ensure_ascii=False)


def has_figures(found: dict[str, Any]) -> bool:
    """Say whether an accuracy comes with the number of images it is of."""
    return found.get("top1") is not None and bool(found.get("images"))


def summary(metadata: Mapping[str, Any]) -> str:
    """Say in a sentence what the net is."""
    arch = metadata["architecture"]
    recipe = f", trained by the recipe `{metadata['recipe']}` of resnetkit" if metadata["recipe"] else ""
    blocks = f"{arch['block']} blocks {'-'.join(map(str, arch['depths']))}"
    return f"A residual network for image classification: {blocks}, {arch['num_classes']} classes{recipe}."


def use(repo: str) -> str:
    """Say how it is used."""
    return f"""```sh
resnetkit show hf:{repo}
resnetkit predict hf:{repo} photo.jpg
```

```python
from resnetkit import load_model

loaded = load_model("hf:{repo}")
```
"""


def figures(metadata: Mapping[str, Any]) -> str:
    """Write the table of metrics, each with its number of images; nothing where there are none."""
    rows = []
    for name, found in metadata["metrics"].items():
        if has_figures(found):
            low, high = wilson_interval(round(found["top1"] * found["images"]), found["images"])
            top5 = f"{found['top5']:.2%}" if found.get("top5") is not None else ""
            rows.append(f"| {name} | {found['images']:,} | {found['top1']:.2%} | {low:.2%} to {high:.2%} | {top5} |")
    head = "| images of | number | top-1 | 95 % interval | top-5 |\n|---|---|---|---|---|\n"
    return "## Metrics\n\n" + head + "\n".join(rows) + "\n" if rows else ""


def facts(metadata: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List what is known beside the metrics."""
    arch, names, preprocess = metadata["architecture"], metadata["class_names"], metadata["preprocess"]
    some = ", ".join(names[:SHOWN_CLASSES]) + (", ..." if len(names) > SHOWN_CLASSES else "")
    resize = preprocess["resize_size"] or preprocess["image_size"]
    data, origin = metadata["data"], metadata["origin"]
    mean = "a mean image" if isinstance(preprocess["mean"][0], list) else f"mean {numbers(preprocess['mean'])}"
    sides = "short side" if preprocess["keep_ratio"] else "both sides"
    found = [
        ("architecture", ", ".join(f"{key} {list(value) if isinstance(value, tuple) else value}"
                                   for key, value in arch.items())),
        ("classes", some),
        ("images", f"{sides} to {resize} ({preprocess['family']}), centre crop of {preprocess['image_size']}, "
         f"pixels in [0, 1] minus {mean}, by std {numbers(preprocess['std'])}"),
        ("licence", metadata["license"] or "not named"),
    ]  # fmt: skip
    if metadata.get("temperature"):
        temperature = f"{metadata['temperature']['value']:.4g}, which logits are divided by before the softmax"
        found.append(("temperature", temperature))
    if data:
        found.append(("trained on", f"{data['name']}, sha256 {data['sha256']}"))
    if origin:
        found.append(("origin", ", ".join(f"{key} {value}" for key, value in origin.items() if value is not None)))
    return found


def numbers(values: list[float]) -> str:
    """Write numbers in short."""
    return " ".join(f"{value:.4g}" for value in values)
