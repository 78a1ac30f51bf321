"""What the kernel under the service was set to: controllers, pressure, swap, sysctl."""

from __future__ import annotations

import pytest

from tests.appliance import Board
from tests.report import Figures

SWAPPINESS_OF_ZRAM = 100
"""Below it the kernel prefers dropping file pages, the mapped model among them, to compressing idle memory."""


def test_memory_controller_is_on(board: Board) -> None:
    assert "memory" in board.run("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert "memory" in board.run("cat /sys/fs/cgroup/system.slice/cgroup.controllers").split()


def test_pressure_is_measured(board: Board) -> None:
    assert "full avg10=" in board.run(f"cat {board.group}/memory.pressure"), (
        "boot with psi=1 on the kernel's command line"
    )
    assert "some avg10=" in board.run("cat /proc/pressure/memory")


def test_one_swap_mechanism_and_it_is_bounded(board: Board, figures: Figures) -> None:
    rows = [line.split() for line in board.run("cat /proc/swaps").splitlines()[1:]]
    mechanisms = {"zram" if name.startswith("/dev/zram") else "disk" for name, *_ in rows}
    assert len(mechanisms) == 1, f"swap is {mechanisms or 'absent'}; expected one mechanism"
    enabled = board.attempt("systemctl is-enabled dphys-swapfile.service rpi-swap.service 2>/dev/null").stdout.split()
    assert enabled.count("enabled") + ("zram" in mechanisms and not enabled.count("enabled")) <= 1
    figures.add("swap", ", ".join(f"{name} {int(kilobytes) // 1024} MB" for name, _, kilobytes, *_ in rows))


def test_zram_cannot_eat_the_memory_it_serves(board: Board, figures: Figures) -> None:
    """zram is charged to nobody's control group, so only its own limit bounds it."""
    if not board.run("cat /proc/swaps").count("/dev/zram"):
        pytest.skip("this board swaps to disk")
    total = int(board.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    allowed = total * int(str(board.tier.host["zram_limit_percent"])) // 100
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
    if board.run("cat /proc/swaps").count("/dev/zram"):
        assert swappiness >= SWAPPINESS_OF_ZRAM


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip().lstrip("-"), " ".join(value.split())
