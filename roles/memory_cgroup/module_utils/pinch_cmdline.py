"""A kernel's command line as a list of words, edited so that it still boots.

Runs on the board as part of a module, and on the controller, which asks beforehand whether a line can be edited.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

LONGEST = 4096
"""Bytes; the kernel cuts an arm64 command line there (COMMAND_LINE_SIZE is 2048 plus the device tree's)."""
WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


class CmdlineError(ValueError):
    """A command line that cannot be edited safely."""


def edit(text: str, present: Sequence[str], absent: Sequence[str] = (), *, bootable: bool = True) -> str:
    """Return the command line `text` with the words `present` and without the words `absent`.

    Words keep their order; missing ones are appended. A text that needs no change is returned as it
    is. `bootable` says that the line must name one root, as the firmware's own file does.

    Raises:
        CmdlineError: not one line, or not exactly one `root=`.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if bootable and len(lines) != 1:
        raise CmdlineError(f"has {len(lines)} lines; expected one")
    words = [word for line in lines for word in WORD.findall(line)]
    roots = [word for word in words if word.startswith("root=")]
    if bootable and len(roots) != 1:
        raise CmdlineError(f"names {len(roots)} roots ({' '.join(roots) or 'none'}); expected exactly one root=")
    kept = [word for word in words if word not in absent]
    wanted = [word for word in present if word not in kept]
    if kept == words and not wanted:
        return text
    edited = " ".join([*kept, *wanted]) + "\n" if kept or wanted else ""
    if len(edited) > LONGEST:
        raise CmdlineError(f"would be {len(edited)} bytes long; the kernel reads {LONGEST}")
    return edited
