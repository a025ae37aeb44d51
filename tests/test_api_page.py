"""Every example of docs/api.md runs."""

from __future__ import annotations

import hashlib
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import resnetkit
from resnetkit import published
from resnetkit.models import MODELS, ResNet

PAGE = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
ROW = "openmmlab/resnet50_8xb32_in1k"


def examples() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


def mirrored(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand a small net in for the row's weights, in a folder that is named as the mirror."""
    net = ResNet(replace(MODELS["resnet50"], depths=(1, 1, 1, 1))).state_dict()
    out = io.BytesIO()
    torch.save({"state_dict": {("head." if "fc." in key else "backbone.") + key: net[key] for key in net}}, out)
    name = f"row-{hashlib.sha256(out.getvalue()).hexdigest()[:8]}.pth"
    folder.mkdir()
    (folder / name).write_bytes(out.getvalue())
    entry = replace(published.PUBLISHED[ROW], url=f"http://127.0.0.1:9/{name}")
    monkeypatch.setitem(published.PUBLISHED, ROW, entry)
    monkeypatch.setenv("RESNETKIT_MIRROR", str(folder))


def test_every_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RESNETKIT_HOME", str(tmp_path / "home"))
    mirrored(tmp_path / "mirror", monkeypatch)
    torch.save(ResNet(replace(MODELS["resnet18"], num_classes=3)).state_dict(), "theirs.pth")
    Image.new("RGB", (300, 250), (200, 30, 90)).save("photo.png")
    names: dict[str, Any] = {"pixels": torch.full((2, 224, 224, 3), 77, dtype=torch.uint8)}
    found = examples()
    assert len(found) == 5
    for number, code in enumerate(found):
        if "features" in code:
            names["pixels"] = np.full((2, 240, 260, 3), 77, np.uint8)
        if "save(" in code:
            names["loaded"] = resnetkit.load_model("theirs.pth")
        exec(compile(code, f"example {number + 1}", "exec"), names)
    out = capsys.readouterr().out
    assert "all 122 tensors used" in out
    assert "122 0.0" in out
    assert "('no', 'yes', 'maybe') apache-2.0 {'file': 'theirs.pth'" in out
    assert names["logits"].shape == (2, 3)
    assert names["vectors"].shape == (2, 512)
    assert names["maps"].shape == (1, 256, 14, 14)
    assert (tmp_path / "for-transformers" / "config.json").is_file()


def test_the_four_verbs_are_the_pages_headings() -> None:
    assert re.findall(r"^## (\w+)$", PAGE, re.MULTILINE) == ["load_model", "convert", "save", "features"]
    for verb in ("load_model", "convert", "save", "features"):
        assert getattr(resnetkit, verb).__doc__
