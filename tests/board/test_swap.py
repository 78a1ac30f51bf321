"""Swap as the kernel has it: one mechanism, bounded."""

from __future__ import annotations

from pinch.tiers import MEBIBYTE

from tests.appliance import Board
from tests.report import Figures
from tests.swapping import read_swap

PROPERTIES = ("Id", "Following", "ActiveState", "LoadState", "WantedBy")


def test_the_board_swaps_as_it_should_and_in_no_other_way(board: Board, figures: Figures) -> None:
    swap = read_swap(board)
    figures.add("swap", ", ".join(f"{path} {size} MB" for path, size, _ in swap.areas) or "none")
    assert len(swap.areas) <= 1
    assert swap.mechanism == board.swap_mechanism, f"swap_mechanism is {board.swap_mechanism}"


def test_swap_cannot_eat_the_memory_it_serves(board: Board, figures: Figures) -> None:
    """zram is charged to nobody's control group, and zswap's pool to who filled it: only its own limit bounds it."""
    swap = read_swap(board)
    if swap.mechanism not in {"zram", "zswap", "rpi-swap"}:
        figures.add("RAM that swap may take", 0, "MB")
        return
    total = int(board.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    share = total * int(str(board.tier.host["zram_limit_percent"])) / 100 / MEBIBYTE
    allowed = int(board.variables.get("swap_limit_mb", 0)) or share
    figures.add("RAM that swap may take", swap.limit_mb, "MB", f"≤ {allowed:.0f} MB")
    assert 0 < swap.limit_mb <= allowed + 1


def test_nothing_else_would_swap_at_the_next_boot(board: Board) -> None:
    """Units that systemd knows, whoever made them: generators, drop-ins, `/etc/fstab`."""
    shown = board.run(f"systemctl show --all --property={','.join(PROPERTIES)} '*.swap'")
    units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.split("\n\n") if unit]
    # udev's other names of a device are units that follow the one of its own name.
    units = [unit for unit in units if not unit["Following"] and unit["LoadState"] != "masked"]
    assert len([unit for unit in units if unit["ActiveState"] == "active"]) <= 1, units
    waiting = [unit for unit in units if unit["ActiveState"] != "active"]
    assert [unit["Id"] for unit in waiting if "swap.target" in unit["WantedBy"].split()] == []
