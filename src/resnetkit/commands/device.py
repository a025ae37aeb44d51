"""Where a command computes."""

from __future__ import annotations

import torch

from resnetkit.errors import BadRequest


def choose_device(name: str | None) -> torch.device:
    """Return the device named, or CUDA where there is one."""
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise BadRequest(f"--device: expected cpu, cuda or cuda:N, got {name!r}") from error
    count = {"cpu": 1, "cuda": torch.cuda.device_count()}.get(device.type, 0)
    if (device.index or 0) >= count:
        raise BadRequest(f"--device: {name!r} is not on this machine")
    return device
