"""The boards the emulator knows, as a table.

`zero2w` is a board of that kind, and so are `zero2w-2`, `zero2w-3` and so on, each with a card and a port of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from .failure import ImageError
from .table import Table, read_toml

ANOTHER = re.compile(r"(?P<kind>.+)-(?:[2-9]|[1-9][0-9]{1,2})")


@dataclass(frozen=True)
class Board:
    """What of a board can be emulated; `cpu` is QEMU's name of its processor.

    `bootargs` are the words of its device tree; of `systems`, the images it can run, a new card gets the first.
    """

    name: str
    kind: str
    title: str
    cpu: str
    cpus: int
    memory_mb: int
    bootargs: tuple[str, ...]
    systems: tuple[str, ...]


def load_boards(path: Path) -> dict[str, Board]:
    """Return one board of each kind in the table, by name. Raises ImageError."""
    boards = {}
    for name, values in read_toml(path).items():
        table = Table(f"{path.name} [{name}]", values)
        board = Board(
            name,
            name,
            table.take("title", str),
            table.take("cpu", str),
            table.take("cpus", int),
            table.take("memory_mb", int),
            tuple(table.take("bootargs", str).split()),
            table.names("systems"),
        )
        table.end()
        if not 1 <= board.cpus <= 8 or not 128 <= board.memory_mb <= 16384:
            raise ImageError(f"{table.where}: expected 1 to 8 cpus and 128 to 16384 memory_mb; correct it.")
        if not board.systems:
            raise ImageError(f"{table.where}: systems is empty, expected at least one image; correct it.")
        boards[name] = board
    return boards


def find_board(path: Path, name: str) -> Board:
    """Return the board of that name. Raises ImageError that names those there are."""
    boards = load_boards(path)
    another = ANOTHER.fullmatch(name)
    kind = another["kind"] if another else name
    if kind not in boards:
        known = ", ".join(boards)
        raise ImageError(f"There is no board {name!r}; known: {known}, and more of a kind as {next(iter(boards))}-2.")
    return replace(boards[kind], name=name)


def boards_in(path: Path, folder: Path) -> list[Board]:
    """Return the boards that have state in `folder`, in the order of the table and then of their numbers."""
    order = list(load_boards(path))
    found = []
    for entry in folder.glob("*/run.json"):
        try:
            found.append(find_board(path, entry.parent.name))
        except ImageError:
            # Somebody else's folder.
            continue
    return sorted(found, key=lambda board: (order.index(board.kind), len(board.name), board.name))
