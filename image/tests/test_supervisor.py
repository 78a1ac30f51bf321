from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from pinch_image.boards import find_board
from pinch_image.build import HERE
from pinch_image.instance import Instance, Run
from pinch_image.process import Process, spawn
from pinch_image.supervisor import Plan

# Stands in for QEMU: speaks its protocol over the descriptor it is given, does what the board does in one of its boots
# (a command each), and says why it ends. Without a reason it stays on until it is killed.
QEMU = """
import json, socket, subprocess, sys, time
from pathlib import Path
folder, words = Path(sys.argv[1]), sys.argv[2:]
monitor = socket.socket(fileno=int(words[words.index("-chardev") + 1].partition("fd=")[2]))
stream = monitor.makefile("rw")
def say(what):
    stream.write(json.dumps(what) + "\\n")
    stream.flush()
say({"QMP": {}})
assert json.loads(stream.readline())["execute"] == "qmp_capabilities"
say({"return": {}})
boots = json.loads((folder / "script.json").read_text())
past = sorted(folder.glob("told-*"))
(folder / f"told-{len(past)}").write_text(words[words.index("-append") + 1])
(folder / "serial.log").write_text(f"boot {len(past)}")
does, reason = boots[len(past)]
subprocess.run(does, check=True, shell=True)
if reason is None:
    (folder / "on").touch()
    time.sleep(600)
say({"event": "RESUME", "data": {}})
say({"event": "SHUTDOWN", "data": {"guest": True, "reason": reason}})
"""


class Setup:
    """A board's folder with a card, and a supervisor for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.disk = folder / "firmware.raw"
        subprocess.run(["mformat", "-C", "-i", self.disk, "-T", "8192", "::"], check=True)
        subprocess.run(self.edit("root=a"), check=True, shell=True)
        (folder / "qemu.py").write_text(QEMU, encoding="utf-8")

    def edit(self, line: str) -> str:
        return f"printf '{line}\\n' | mcopy -D o -i {self.disk} - ::cmdline.txt"

    def plan(self, *boots: tuple[str, str | None], command: list[str] | None = None) -> list[str]:
        (self.folder / "script.json").write_text(json.dumps(boots), encoding="utf-8")
        plan = Plan(
            command=command or [sys.executable, str(self.folder / "qemu.py"), str(self.folder)],
            before=["cgroup_disable=memory", "psi=0"],
            after=["last"],
            firmware=str(self.disk),
            serial=str(self.folder / "serial.log"),
            boots=str(self.folder / "boot.json"),
            power=str(self.folder / "power"),
        )
        path = self.folder / "plan.json"
        path.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        return [sys.executable, "-m", "pinch_image.supervisor", str(path)]

    def run(self, *boots: tuple[str, str | None], command: list[str] | None = None) -> subprocess.CompletedProcess[str]:
        words = self.plan(*boots, command=command)
        return subprocess.run(words, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(HERE)})

    def told(self) -> list[str]:
        return [path.read_text() for path in sorted(self.folder.glob("told-*"))]

    def last(self) -> Any:
        return json.loads((self.folder / "boot.json").read_text())

    def dark(self) -> None:
        """Wait until neither the supervisor nor QEMU is there any more."""
        limit = time.monotonic() + 30
        with (self.folder / "power").open("r") as power:
            while time.monotonic() < limit:
                with suppress(BlockingIOError):
                    return fcntl.flock(power, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise AssertionError("QEMU is still there")


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


@pytest.fixture
def lit(setup: Setup) -> Iterator[tuple[Setup, Process]]:
    process = spawn(setup.plan(("true", None)), setup.folder / "qemu.log", {"PYTHONPATH": str(HERE)})
    try:
        while not (setup.folder / "on").exists():
            assert process.alive(), (setup.folder / "qemu.log").read_text()
            time.sleep(0.01)
        yield setup, process
    finally:
        # The group of what is left, if the test that ends it failed.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("reset", ["guest-reset", "host-qmp-system-reset"])
def test_a_word_written_to_the_card_is_told_to_the_kernel_at_the_next_boot(setup: Setup, reset: str) -> None:
    done = setup.run((setup.edit("root=a cgroup_enable=memory psi=1"), reset), ("true", "guest-shutdown"))
    assert done.returncode == 0, done.stderr
    assert setup.told() == [
        "cgroup_disable=memory psi=0 root=a last",
        "psi=0 root=a cgroup_enable=memory psi=1 last",
    ]
    assert setup.last() == {"number": 2, "arguments": setup.told()[1], "complaint": None}


def test_a_board_that_switches_itself_off_stays_off(setup: Setup) -> None:
    assert setup.run(("true", "guest-shutdown"), ("true", "guest-shutdown")).returncode == 0
    assert len(setup.told()) == 1


def test_the_console_of_the_boot_before_is_kept(setup: Setup) -> None:
    setup.run(("true", "guest-reset"), ("true", "guest-reset"), ("true", "guest-shutdown"))
    assert (setup.folder / "previous-serial.log").read_text() == "boot 1"
    assert (setup.folder / "serial.log").read_text() == "boot 2"


def test_a_card_that_nothing_can_boot_from_is_complained_of_and_tried_all_the_same(setup: Setup) -> None:
    setup.run((f"mdel -i {setup.disk} ::cmdline.txt", "guest-reset"), ("true", "guest-shutdown"))
    assert setup.told()[1] == "cgroup_disable=memory psi=0 last"
    assert "no cmdline.txt" in setup.last()["complaint"]


@pytest.mark.parametrize("command", [["sh", "-c", "echo no such machine >&2; exit 1"], ["no-such-qemu"]])
def test_a_qemu_that_does_not_start_ends_the_supervisor(setup: Setup, command: list[str]) -> None:
    done = setup.run(command=command)
    assert done.returncode != 0
    assert ("no such machine" if command[0] == "sh" else "no-such-qemu") in done.stderr
    assert not (setup.folder / "boot.json").exists()


def test_a_qemu_that_crashes_is_not_started_again(setup: Setup) -> None:
    done = setup.run(("kill -9 $PPID", "guest-reset"), ("true", "guest-shutdown"))
    assert done.returncode != 0
    assert len(setup.told()) == 1


def test_the_power_cut_ends_qemu_too(lit: tuple[Setup, Process]) -> None:
    setup, process = lit
    run = Run(process.pid, process.started, 2222, offline=True, image="")
    (setup.folder / "run.json").write_text(json.dumps(asdict(run)), encoding="ascii")
    instance = Instance(find_board(HERE / "boards.toml", "zero2w"), setup.folder)
    assert instance.report()["kernel_arguments"] == setup.told()[0]
    assert instance.cut()["running"] is False
    setup.dark()


def test_qemu_does_not_outlive_a_supervisor_that_is_killed(lit: tuple[Setup, Process]) -> None:
    setup, process = lit
    os.kill(process.pid, signal.SIGKILL)
    setup.dark()


def test_a_board_is_never_under_power_twice(lit: tuple[Setup, Process]) -> None:
    setup, _ = lit
    second = setup.run(("true", "guest-shutdown"))
    assert second.returncode == 1
    assert "an earlier QEMU still runs this board" in second.stderr
    assert len(setup.told()) == 1
