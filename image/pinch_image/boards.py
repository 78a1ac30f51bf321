"""The boards the emulator knows, as a table."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .definition import Table, read_toml
from .failure import ImageError


@dataclass(frozen=True)
class Board:
    """What of a board can be emulated; `cpu` is QEMU's name of its processor."""

    name: str
    title: str
    cpu: str
    cpus: int
    memory_mb: int


def load_boards(path: Path) -> dict[str, Board]:
    """Return all boards of the table by name. Raises ImageError."""
    boards = {}
    for name, values in read_toml(path).items():
        table = Table(f"{path.name} [{name}]", values)
        board = Board(
            name,
            table.take("title", str),
            table.take("cpu", str),
            table.take("cpus", int),
            table.take("memory_mb", int),
        )
        table.end()
        if not 1 <= board.cpus <= 8 or not 128 <= board.memory_mb <= 16384:
            raise ImageError(f"{table.where}: expected 1 to 8 cpus and 128 to 16384 memory_mb; correct it.")
        boards[name] = board
    return boards


def find_board(path: Path, name: str) -> Board:
    """Return the board of that name. Raises ImageError that names those there are."""
    boards = load_boards(path)
    if name not in boards:
        raise ImageError(f"There is no board {name!r}; known: {', '.join(boards)}.")
    return boards[name]
