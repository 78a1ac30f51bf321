"""QEMU's machine protocol, as much of it as a board's switches and its supervisor need."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .failure import ImageError

TIMEOUT_S = 20.0


class Session:
    """A conversation with QEMU over a connected socket; the socket's timeout is its."""

    def __init__(self, connection: socket.socket) -> None:
        """Take the greeting and answer it. Raises OSError or ImageError."""
        self._connection = connection
        self._stream = connection.makefile("r", encoding="utf-8")
        self._answer()
        self.execute("qmp_capabilities")

    def execute(self, command: str) -> Any:
        """Run one command and return its answer. Raises ImageError if QEMU refuses, OSError if it is gone."""
        self._connection.sendall(json.dumps({"execute": command}).encode() + b"\n")
        said = self._answer()
        if "error" in said:
            raise ImageError(f"QEMU refused {command}: {said['error'].get('desc', said['error'])}.")
        return said.get("return")

    def events(self) -> Iterator[dict[str, Any]]:
        """Yield what happens to the machine, from now on, until QEMU ends. Raises OSError."""
        for line in self._stream:
            said: dict[str, Any] = json.loads(line)
            if "event" in said:
                yield said

    def _answer(self) -> dict[str, Any]:
        for line in self._stream:
            said: dict[str, Any] = json.loads(line)
            if "event" not in said:
                return said
        raise OSError("closed by QEMU")


def execute(path: Path, command: str) -> Any:
    """Run one QMP command over the socket at `path` and return its answer. Raises ImageError."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            return Session(connection).execute(command)
    except OSError as error:
        raise ImageError(
            f"The emulated board's control socket {path} does not answer ({error}): `image/emulator down` and up again."
        ) from None
