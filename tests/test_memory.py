from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from resnetkit.memory import keep_freed_memory

# The first block is made and freed before the count: kept, it serves the next three.
COUNT_FAULTS = """
import resource
from resnetkit.memory import keep_freed_memory
{before}
block = bytearray(b"x") * (64 << 20)
del block
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    block = bytearray(64 << 20)
    block[::4096] = bytes(len(block[::4096]))
    del block
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults)
"""


def page_faults(before: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", COUNT_FAULTS.format(before=before)], check=True, capture_output=True, text=True
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has the setting")
def test_freed_memory_is_not_faulted_in_again() -> None:
    assert page_faults("assert keep_freed_memory()") < page_faults("") / 3  # by default at least one a huge page


def test_another_libc_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    assert keep_freed_memory() is False
