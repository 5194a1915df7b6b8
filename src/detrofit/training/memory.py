"""What the C library does with memory that is given back."""

from __future__ import annotations

import ctypes
import platform

# Options of glibc's mallopt, and values that every version of it takes.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
LARGEST_TRIM_THRESHOLD, LARGEST_MMAP_THRESHOLD = 2**31 - 1, 2**25


def keep_freed_memory() -> None:
    """Have glibc keep freed memory for the next step; other C libraries are left as they are.

    It would return large blocks to the kernel, which hands them out again page by page, cleared, in every step.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, LARGEST_MMAP_THRESHOLD)
        library.mallopt(M_TRIM_THRESHOLD, LARGEST_TRIM_THRESHOLD)
