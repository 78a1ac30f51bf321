"""QEMU's machine protocol, as much of it as a board's switches need."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any, TextIO

from .failure import ImageError

TIMEOUT_S = 20.0


def execute(path: Path, command: str) -> Any:
    """Run one QMP command over the socket at `path` and return its answer. Raises ImageError."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            with connection.makefile("r", encoding="utf-8") as stream:
                _answer(stream)  # its greeting
                for name in ("qmp_capabilities", command):
                    connection.sendall(json.dumps({"execute": name}).encode() + b"\n")
                    said = _answer(stream)
                    if "error" in said:
                        raise ImageError(f"QEMU refused {name}: {said['error'].get('desc', said['error'])}.")
                return said.get("return")
    except OSError as error:
        raise ImageError(
            f"The emulated board's control socket {path} does not answer ({error}): `image/emulator down` and up again."
        ) from None


def _answer(stream: TextIO) -> dict[str, Any]:
    for line in stream:
        said: dict[str, Any] = json.loads(line)
        if "event" not in said:
            return said
    raise OSError("closed by QEMU")
