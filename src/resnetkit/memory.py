"""Memory behaviour of the process."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD = -1  # names and numbers of glibc's malloc.h
M_MMAP_MAX = -4


def keep_freed_memory() -> bool:
    """Tell glibc to keep freed memory instead of handing it back; returns whether it was told.

    By default every block over 32 MiB is mapped anew at each allocation, and each of its pages faults again:
    a training step on CPU then spends much of its time in the kernel.  The process keeps its peak size.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_MMAP_MAX, 0)) and bool(libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
