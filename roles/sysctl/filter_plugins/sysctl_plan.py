"""Which kernel values a board gets: sets by name, put together. Runs on the controller."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import yaml

SETS = Path(__file__).resolve().parents[1] / "sets"
KEEP = "keep"
"""Profile that sets nothing of its own."""
BY_MECHANISM = {"zram": "zram", "zswap": "zswap", "file": "file", "dphys": "file", "none": "none"}
"""dphys-swapfile makes a plain swap file. What rpi-swap does is seen by what is in use."""
COUNTERPARTS = {
    "vm.dirty_ratio": "vm.dirty_bytes",
    "vm.dirty_bytes": "vm.dirty_ratio",
    "vm.dirty_background_ratio": "vm.dirty_background_bytes",
    "vm.dirty_background_bytes": "vm.dirty_background_ratio",
}
"""Two names for one thing, of which the last one said holds."""
NAME = re.compile(r"[A-Za-z0-9_-]+(?:[./][A-Za-z0-9_.-]*[A-Za-z0-9_-])+")


class SysctlError(ValueError):
    """A set, a profile or a value that cannot be used."""


class Entry(NamedTuple):
    """One kernel value with its reason."""

    name: str
    value: str
    reason: str
    source: str


@lru_cache
def sets(folder: Path = SETS) -> Mapping[str, tuple[Entry, ...]]:
    """Return every set by the name of its file.

    Raises:
        SysctlError: a file is not a set; names it.
    """
    return {path.stem: tuple(_entries(path)) for path in sorted(folder.glob("*.yml"))}


def swap_set(mechanism: str, areas: Iterable[Mapping[str, Any]]) -> str:
    """Return the set that fits how a board swaps.

    rpi-swap does one of several things: with zram among the areas, or before its first boot, it is
    zram, which is its default; with nothing but a file it is a file.
    """
    if mechanism == "rpi-swap":
        kinds = {str(area["kind"]) for area in areas}
        return "zram" if not kinds or "zram" in kinds else "file"
    if mechanism not in BY_MECHANISM:
        raise SysctlError(
            f"there is no set for the swap mechanism {mechanism}; expected one of {', '.join(BY_MECHANISM)}"
        )
    return BY_MECHANISM[mechanism]


def chosen_sets(profile: str, named: list[str], mechanism: str, tier_sets: list[str]) -> list[str]:
    """Return the names of the sets in their order: those named, else the profile's."""
    if named:
        return named
    if profile == KEEP:
        return []
    return [mechanism, *tier_sets] if profile == "auto" else [profile]


def compose(chosen: Iterable[str], own: Mapping[str, Any], folder: Path = SETS) -> list[Entry]:
    """Return one entry a name: of the sets in their order and then of the operator, the last word.

    Raises:
        SysctlError: a set that does not exist, a name or a value that is none.
    """
    known = sets(folder)
    entries: dict[str, Entry] = {}
    for name in chosen:
        if name not in known:
            raise SysctlError(f"there is no set {name}; expected some of {', '.join(known)}")
        for entry in known[name]:
            _add(entries, entry)
    for name, value in own.items():
        checked = _checked_value(_checked_name(name), value)
        _add(entries, Entry(name, checked, "Set for this board.", "sysctl_values of the inventory"))
    return list(entries.values())


def sysctl_plan(wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `entries` and what is `wanted` by name for a board, or as `problem` the sentence that says why not.

    Args:
        wishes: `profile`, `sets`, `values` as the variables say; `mechanism` and `areas` of the
            board's swap; `tier_sets`, what the tier asks for.
    """
    try:
        fitting = swap_set(wishes["mechanism"], wishes["areas"])
        chosen = chosen_sets(wishes["profile"], wishes["sets"], fitting, wishes["tier_sets"])
        entries = compose(chosen, wishes["values"])
    except SysctlError as error:
        return {"problem": str(error), "sets": [], "entries": [], "wanted": {}}
    return {
        "problem": "",
        "sets": chosen,
        "entries": [entry._asdict() for entry in entries],
        "wanted": {entry.name: entry.value for entry in entries},
    }


def _add(entries: dict[str, Entry], entry: Entry) -> None:
    entries.pop(COUNTERPARTS.get(entry.name, ""), None)
    entries.pop(entry.name, None)
    entries[entry.name] = entry


def _entries(path: Path) -> Iterable[Entry]:
    raw = yaml.safe_load(path.read_text("utf-8"))
    if not isinstance(raw, dict) or raw.keys() != {"about", "values"}:
        raise SysctlError(f"{path} is no set of kernel values; expected the keys about and values")
    for row in raw["values"]:
        if row.keys() != set(Entry._fields):
            raise SysctlError(f"{path} has {', '.join(row)} in an entry; expected {', '.join(Entry._fields)}")
        name = _checked_name(row["name"])
        yield Entry(name, _checked_value(name, row["value"]), str(row["reason"]), str(row["source"]))


def _checked_name(name: object) -> str:
    if not isinstance(name, str) or not NAME.fullmatch(name) or ".." in name:
        raise SysctlError(f"{name!r} is no name of a kernel value; expected one such as vm.swappiness")
    return name


def _checked_value(name: str, value: object) -> str:
    text = " ".join(str(value).split())
    if isinstance(value, bool | dict | list) or value is None or not text or "\n" in str(value).strip():
        raise SysctlError(f"{name} is {value!r}; expected a number or one line of text")
    return text


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {"sysctl_plan": sysctl_plan}
