"""The C library's allocator, told to give memory back: what one large text took must not stay for ever."""

from __future__ import annotations

import ctypes
import gc

# mallopt(3): parameters and what they mean.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
RETURN_BYTES = 64 * 1024
"""Blocks from this size on get a mapping of their own, and free memory at the heap's end goes back from this size on.

The defaults grow with the largest block freed: after one text of 256 tokens they keep 10 MB of ONNX Runtime's
scratch space (`python -m tests.benchmarks.allocator`)."""


def settle() -> None:
    """Use one arena and fixed thresholds; call it before the first thread. Without glibc nothing happens."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_THRESHOLD, RETURN_BYTES)
        mallopt(_TRIM_THRESHOLD, RETURN_BYTES)


def give_back() -> None:
    """Return freed memory to the kernel."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
