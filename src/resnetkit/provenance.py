"""Where a number comes from: command, commit, versions and machine."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("resnetkit", "torch", "numpy", "pillow", "simplejpeg", "safetensors")


def provenance() -> dict[str, Any]:
    """Return the facts of this process as JSON data; `commit` is None outside a checkout."""
    return {
        "command": shlex.join(["resnetkit", *sys.argv[1:]]),
        "commit": commit(),
        "versions": versions(),
        "machine": machine(),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def versions() -> dict[str, str]:
    """Return the versions that numbers depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def installed(package: str) -> str | None:
    """Return the version of a package, None where it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def commit() -> str | None:
    """Return the commit of the checkout that this code runs from, with "-dirty" where files differ.

    Those of results/ do not count: each script writes one, and what it measures does not read them.
    """
    source = Path(__file__).resolve().parents[1]
    if source.name != "src":
        return None
    try:
        head = told_by_git(source, "rev-parse", "HEAD")
        changed = told_by_git(source, "diff", "--name-only", "HEAD", "--", ":/", ":(top,exclude)results")
    except (OSError, subprocess.SubprocessError):
        return None
    return head + "-dirty" * bool(changed)


def told_by_git(folder: Path, *words: str) -> str:
    """Return what git says of a checkout."""
    run = subprocess.run(["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10)
    return run.stdout.strip()


def machine() -> dict[str, Any]:
    """Return processor, usable cores and system."""
    return {"processor": processor(), "cores": usable_cores(), "system": platform.platform(terse=True)}


def usable_cores() -> int:
    """Return how many cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def local_processes() -> int:
    """Return how many processes of the run torchrun started on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def cores_of_process() -> int:
    """Return how many cores are this process's share of those that may be used."""
    return max(1, usable_cores() // local_processes())


def processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
