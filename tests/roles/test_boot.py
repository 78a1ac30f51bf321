"""Whether the words that a board needs could be put onto its kernel's command line, known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pinch_plan.boot import boot_problems
from pinch_plan.plan import plan_board

from tests.roles.sources import load
from tests.roles.test_board import tree
from tests.roles.test_plan import MIB, a_board, wishes

board = load("preflight/library/preflight_board.py")

STOCK = "console=serial0,115200 root=PARTUUID=5fd2a1c9-02 rootfstype=ext4 fsck.repair=yes rootwait\n"
"""What Raspberry Pi OS ships: neither memory limits nor pressure."""


def a_stock_pi(**changes: Any) -> dict[str, Any]:
    """Describe a board whose kernel was booted without memory limits and pressure."""
    boot = {"path": "/boot/firmware/cmdline.txt", "text": STOCK, "read_only": False, "free_bytes": 100 * MIB}
    off = {"unified": True, "memory": False, "psi": False}
    return a_board(boot={**boot, "booted": "cgroup_disable=memory " + STOCK, **changes}, cgroup=off)


def test_a_stock_raspberry_pi_is_fine_as_it_is() -> None:
    assert plan_board(a_stock_pi(), wishes())["problems"] == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"text": STOCK + STOCK}, "cmdline.txt has 2 lines; expected one; it has to get cgroup_enable=memory psi=1"),
        ({"text": ""}, "has 0 lines; expected one"),
        ({"text": "console=tty1 quiet\n"}, "names 0 roots (none); expected exactly one root="),
        ({"text": "root=/dev/a root=/dev/b\n"}, "names 2 roots"),
        ({"read_only": True}, "mounted read-only, and has to get cgroup_enable=memory psi=1"),
        ({"free_bytes": 1024}, "has 1 KiB free; expected 64 KiB"),
        ({"path": "", "text": ""}, "neither /boot/firmware/cmdline.txt nor /boot/cmdline.txt exists"),
        ({"booted": "cgroup_enable=memory " + STOCK}, "install a kernel that has CONFIG_MEMCG"),
    ],
)
def test_a_command_line_that_cannot_get_its_words_stops_the_run(changes: dict[str, Any], said: str) -> None:
    (problem,) = plan_board(a_stock_pi(**changes), wishes())["problems"]
    assert said in problem


@pytest.mark.parametrize("changes", [{"text": STOCK + STOCK}, {"read_only": True}, {"path": "", "text": ""}])
def test_a_command_line_that_needs_no_word_is_nobodys_business(changes: dict[str, Any]) -> None:
    live = {"unified": True, "memory": True, "psi": True}
    assert list(boot_problems({**a_stock_pi(**changes), "cgroup": live}, psi=True)) == []
    live["psi"] = False
    assert list(boot_problems({**a_stock_pi(**changes), "cgroup": live}, psi=False)) == []


def test_words_that_wait_for_a_reboot_need_no_room() -> None:
    waiting = STOCK.strip() + " cgroup_enable=memory psi=1\n"
    assert list(boot_problems(a_stock_pi(text=waiting, read_only=True), psi=True)) == []


def test_the_command_line_is_read_where_the_firmware_reads_it(tmp_path: Path) -> None:
    assert board.boot(tree(tmp_path, proc__cmdline="quiet\n"))["path"] == ""
    tree(tmp_path, boot__cmdline="", **{"boot__cmdline.txt": "old\n"})
    assert board.boot(tmp_path)["text"] == "old\n"
    tree(tmp_path, **{"boot__firmware__cmdline.txt": STOCK})
    found = board.boot(tmp_path)
    assert (found["path"], found["text"]) == (str(tmp_path / "boot/firmware/cmdline.txt"), STOCK)
    assert (found["booted"], found["read_only"]) == ("quiet\n", False)
    assert found["free_bytes"] > 0
