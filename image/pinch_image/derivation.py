"""Definitions that are made from another one: they say only what they change of it.

`from = "base"` names the other one. A key beside it replaces the other's; `[remove]` takes entries out of its lists and
`[add]` puts entries in, both with the keys of the definition itself. A file is removed by its path.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .failure import ImageError
from .table import read_toml

SOURCE = "from"


def definition_files(path: Path) -> list[Path]:
    """Return every file that the definition is made of, itself first. Raises ImageError."""
    source = read_toml(path).get(SOURCE)
    if source is None:
        return [path]
    other = path.with_name(f"{source}.toml")
    if SOURCE in read_toml(other):
        raise ImageError(f"{path.name}: from names {source!r}, which is made from another one itself; name that one.")
    return [path, other]


def read_definition(path: Path) -> dict[str, Any]:
    """Return the tables of a definition, whole even if the file says only what it changes. Raises ImageError."""
    values = read_toml(path)
    files = definition_files(path)
    if len(files) == 1:
        return values
    whole = read_toml(files[1])
    remove, add = (_take_table(path.name, values, key) for key in ("remove", "add"))
    del values[SOURCE]
    for key, value in values.items():
        if isinstance(value, dict | list):
            raise ImageError(f"{path.name}: {key} would replace all of it; say what changes in [remove] and [add].")
        whole[key] = value
    _remove(f"{path.name} [remove]", whole, remove)
    _add(f"{path.name} [add]", whole, add)
    return whole


def _take_table(source: str, values: dict[str, Any], key: str) -> dict[str, Any]:
    table = values.pop(key, {})
    if not isinstance(table, dict):
        raise ImageError(f"{source}: {key} is {table!r}, expected a table; correct it.")
    return table


def _remove(where: str, whole: dict[str, Any], remove: Mapping[str, Any]) -> None:
    for key, entries in remove.items():
        there = whole.get(key)
        if isinstance(there, dict) and isinstance(entries, dict):
            _remove(f"{where} {key}", there, entries)
            continue
        if not isinstance(there, list) or not isinstance(entries, list):
            raise ImageError(f"{where}: {key} is no list in both files; correct it.")
        known = [_name(entry) for entry in there]
        for entry in entries:
            if entry not in known:
                raise ImageError(f"{where}: {key} has no {entry!r} to remove; correct it.")
        whole[key] = [entry for entry in there if _name(entry) not in entries]


def _add(where: str, whole: dict[str, Any], add: Mapping[str, Any]) -> None:
    for key, entries in add.items():
        there = whole.get(key)
        if isinstance(there, dict) and isinstance(entries, dict):
            _add(f"{where} {key}", there, entries)
        elif isinstance(there, list) and isinstance(entries, list):
            whole[key] = [*there, *entries]
        else:
            raise ImageError(f"{where}: {key} is no list in both files; correct it.")


def _name(entry: Any) -> Any:
    return entry.get("path", entry.get("name")) if isinstance(entry, dict) else entry
