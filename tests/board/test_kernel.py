"""What the kernel under the service was set to: controllers, pressure, sysctl, read-ahead."""

from __future__ import annotations

import json

import pytest

from tests.appliance import Board
from tests.report import Figures

SYSCTL = "/etc/sysctl.d/90-pinch.conf"
RECORD = "/var/lib/pinch-found/sysctl.json"
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


def test_sysctl_is_live_and_not_only_written(board: Board) -> None:
    """Every key of our drop-in has its value in the running kernel."""
    wanted = _written(board)
    live = {key: " ".join(board.run(f"cat /proc/sys/{key.replace('.', '/')}").split()) for key in wanted}
    assert live == wanted


def test_every_kernel_value_can_be_taken_back(board: Board) -> None:
    """What each value was before is on the board, and nothing is kept that is not set."""
    printed = board.attempt(f"cat {RECORD}").stdout
    kept = json.loads(printed) if printed else {}
    assert set(kept) == {f"/proc/sys/{key.replace('.', '/')}" for key in _written(board)}


def test_kernel_swaps_early_where_swap_is_memory(board: Board, figures: Figures) -> None:
    swappiness = int(board.run("cat /proc/sys/vm/swappiness"))
    figures.add("vm.swappiness", swappiness)
    if board.swap_mechanism == "zram" and not _decided(board, "vm.swappiness"):
        assert swappiness >= SWAPPINESS_OF_ZRAM


def test_little_is_read_ahead_of_the_card(board: Board, figures: Figures) -> None:
    # The disk of a partition, or the disk itself where it has none.
    found = board.run("lsblk --noheadings --nodeps --output PKNAME,KNAME $(findmnt --noheadings --output SOURCE /)")
    disk = (found.split() or [""])[0]
    if not disk.startswith(("mmcblk", "vd")) or board.variables.get("readahead_state", "present") == "absent":
        pytest.skip(f"the root is on {disk or 'no disk'}, or the inventory leaves it as it is")
    page_kb = int(board.run("getconf PAGESIZE")) // 1024
    wanted = int(board.variables.get("readahead_kb", 0)) or int(str(board.tier.host["read_ahead_kb"]))
    live = int(board.run(f"cat /sys/block/{disk}/queue/read_ahead_kb"))
    figures.add(f"read ahead of {disk}", live, "KiB", f"= {wanted} KiB in whole pages")
    assert live == wanted // page_kb * page_kb


def _written(board: Board) -> dict[str, str]:
    """Return the values of our drop-in; a board whose inventory wants some has one."""
    if board.variables.get("sysctl_state", "present") == "absent":
        assert board.attempt(f"test -e {SYSCTL}").rc == 1
        return {}
    lines = board.run(f"cat {SYSCTL}").splitlines()
    wanted = dict(_pair(line) for line in lines if line.strip() and not line.startswith("#"))
    assert wanted or board.variables.get("sysctl_profile") == "keep", f"{SYSCTL} sets nothing"
    return wanted


def _decided(board: Board, name: str) -> bool:
    """Say whether the inventory chose another set than that of the mechanism, or a value of its own."""
    said = {key: board.variables.get(f"sysctl_{key}") for key in ("state", "profile", "sets", "values")}
    return (
        said["state"] == "absent"
        or said["profile"] not in {None, "auto"}
        or bool(said["sets"])
        or name in (said["values"] or {})
    )


def _pair(line: str) -> tuple[str, str]:
    key, _, value = line.partition("=")
    return key.strip(), " ".join(value.split())
