"""Keep freed memory in the process, which makes training steps faster."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST = 2**31 - 1


def keep_freed_memory() -> bool:
    """Tell the C library to keep freed memory for the next training step; returns whether it does.

    By default glibc hands the megabytes a step has freed back to the system and takes them anew in the next step,
    zeroed page by page: about a sixth of a small cell's training time. Only glibc has this setting; elsewhere nothing
    is changed. The setting is the process's, so a program asks for it, not the library.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return bool(libc.mallopt(M_TRIM_THRESHOLD, LARGEST)) and bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST))
