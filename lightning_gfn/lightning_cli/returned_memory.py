"""Memory of freed tensors goes back to the operating system."""

from __future__ import annotations

import ctypes
import os

M_MMAP_THRESHOLD = -3
"""The parameter of glibc's ``mallopt`` above which an allocation has pages of its own."""
OWN_PAGES = 2**20
"""Bytes from which a tensor has pages of its own, which are free again the moment that it is."""


def return_freed_memory() -> bool:
    """Give tensors of a megabyte and more pages of their own, where the C library is glibc; True if that was done.

    By itself glibc raises this bound to 32 MB as such tensors are freed and keeps them on its heaps, where tensors of
    other sizes leave gaps: a training process grows by gigabytes without holding more. A bound that the user has set
    (``MALLOC_MMAP_THRESHOLD_``) stays.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    return mallopt is not None and bool(mallopt(M_MMAP_THRESHOLD, OWN_PAGES))
