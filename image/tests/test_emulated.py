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
CMDLINE = "/boot/firmware/cmdline.txt"
CACHES = "ldconfig.service systemd-journal-catalog-update.service systemd-hwdb-update.service"
FACTS = (
    "uname -r; getconf PAGESIZE; grep MemTotal /proc/meminfo; systemctl --version | head -1; python3 --version; "
    "sudo modprobe zram && echo zram $(cat /sys/block/zram0/comp_algorithm); "
    "echo zswap $(cat /sys/module/zswap/parameters/enabled); systemd-analyze | head -1"
)


class Board:
    """A board of this test's own, switched as a person would: by the command."""

    def __init__(self, state: Path, name: str = "zero2w") -> None:
        self.state = state
        self.name = name

    def emulator(self, verb: str, *options: str) -> subprocess.CompletedProcess[str]:
        command = [str(HERE / "emulator"), verb, self.name, "--json", "--state", str(self.state), *options]
        return subprocess.run(command, capture_output=True, text=True)

    def do(self, verb: str, *options: str) -> dict[str, Any]:
        done = self.emulator(verb, *options)
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout)
        return said

    def up(self, *options: str) -> dict[str, Any]:
        return self.do("up", "--timeout", str(BOOT_LIMIT_S), *options)

    def reboot(self) -> None:
        """Let the board reboot itself, as a role does, and wait until it is back."""
        boots = self.do("status")["boots"]
        subprocess.run(self.ssh("sudo systemctl reboot"), capture_output=True)
        while (status := self.do("status"))["boots"] == boots:
            assert status["running"]
        self.up()

    def write_cmdline(self, line: str) -> None:
        self.says(f"echo '{line}' | sudo tee {CMDLINE}.new && sudo mv {CMDLINE}.new {CMDLINE} && sync -f {CMDLINE}")

    def controllers(self) -> list[str]:
        return self.says("cat /sys/fs/cgroup/cgroup.controllers").split()

    def pressure(self) -> str:
        return self.says("cat /proc/pressure/memory 2>/dev/null || echo none")

    def caches_made(self) -> list[str]:
        """Return which caches were made at this boot."""
        shown = self.says(f"systemctl show --property=Id,ConditionResult {CACHES}")
        units = [dict(line.split("=", 1) for line in unit.splitlines()) for unit in shown.split("\n\n")]
        return [unit["Id"] for unit in units if unit["ConditionResult"] == "yes"]

    def ssh(self, remote: str) -> list[str]:
        return [str(HERE / "emulator"), "ssh", self.name, "--state", str(self.state), "--", remote]

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


def test_a_fresh_board_is_as_a_pi_is_without_memory_limits_and_pressure(board: Board) -> None:
    assert "cpu" in board.controllers()
    assert "memory" not in board.controllers()
    assert board.pressure() == "none"
    total_kb = int(board.says("awk '/^MemTotal:/ {print $2}' /proc/meminfo"))
    assert 400_000 < total_kb < 512 * 1024


def test_the_cards_command_line_is_where_a_pi_has_it(board: Board) -> None:
    line = board.says(f"cat {CMDLINE}")
    assert line.count("root=") == 1
    assert board.says("cat /proc/cmdline").endswith(line)
    assert board.says(f"stat -c %a {CMDLINE} && findmnt -no FSTYPE,LABEL /boot/firmware").split() == [
        *("755", "vfat", "FIRMWARE"),
    ]


def test_nothing_failed_at_boot_and_no_swap_was_made(board: Board) -> None:
    assert board.says("systemctl --failed --no-legend --plain") == ""
    assert board.says("cat /proc/swaps").count("\n") == 0


def test_the_first_boot_makes_no_cache_that_came_with_the_image(board: Board) -> None:
    assert board.do("status")["boots"] == 1
    assert board.caches_made() == []


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


def test_words_on_the_card_take_effect_at_the_boards_own_reboot(board: Board) -> None:
    process, line = board.do("status")["pid"], board.says(f"cat {CMDLINE}")
    board.write_cmdline(f"{line} cgroup_enable=memory psi=1")
    board.reboot()
    assert board.do("status")["pid"] == process
    assert "memory" in board.controllers()
    assert board.pressure().startswith("some avg10=")
    assert board.says(
        "sudo systemd-run -qP -p MemoryMax=50M sh -c 'cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)'/memory.max"
    ) == str(50 << 20)


def test_words_on_the_card_take_effect_after_a_power_cut(board: Board) -> None:
    board.write_cmdline(board.says(f"cat {CMDLINE}").replace(" cgroup_enable=memory", ""))
    board.do("cut")
    board.up()
    assert "memory" not in board.controllers()
    assert board.pressure().startswith("some avg10=")
    assert board.says("systemctl --failed --no-legend --plain") == ""


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


def test_a_card_that_says_no_root_does_not_boot_and_the_emulator_says_why(board: Board) -> None:
    command = f"echo console=ttyAMA0 | mcopy -D o -i {board.state / board.name / 'firmware.raw'} - ::cmdline.txt"
    subprocess.run(command, shell=True, check=True)
    refused = board.emulator("up", "--timeout", str(BOOT_LIMIT_S))
    assert refused.returncode == 1
    assert "emulator: zero2w has no root= in the first line of cmdline.txt: 'console=ttyAMA0'" in refused.stderr
    assert "The board stopped while it booted" in refused.stderr
    assert board.processes() == []


@pytest.mark.parametrize(
    ("name", "system", "page_bytes", "machine"),
    [
        ("pi3", "base", 4096, "aarch64"),
        ("pi4", "base", 4096, "aarch64"),
        ("pi5", "trixie-16k", 16384, "aarch64"),
        ("armhf", "armhf", 4096, "armv7l"),
        ("zero2w", "bookworm", 4096, "aarch64"),
    ],
)
def test_the_other_boards_and_systems_are_what_the_roles_expect(
    tmp_path: Path, name: str, system: str, page_bytes: int, machine: str
) -> None:
    board = Board(tmp_path, name)
    try:
        print(f"\n{name} with {system}: boot {board.up('--system', system)['boot_seconds']} s")
        print(board.says(FACTS))
        assert board.says("getconf PAGESIZE && uname -m").split() == [str(page_bytes), machine]
        assert board.says("systemctl --failed --no-legend --plain") == ""
        assert board.caches_made() == []
        assert "memory" not in board.controllers()
        assert board.pressure() == "none"
        assert board.says("findmnt -no FSTYPE /boot/firmware") == "vfat"
        board.says("sudo modprobe zram && test -e /sys/module/zswap/parameters/enabled && sudo apt-get check")
        assert board.says("command -v gcc cc || true") == ""
    finally:
        board.do("down")
    assert board.processes() == []
