"""Trackers beside metrics.jsonl: optional, by extras."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from resnetkit.errors import BadRequest

SHOWN = ("loss", "top1", "top5", "lr", "images_per_second")


def tensorboard_writer(run: Path) -> Callable[[dict[str, Any]], None]:
    """Return a function that writes each event's figures for TensorBoard, under run/tensorboard."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise BadRequest("TensorBoard is not installed", "next: pip install 'resnetkit[track]'") from error
    writer: Any = None

    def write(event: dict[str, Any]) -> None:
        nonlocal writer
        if writer is None:  # made with the first event: the run directory must be new until then
            # A resumed run does some steps again: what an earlier part wrote of them goes.
            writer = SummaryWriter(str(run / "tensorboard"), purge_step=event["step"] + 1)
        for name in SHOWN:
            if name in event:
                writer.add_scalar(f"{event['event']}/{name}", event[name], event["step"])
        writer.flush()

    return write
