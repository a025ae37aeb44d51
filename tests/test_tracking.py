from __future__ import annotations

import sys
from pathlib import Path

import pytest

from resnetkit.errors import BadRequest
from resnetkit.tracking import tensorboard_writer

EVENTS = [
    {"event": "start", "step": 0, "seed": 0},
    {"event": "train", "step": 50, "loss": 1.5, "lr": 0.1, "top1": 0.5, "images_per_second": 300.0, "epoch": 0.1},
    {"event": "eval", "step": 50, "split": "test", "top1": 0.25, "top5": 0.75, "loss": 2.0, "correct": 25},
    {"event": "train", "step": 100, "loss": 1.25, "lr": 0.05, "top1": 0.75, "images_per_second": 310.0},
]


def test_events_are_read_back_from_the_run_directory(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [track] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import (  # type: ignore[import-untyped]
        EventAccumulator,
    )

    write = tensorboard_writer(tmp_path)
    assert list(tmp_path.iterdir()) == []  # nothing is made before the first event
    for event in EVENTS:
        write(event)
    assert [path.name for path in tmp_path.iterdir()] == ["tensorboard"]
    found = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = {tag: [(row.step, row.value) for row in found.Scalars(tag)] for tag in found.Tags()["scalars"]}
    assert scalars == {
        "train/loss": [(50, 1.5), (100, 1.25)],
        "train/lr": [(50, pytest.approx(0.1)), (100, pytest.approx(0.05))],
        "train/top1": [(50, 0.5), (100, 0.75)],
        "train/images_per_second": [(50, 300), (100, 310)],
        "eval/top1": [(50, 0.25)],
        "eval/top5": [(50, 0.75)],
        "eval/loss": [(50, 2)],
    }


def test_without_the_package_the_request_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(BadRequest, match="TensorBoard is not installed") as caught:
        tensorboard_writer(tmp_path)
    assert "pip install 'resnetkit[track]'" in str(caught.value)
    assert list(tmp_path.iterdir()) == []
