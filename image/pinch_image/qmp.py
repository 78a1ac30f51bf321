"""QEMU's machine protocol, as much of it as a board's switches need."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

from .failure import ImageError

TIMEOUT_S = 20.0


def execute(path: Path, command: str) -> Any:
    """Run one QMP command over the socket at `path` and return its answer. Raises ImageError."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(str(path))
            with connection.makefile("rw", encoding="utf-8") as stream:
                _answer(stream)  # its greeting
                for name in ("qmp_capabilities", command):
                    stream.write(json.dumps({"execute": name}) + "\n")
                    stream.flush()
                    said = _answer(stream)
                    if "error" in said:
                        raise ImageError(f"QEMU refused {name}: {said['error'].get('desc', said['error'])}.")
                return said.get("return")
    except OSError as error:
        raise ImageError(
            f"The emulated board's control socket {path} does not answer ({error}): `image/emulator down` and up again."
        ) from None


def _answer(stream: Any) -> dict[str, Any]:
    for line in stream:
        said: dict[str, Any] = json.loads(line)
        if "event" not in said:
            return said
    raise OSError("closed by QEMU")
