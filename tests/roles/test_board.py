"""What preflight reads off a board, on root trees with the files of real systems."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.roles.sources import load

board = load("preflight/library/preflight_board.py")


def tree(root: Path, **files: str) -> Path:
    """Write files, whose names have `__` for a slash, below `root`."""
    for name, text in files.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


def test_the_memory_controller_is_looked_for_where_it_lives(tmp_path: Path) -> None:
    """A kernel without the old interface leaves memory out of /proc/cgroups although it is on."""
    files = {
        "proc__cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t0\t60\t1\n",
        "sys__fs__cgroup__cgroup.controllers": "cpuset cpu io memory pids\n",
        "proc__pressure__memory": "some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
    }
    assert board.cgroup(tree(tmp_path, **files)) == {"unified": True, "memory": True, "psi": True}


def test_a_stock_raspberry_pi_has_neither_memory_limits_nor_pressure(tmp_path: Path) -> None:
    files = {
        "proc__cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t0\t60\t0\n",
        "sys__fs__cgroup__cgroup.controllers": "cpuset cpu io pids\n",
        "etc__os-release": 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nID=debian\nVERSION_ID="13"\n',
        "etc__rpi-issue": "Raspberry Pi reference 2026-05-06\n",
        "proc__device-tree__model": "Raspberry Pi Zero 2 W Rev 1.0\0",
    }
    root = tree(tmp_path, **files)
    assert board.cgroup(root) == {"unified": True, "memory": False, "psi": False}
    system = board.system(root)
    assert (system["id"], system["version_id"], system["raspberry_pi_os"]) == ("debian", "13", "yes")
    assert system["model"] == "Raspberry Pi Zero 2 W Rev 1.0"


def test_a_folder_that_is_not_there_yet_is_judged_by_its_parent(tmp_path: Path) -> None:
    # Others write to this disk too.
    free = board.free_bytes(str(tmp_path))
    assert board.free_bytes(str(tmp_path / "opt" / "pinch")) == pytest.approx(free, rel=0.05)
