"""How the kernel of a board swaps, read over ssh and judged without the code that set it up."""

from __future__ import annotations

from typing import NamedTuple

from tests.appliance import Board

MECHANISMS = ("zram", "zswap", "file", "rpi-swap", "dphys", "none")
_QUERY = """
tail -n +2 /proc/swaps; echo ---
cat /sys/module/zswap/parameters/enabled /sys/module/zswap/parameters/max_pool_percent 2>/dev/null; echo ---
cat /sys/block/zram0/mm_stat /sys/block/zram0/backing_dev 2>/dev/null; echo ---
awk '/^MemTotal/ {print $2 * 1024}' /proc/meminfo
"""


class Swap(NamedTuple):
    """What is live."""

    areas: tuple[tuple[str, int, int], ...]
    """(path, MB, MB in use)."""
    mechanism: str
    """One of `MECHANISMS`, or what was found beyond them."""
    limit_mb: float
    """RAM that what is swapped out may take; infinite where nothing bounds it."""


def read_swap(board: Board) -> Swap:
    """Return how a board swaps."""
    rows, zswap, zram, memory = (part.strip() for part in board.run(_QUERY).split("---"))
    areas = tuple(
        (fields[0], -(-int(fields[2]) // 1024), int(fields[3]) // 1024) for fields in map(str.split, rows.splitlines())
    )
    enabled, percent = [*zswap.split(), "N", "0"][:2]
    memory_mb = int(memory) / 2**20
    numbers = zram.split()
    bound = int(numbers[3]) / 2**20 if len(numbers) > 3 else 0.0
    backed = bool(numbers) and numbers[-1].startswith("/dev/")
    names = {_mechanism(path, zswap=enabled == "Y", backed=backed) for path, _, _ in areas}
    limits = {"zswap": memory_mb * int(percent) / 100, "zram": bound, "rpi-swap": bound}
    mechanism = " and ".join(sorted(names)) or "none"
    return Swap(areas, mechanism, limits.get(mechanism, 0.0) or float("inf"))


def _mechanism(path: str, *, zswap: bool, backed: bool) -> str:
    if path.startswith("/dev/zram"):
        return "rpi-swap" if backed else "zram"
    if path.startswith("/dev/"):
        return f"partition {path}"
    if path == "/var/swap":
        return "dphys"
    return "zswap" if zswap else "file"
