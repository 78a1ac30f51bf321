"""What the kernel under the service was set to: controllers, pressure, swap, sysctl."""

from __future__ import annotations

import pytest
from pinch.tiers import MEBIBYTE

from tests.appliance import Board
from tests.report import Figures

SWAPPINESS_OF_ZRAM = 100
"""Below it the kernel prefers dropping file pages, the mapped model among them, to compressing idle memory."""


def test_memory_controller_is_on(board: Board) -> None:
    assert "memory" in board.run("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert "memory" in board.run("cat /sys/fs/cgroup/system.slice/cgroup.controllers").split()


def test_pressure_is_measured(board: Board) -> None:
    if not board.variables.get("memory_cgroup_psi", True):
        pytest.skip("the inventory leaves pressure figures as they are")
    assert "full avg10=" in board.run(f"cat {board.group}/memory.pressure"), (
        "boot with psi=1 on the kernel's command line"
    )
    assert "some avg10=" in board.run("cat /proc/pressure/memory")


def test_the_board_swaps_as_it_should_and_in_no_other_way(board: Board, figures: Figures) -> None:
    rows = [line.split() for line in board.run("cat /proc/swaps").splitlines()[1:]]
    mechanisms = {"zram" if name.startswith("/dev/zram") else "disk" for name, *_ in rows}
    wanted = {"zram": {"zram"}, "file": {"disk"}, "none": set()}[board.swap_mechanism]
    assert mechanisms == wanted, f"swap is {mechanisms or 'absent'}; swap_mechanism is {board.swap_mechanism}"
    enabled = board.attempt("systemctl is-enabled dphys-swapfile.service rpi-swap.service 2>/dev/null").stdout.split()
    assert enabled.count("enabled") + ("zram" in mechanisms and not enabled.count("enabled")) <= 1
    figures.add("swap", ", ".join(f"{name} {int(kilobytes) // 1024} MB" for name, _, kilobytes, *_ in rows))


def test_zram_cannot_eat_the_memory_it_serves(board: Board, figures: Figures) -> None:
    """zram is charged to nobody's control group, so only its own limit bounds it."""
    if board.swap_mechanism != "zram":
        pytest.skip(f"swap_mechanism is {board.swap_mechanism}")
    total = int(board.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    share = total * int(str(board.tier.host["zram_limit_percent"])) // 100
    allowed = int(board.variables.get("swap_zram_limit_mb", 0)) * MEBIBYTE or share
    found = int(board.run("awk '{print $4}' /sys/block/zram0/mm_stat"))
    figures.add("zram limit", found / 2**20, "MB", f"≤ {allowed / 2**20:.0f} MB")
    assert 0 < found <= allowed + 2**20


def test_sysctl_is_live_and_not_only_written(board: Board) -> None:
    """Every key of our drop-in has its value in the running kernel."""
    lines = board.run("cat /etc/sysctl.d/*pinch*.conf").splitlines()
    wanted = dict(_pair(line) for line in lines if line.strip() and not line.lstrip().startswith(("#", ";")))
    assert wanted, "there is no drop-in of ours in /etc/sysctl.d"
    live = {key: " ".join(board.run(f"cat /proc/sys/{key.replace('.', '/')}").split()) for key in wanted}
    assert live == wanted


def test_kernel_swaps_early_where_swap_is_memory(board: Board, figures: Figures) -> None:
    swappiness = int(board.run("cat /proc/sys/vm/swappiness"))
    figures.add("vm.swappiness", swappiness)
    chosen = board.variables.get("sysctl_sets") or "vm.swappiness" in board.variables.get("sysctl_values", {})
    if board.swap_mechanism == "zram" and not chosen:
        assert swappiness >= SWAPPINESS_OF_ZRAM


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip().lstrip("-"), " ".join(value.split())
