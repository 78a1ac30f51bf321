"""Python's and the C library's allocator: one arena, and memory handed back when a piece of work is done."""

from __future__ import annotations

import ctypes
import gc

_ARENA_MAX = -8
"""Parameter of mallopt(3): how many arenas there may be."""


def settle() -> None:
    """Use one arena for all threads; call it before the first thread. Without glibc nothing happens.

    Thresholds stay glibc's. Fixed at 64 KiB they save 3.7 MB at the peak and make every tensor a mapping of its own,
    which embeds at a third of the speed (`python -m tests.benchmarks.allocator`); `trim` after the work does better.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_ARENA_MAX, 1)


def trim() -> None:
    """Return free heap memory to the kernel; takes 1 to 2 ms."""
    malloc_trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if malloc_trim is not None:
        malloc_trim(0)


def give_back() -> None:
    """Collect garbage, then return free heap memory to the kernel."""
    gc.collect()
    trim()


def started() -> None:
    """Give back what starting took, and leave what is in memory now out of every later collection.

    Modules, classes and routes stay for good, and nobody is answered while a collection walks them.
    """
    gc.unfreeze()
    give_back()
    gc.freeze()
