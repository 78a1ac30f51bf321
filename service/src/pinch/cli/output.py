"""Where a command's results go: JSON for programs, lines for people, notes and progress on stderr."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, TextIO

from pinch.cli.errors import CommandError
from pinch.cli.text import safe

_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "match": "1;33"}
_DEFAULT_COLUMNS = 100
_SERIAL_SHAPE = {"ncols": 79, "nrows": 24}
"""A serial console says that it has no columns and no rows, and a bar of that shape is not seen."""


class Progress(Protocol):
    """What long work tells about itself."""

    def update(self, n: float | None = 1) -> object:
        """Count `n` more units as done."""


class Silent:
    """Progress that nobody watches."""

    def update(self, n: float | None = 1) -> None:
        """Do nothing."""


class Output:
    """The streams of one run.

    With `--json` stdout carries exactly one document: the result or the error. Notes, progress and the
    error's sentence go to stderr either way.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, environ: Mapping[str, str], *, as_json: bool) -> None:
        self._stdout = stdout
        self._stderr = stderr
        self._environ = environ
        self.as_json = as_json
        plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
        self._colour = stdout.isatty() and not plain

    @property
    def columns(self) -> int:
        """Width of the terminal in characters."""
        given = self._environ.get("COLUMNS", "")
        if given.isdecimal() and int(given) > 0:
            return int(given)
        try:
            return os.get_terminal_size(self._stdout.fileno()).columns or _DEFAULT_COLUMNS
        except (OSError, ValueError):
            return _DEFAULT_COLUMNS

    def document(self, document: object) -> None:
        """Print the JSON document."""
        self._stdout.write(json.dumps(document, ensure_ascii=False, indent=2) + "\n")

    def lines(self, lines: Iterable[str]) -> None:
        """Print lines for a person; what came from a store must have gone through `safe`."""
        for line in lines:
            self._stdout.write(line + "\n")

    def style(self, text: str, style: str) -> str:
        """Return `text` coloured, where stdout is a terminal that wants it."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._colour else text

    def note(self, sentence: str) -> None:
        """Tell a person something that is no result."""
        self._stderr.write(f"pinch: {safe(sentence)}\n")
        self._stderr.flush()

    def error(self, error: CommandError) -> None:
        """Print the sentence on stderr and, with `--json`, the document on stdout."""
        self.note(str(error).replace("\n", " "))
        if self.as_json:
            self.document(error.document())

    @contextmanager
    def progress(self, label: str, total: int | None, *, unit: str = "B") -> Iterator[Progress]:
        """Show a bar on stderr while the block runs, if stderr is a terminal.

        Args:
            label: what is being done.
            total: units to do; None when unknown.
            unit: `B` counts bytes, anything else is the name of the thing counted.
        """
        if not self._stderr.isatty():
            yield Silent()
            return
        from tqdm import tqdm

        scaled = unit == "B"
        known = os.get_terminal_size(self._stderr.fileno()).columns > 0
        shape = {"dynamic_ncols": True} if known else _SERIAL_SHAPE
        with tqdm(
            desc=label, total=total, unit=unit, unit_scale=scaled, unit_divisor=1024 if scaled else 1000,
            file=self._stderr, leave=False, **shape,
        ) as bar:  # fmt: skip
            yield bar
