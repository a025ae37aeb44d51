"""Memory behaviour of the process."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD = -1  # names and numbers of glibc's malloc.h
M_MMAP_THRESHOLD = -3
M_MMAP_MAX = -4
MMAP_MAX, MMAP_THRESHOLD, TRIM_THRESHOLD = 65_536, 32 * 2**20, 64 * 2**20  # glibc's


def keep_freed_memory(keep: bool = True) -> bool:
    """Tell glibc to keep freed memory instead of handing it back, or not to; returns whether it was told.

    By default every block over 32 MiB is mapped anew at each allocation, and each of its pages faults again:
    a training step on CPU then spends much of its time in the kernel.  The process keeps its peak size.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    mapped, trimmed = (0, 2**31 - 1) if keep else (MMAP_MAX, TRIM_THRESHOLD)
    if not keep:  # where glibc's own rule comes to by itself, once blocks of that size were freed
        libc.mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD)
    told = bool(libc.mallopt(M_MMAP_MAX, mapped)) and bool(libc.mallopt(M_TRIM_THRESHOLD, trimmed))
    if not keep:
        libc.malloc_trim(0)
    return told
