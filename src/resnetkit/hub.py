"""Stub: to be overwritten whole by its owner."""

from __future__ import annotations

from pathlib import Path


def parse_hub_name(name: str) -> tuple[str, str | None] | None:
    """Stub."""
    return None


def pull(repo: str, revision: str | None = None) -> Path:
    """Stub."""
    raise NotImplementedError
