"""Lines that a person types: edited with readline, kept from one time to the next."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

try:
    import readline
except ImportError:  # A Python built without it still reads lines.
    readline = None  # type: ignore[assignment]

KEPT_BYTES = 64 * 1024
"""The newest lines that are read; a file twice as long is cut to them."""


def history_file(environ: Mapping[str, str]) -> Path:
    """Return where the lines are kept."""
    given = environ.get("XDG_STATE_HOME", "")
    # The specification has relative paths ignored.
    base = Path(given) if given.startswith("/") else Path(environ.get("HOME") or "/nonexistent") / ".local" / "state"
    return base / "pinch" / "chat_history"


class Prompt:
    """Reads lines. A file that cannot be read or written is no error: the lines are then kept for this time alone.

    Args:
        file: where they are kept.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        if readline is not None:
            readline.set_auto_history(False)
            for line in self._kept():
                readline.add_history(line)

    def line(self, label: str) -> str:
        """Return the next line, without its end.

        Raises:
            EOFError: Ctrl-D.
            KeyboardInterrupt: Ctrl-C.
        """
        return input(label)

    @property
    def pending(self) -> str:
        """What had been typed when Ctrl-C came."""
        return readline.get_line_buffer() if readline is not None else ""

    def keep(self, line: str) -> None:
        """Put a line where the arrow keys find it, now and next time."""
        flat = " ".join(line.splitlines())
        if readline is None:
            return
        readline.add_history(flat)
        self._write(os.O_APPEND, f"{flat}\n")

    def _kept(self) -> list[str]:
        try:
            with self._file.open("rb") as stream:
                length = stream.seek(0, os.SEEK_END)
                stream.seek(max(0, length - KEPT_BYTES))
                lines = stream.read().decode("utf-8", "replace").splitlines()
        except OSError:
            return []
        lines = lines[1:] if length > KEPT_BYTES else lines
        if length > 2 * KEPT_BYTES:
            self._write(os.O_TRUNC, "".join(f"{line}\n" for line in lines))
        return lines

    def _write(self, how: int, text: str) -> None:
        try:
            self._file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._file, os.O_WRONLY | os.O_CREAT | how, 0o600)
            with os.fdopen(descriptor, "wb") as stream:
                os.fchmod(descriptor, 0o600)
                stream.write(text.encode("utf-8", "replace"))
        except OSError:
            pass
