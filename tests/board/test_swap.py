"""Swap as the kernel has it: one mechanism, bounded."""

from __future__ import annotations

from pinch.tiers import MEBIBYTE

from tests.appliance import Board
from tests.report import Figures
from tests.swapping import read_swap


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
    shown = board.run("systemctl show '*.swap' --all -p Id -p ActiveState -p LoadState -p FragmentPath -p WantedBy")
    units = [dict(line.split("=", 1) for line in block.splitlines()) for block in shown.split("\n\n") if block.strip()]
    # Without a file of its own a unit is another name of an area in use, by its label or its id.
    own = [unit for unit in units if unit["FragmentPath"]]
    assert len([unit for unit in own if unit["ActiveState"] == "active"]) <= 1, own
    waiting = [unit for unit in own if unit["ActiveState"] != "active" and unit["LoadState"] != "masked"]
    assert [unit["Id"] for unit in waiting if "swap.target" in unit["WantedBy"]] == []
