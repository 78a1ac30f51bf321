from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pinch_image.build import HERE

pytestmark = pytest.mark.emulated
BOOT_LIMIT_S = 900


class Board:
    """A zero2w of this test's own, switched as a person would: by the command."""

    def __init__(self, state: Path) -> None:
        self.state = state

    def do(self, verb: str, *options: str) -> dict[str, Any]:
        command = [str(HERE / "emulator"), verb, "zero2w", "--json", "--state", str(self.state), *options]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def up(self) -> dict[str, Any]:
        return self.do("up", "--timeout", str(BOOT_LIMIT_S))

    def ssh(self, remote: str) -> list[str]:
        return [str(HERE / "emulator"), "ssh", "zero2w", "--state", str(self.state), "--", remote]

    def says(self, remote: str) -> str:
        done = subprocess.run(self.ssh(remote), capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def processes(self) -> list[str]:
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if line.startswith("qemu-system") and str(self.state) in line:
                found.append(line)
        return found


@pytest.fixture(scope="module")
def board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    board = Board(tmp_path_factory.mktemp("board"))
    try:
        print(f"boot: {board.up()['boot_seconds']} s")
        yield board
    finally:
        subprocess.run([str(HERE / "emulator"), "down", "zero2w", "--state", str(board.state)])


def test_the_board_can_limit_memory_and_see_pressure(board: Board) -> None:
    assert "memory" in board.says("cat /sys/fs/cgroup/cgroup.controllers").split()
    assert board.says("cat /proc/pressure/memory").startswith("some avg10=")
    total_kb = int(board.says("awk '/^MemTotal:/ {print $2}' /proc/meminfo"))
    assert 400_000 < total_kb < 512 * 1024


def test_nothing_failed_at_boot_and_no_swap_was_made(board: Board) -> None:
    assert board.says("systemctl --failed --no-legend --plain") == ""
    assert board.says("cat /proc/swaps").count("\n") == 0


def test_the_user_becomes_root_without_a_password_and_has_none(board: Board) -> None:
    assert board.says("sudo -n id -un") == "root"
    assert board.says("sudo awk -F: '$2 ~ /^[$]/ {print $1}' /etc/shadow") == ""


def test_what_the_roles_need_is_there_without_internet(board: Board) -> None:
    needed = "asyncio, compileall, ctypes, json, lzma, sqlite3, ssl, tarfile, zipfile"
    board.says(f"python3 -c 'import {needed}' && command -v zstd && sudo modprobe zram")
    assert board.says("find /usr/lib/python3* -name '*.py' | wc -l") <= board.says(
        "find /usr/lib/python3* -name '*.pyc' | wc -l"
    )


def test_an_air_gapped_board_reaches_nothing_outside(board: Board) -> None:
    probe = "import socket; s=socket.socket(); s.settimeout(8); print(s.connect_ex(('10.0.2.2', 22)))"
    assert board.says(f'python3 -c "{probe}"') != "0"


def test_switching_on_twice_is_switching_on_once(board: Board) -> None:
    first, second = board.up(), board.up()
    assert first["pid"] == second["pid"] == board.do("status")["pid"]


def test_a_power_cut_keeps_what_was_flushed_and_loses_what_was_not(board: Board) -> None:
    script = "echo flushed > kept && sync kept . && echo unflushed > lost && echo written && sleep 60"
    with subprocess.Popen(board.ssh(script), stdout=subprocess.PIPE, text=True) as session:
        assert session.stdout is not None
        assert session.stdout.readline() == "written\n"
        assert board.do("cut")["running"] is False
        session.kill()
    assert board.processes() == []
    board.up()
    assert board.says("cat kept") == "flushed"
    assert board.says("cat lost 2>/dev/null || true") == ""
    assert board.says("systemctl --failed --no-legend --plain") == ""


def test_a_reset_boots_the_same_card_again(board: Board) -> None:
    before = board.says("cat /proc/sys/kernel/random/boot_id")
    process = board.do("reset")["pid"]
    assert board.up()["pid"] == process
    assert board.says("cat /proc/sys/kernel/random/boot_id") != before
    assert board.says("cat kept") == "flushed"


def test_an_orderly_shutdown_leaves_no_process(board: Board) -> None:
    assert board.do("down")["running"] is False
    assert board.processes() == []
    assert board.do("status")["pid"] is None
    assert "reboot: Power down" in Path(board.do("status")["serial"]).read_text(errors="replace")
