"""What the role found and what it made, kept on the board in one file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from . import layout


class RecordError(ValueError):
    """The record cannot be read; says what to do."""


class Record(NamedTuple):
    """What the board was like before the first change, and the swap files that are ours."""

    mechanism: str
    """One of `MECHANISMS`."""
    dphys_enabled: bool = False
    """Whether dphys-swapfile started at boot."""
    dphys_masked: bool = False
    """Whether its owner had put it out of reach."""
    made: tuple[str, ...] = ()


def read_record(root: Path) -> Record | None:
    """Return the record below `root`, or None where nothing was ever changed.

    Raises:
        RecordError: it is damaged.
    """
    file = root / layout.RECORD
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        return None
    try:
        values: Mapping[str, object] = json.loads(text)
        made = values["made"]
        if not isinstance(made, list) or values["mechanism"] not in layout.MECHANISMS:
            raise TypeError
        return Record(
            str(values["mechanism"]),
            bool(values["dphys_enabled"]),
            bool(values["dphys_masked"]),
            tuple(map(str, made)),
        )
    except (ValueError, KeyError, TypeError):
        raise RecordError(
            f"/{layout.RECORD} is damaged, so what these roles made on this board is not known; "
            "look at `swapon --show`, remove that file, and run again"
        ) from None


def to_text(record: Record) -> str:
    """Write a record as JSON."""
    return json.dumps(record._asdict(), indent=2) + "\n"
