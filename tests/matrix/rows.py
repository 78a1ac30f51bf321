"""The rows of the matrix, read from `molecule/matrix.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, NamedTuple

from pinch_image.boards import load_boards

from tests.cache import REPOSITORY

MATRIX = REPOSITORY / "molecule" / "matrix.toml"
BOARDS = REPOSITORY / "image" / "boards.toml"
MECHANISMS = ("zram", "zswap", "file", "none")


class MatrixError(ValueError):
    """A matrix that cannot be run; says which row and what was expected."""


class Row(NamedTuple):
    """One board, provisioned in one way."""

    board: str
    swap: str
    kills: int
    system: str = ""
    """Empty for the board's own."""

    @property
    def name(self) -> str:
        """What the row is called on the command line and in the report."""
        return "-".join(part for part in (self.board, self.system, self.swap) if part)

    @property
    def environment(self) -> dict[str, str]:
        """What the scenario `board` is told by."""
        return {
            "PINCH_BOARD": self.board,
            "PINCH_SYSTEM": self.system,
            "PINCH_SWAP": self.swap,
            "PINCH_KILLS": str(self.kills),
        }


def load_rows(path: Path = MATRIX, boards: Path = BOARDS) -> list[Row]:
    """Return the rows of the matrix.

    Raises:
        MatrixError: a row that cannot be run, or two of one name.
    """
    known = load_boards(boards)
    rows: list[Row] = []
    for number, values in enumerate(tomllib.loads(path.read_text("utf-8"))["row"], start=1):
        row = _row(f"{path.name}, row {number}", values)
        if row.board not in known:
            raise MatrixError(f"{path.name}, row {number}: there is no board {row.board!r}; known: {', '.join(known)}")
        if row.name in {other.name for other in rows}:
            raise MatrixError(f"{path.name}, row {number}: {row.name} is there already; make the rows differ")
        rows.append(row)
    return rows


def _row(where: str, values: dict[str, Any]) -> Row:
    unknown = values.keys() - set(Row._fields)
    missing = {"board", "swap", "kills"} - values.keys()
    if unknown or missing:
        named = ", ".join(sorted(unknown or missing))
        raise MatrixError(f"{where}: {'unknown' if unknown else 'missing'} {named}; a row has {', '.join(Row._fields)}")
    row = Row(**values)
    if row.swap not in MECHANISMS:
        raise MatrixError(f"{where}: swap is {row.swap!r}; expected one of {', '.join(MECHANISMS)}")
    return row
