"""The parent of all simulated boards; `world.py` runs it as first process of a process namespace.

Reads the boards as JSON, says where each listens, and ends, and all boards with it, when its input is closed.
"""

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

from .boards import SimulatedBoard, write_layer
from .isolation import mount
from .machine import start


def main() -> None:
    """Make the boards and wait for the end."""
    wanted = json.loads(sys.stdin.readline())
    folder = Path(wanted["folder"])
    authorized, host_key = ((folder / name).read_text("utf-8") for name in ("login.pub", "host"))
    # Layers must not lie on the file system below them.
    world = folder / "world"
    world.mkdir()
    mount("tmpfs", world, "tmpfs")
    below = [shutil.copytree(wanted["sshd"], world / "sshd", symlinks=True)] if wanted["sshd"] else []
    listening: dict[str, tuple[str, int]] = {}
    held = []
    for number, words in enumerate(wanted["boards"], start=1):
        board = SimulatedBoard(*words)
        port = socket.socket()
        port.bind((f"127.20.{number // 250}.{number % 250 + 1}", 0))
        listening[board.name] = port.getsockname()
        if board.kind != "refuses":
            port.listen(64)
        if board.kind in {"refuses", "hangs"}:
            held.append(port)
            continue
        place = world / str(number)
        write_layer(board, place, authorized, host_key)
        (place / "mount").mkdir()
        with port:
            start(board, [place / "root", *below], place, port)
    print(json.dumps(listening), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
