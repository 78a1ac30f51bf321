"""What a Pi's firmware does at every boot: it reads `cmdline.txt` on the card and tells the kernel its command line.

A Pi's kernel knows `cgroup_enable=`, which undoes an earlier `cgroup_disable=`. Debian's does not, so here the word
that would be undone is left out; the words that undo it stay, for whoever looks at the command line.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

CMDLINE = "cmdline.txt"
DISABLE, ENABLE = "cgroup_disable", "cgroup_enable"


@dataclass(frozen=True)
class Cmdline:
    """The card's part of the command line; `complaint` is what is wrong with it, in words to follow a board's name."""

    words: tuple[str, ...]
    complaint: str | None = None


def read_cmdline(disk: Path) -> Cmdline:
    """Return what the FAT file system at `disk` says; a board that is on may still be writing to it."""
    # The size of the file system is all that mtools may go by: there is no drive with heads and tracks.
    environment = os.environ | {"MTOOLS_SKIP_CHECK": "1"}
    command = ["mtype", "-i", str(disk), f"::/{CMDLINE}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, check=False)
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split())
        return Cmdline((), f"has no {CMDLINE} on its card that can be read ({said}), so nothing says where its root is")
    return parse_cmdline(done.stdout)


def parse_cmdline(content: bytes) -> Cmdline:
    """Return what a Pi takes from a file with that content: its first line."""
    text = content.decode("utf-8", errors="replace")
    lines = text.splitlines() or [""]
    words = tuple(lines[0].replace("\0", " ").split())
    complaint = None
    if not any(word.startswith("root=") for word in words):
        complaint = f"has no root= in the first line of {CMDLINE}: {lines[0]!r}"
    elif any(line.strip() for line in lines[1:]):
        complaint = f"has {len(lines)} lines in {CMDLINE}, of which it takes the first"
    return Cmdline(words, complaint)


def kernel_arguments(*parts: Iterable[str]) -> str:
    """Return the command line that joins the parts in their order, so that Debian's kernel does what a Pi's would."""
    kept: list[str] = []
    for word in (word for part in parts for word in part):
        name, _, controllers = word.partition("=")
        if name == ENABLE:
            undone = controllers.split(",")
            kept = [left for earlier in kept if (left := _without(earlier, undone))]
        kept.append(word)
    return " ".join(kept)


def _without(word: str, undone: Iterable[str]) -> str:
    name, _, controllers = word.partition("=")
    if name != DISABLE:
        return word
    left = [controller for controller in controllers.split(",") if controller not in undone]
    return f"{name}={','.join(left)}" if left else ""
