"""The life of one simulated board: from its mounts to the cut of its power."""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import traceback
from pathlib import Path
from typing import NoReturn

from .boards import SimulatedBoard
from .isolation import bind, leave_the_machine, mount, read_only
from .service import serve

POWER = Path("/run/power")
"""A word written into it cuts the board's power, as nobody on a real board could: for tests that need the moment."""


def start(board: SimulatedBoard, layers: list[Path], folder: Path, listener: socket.socket) -> None:
    """Let a child process be the board, and return when it has booted.

    Args:
        board: which.
        layers: folders whose files the board has instead of this machine's, the uppermost first.
        folder: has the board's `proc` and `sys`, and an empty folder `mount`.
        listener: where ssh is to answer.

    Raises:
        OSError: it did not boot; its own words are on standard error.
    """
    booted, tell = os.pipe()
    if os.fork() == 0:
        _in_child(board, layers, folder, listener, tell)
    os.close(tell)
    with os.fdopen(booted, "rb") as answer:
        if not answer.read():
            raise OSError(f"the simulated board {board.name} did not boot")


def _in_child(board: SimulatedBoard, layers: list[Path], folder: Path, listener: socket.socket, tell: int) -> NoReturn:
    try:
        leave_the_machine()
        if os.fork() == 0:
            _run(board, layers, folder, listener, tell)
        os.close(tell)
        # The board's first process ends all others when it ends; nobody waits for this one.
        os.wait()
    except (OSError, ValueError):
        traceback.print_exc()
    finally:
        os._exit(1)


def _run(board: SimulatedBoard, layers: list[Path], folder: Path, listener: socket.socket, tell: int) -> None:
    socket.sethostname(board.name)
    # Before the move: Python's own files are not among the board's.
    if board.kind == "answers":
        serve(board)
    _move_in(layers, folder)
    signal.signal(signal.SIGCHLD, _reap)
    os.mkfifo(POWER)
    power = os.open(POWER, os.O_RDWR | os.O_NONBLOCK)
    os.write(tell, b"1")
    os.close(tell)
    with selectors.DefaultSelector() as events:
        events.register(listener, selectors.EVENT_READ)
        events.register(power, selectors.EVENT_READ)
        while True:
            for key, _ in events.select():
                if key.fileobj == power:
                    os._exit(0)
                _answer(listener)


def _answer(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        subprocess.Popen(
            ["/usr/sbin/sshd", "-i", "-f", "/etc/ssh/sshd_config"],
            stdin=connection.fileno(),
            stdout=connection.fileno(),
            stderr=subprocess.DEVNULL,
        )


def _reap(number: int, frame: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return


def _move_in(layers: list[Path], folder: Path) -> None:
    """Make the board's files the root of this process. Nothing but /run and /tmp can be written."""
    root = folder / "mount"
    mount("overlay", root, "overlay", data=f"lowerdir={':'.join(map(str, layers))}:/")
    mount("proc", root / "proc", "proc")
    for file in (folder / "proc").iterdir():
        bind(file, root / "proc" / file.name)
    bind(folder / "sys", root / "sys")
    bind(Path("/dev"), root / "dev", recursive=True)
    for name in ("root", "tmp", "run"):
        mount("tmpfs", root / name, "tmpfs", data="size=4m")
    read_only(root / "root")
    (root / "run/systemd/system").mkdir(parents=True)
    # What zram-generator leaves of the device that /proc/swaps names.
    (root / "run/systemd/generator").mkdir()
    (root / "run/systemd/generator/dev-zram0.swap").touch()
    (root / "run/sshd").mkdir(mode=0o755)
    os.chroot(root)
    os.chdir("/")
