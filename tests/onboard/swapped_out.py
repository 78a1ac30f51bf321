"""Holds memory that is in swap: fills it, asks the kernel to page it out, and sleeps."""

from __future__ import annotations

import argparse
import mmap
import time

PAGEOUT = 21
"""MADV_PAGEOUT of <linux/mman.h>, which Python does not name."""
PATTERN = bytes(range(256))


def main() -> None:
    """Hold as many MB as are asked for, until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("megabytes", type=int)
    size = parser.parse_args().megabytes << 20
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.write(PATTERN * (size // len(PATTERN)))
    while True:
        memory.madvise(PAGEOUT)
        time.sleep(5)


if __name__ == "__main__":
    main()
