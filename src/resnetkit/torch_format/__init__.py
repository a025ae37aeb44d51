"""Reading the files of torch.save with a reader of our own: torch's trusts a stranger's file more than it deserves."""

from __future__ import annotations

from resnetkit.torch_format.read import TorchFile, read_torch_file

__all__ = ["TorchFile", "read_torch_file"]
