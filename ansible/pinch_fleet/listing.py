"""A list of boards, as CSV, as YAML or as a pattern of names, checked line by line."""

from __future__ import annotations

import csv
import ipaddress
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pinch.tiers import load_tiers

COLUMNS = ("name", "address", "port", "user", "site", "tier", "other_memory_mb")
_LABEL = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_SITE = re.compile(r"[a-z][a-z0-9_]*")
_RANGE = re.compile(r"(?P<stem>[a-z0-9.-]*?)(?P<first>[0-9]+)(?:\.\.|…)(?P<again>[a-z0-9.-]*?)(?P<last>[0-9]+)")
MOST = 10_000
"""Boards of a pattern; more is a slip of the finger."""
NOT_NAMES = frozenset({"all", "ungrouped", "pinch", "localhost"})
"""What an inventory uses for something else."""


class ListingError(ValueError):
    """A list of boards cannot be used; `problems` are sentences that say where and what to change."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Listed(NamedTuple):
    """A board of a list; what is empty or 0 is left to the inventory's groups."""

    name: str
    address: str
    port: int
    user: str
    site: str
    tier: str
    other_memory_mb: int


def read_listing(file: Path) -> list[Listed]:
    """Read a list from a `.csv` file with a line of column names, or from a `.yml` file with a list of dictionaries.

    Raises:
        ListingError: names every line that is wrong.
        OSError: it cannot be read.
    """
    text = file.read_text("utf-8-sig")
    return check(file.name, _from_csv(file.name, text) if file.suffix == ".csv" else _from_yaml(file.name, text))


def by_pattern(names: str, addresses_from: str = "", **common: str) -> list[Listed]:
    """Return boards named by a range such as `pi-001..pi-100`.

    Args:
        names: the first and the last name.
        addresses_from: address of the first; the others follow. Empty leaves them to their names.
        common: values of other columns, the same for all.

    Raises:
        ListingError: the range or a value cannot be used.
    """
    found = _RANGE.fullmatch(names)
    if not found or found["again"] not in {"", found["stem"]}:
        raise ListingError([f"the range is {names!r}; expected first and last name, such as pi-001..pi-100"])
    first, last, width = int(found["first"]), int(found["last"]), len(found["first"])
    if not first <= last < first + MOST:
        raise ListingError([f"the range {names} has {last - first + 1} names; expected 1 to {MOST}"])
    try:
        begin = ipaddress.ip_address(addresses_from) if addresses_from else None
        addresses = [str(begin + step) if begin else "" for step in range(last - first + 1)]
    except (ValueError, ipaddress.AddressValueError) as error:
        raise ListingError(
            [f"the first address is {addresses_from!r}: {error}; expected one such as 10.0.0.1"]
        ) from error
    rows = [
        (0, {"name": f"{found['stem']}{number:0{width}}", "address": address, **common})
        for number, address in zip(range(first, last + 1), addresses, strict=True)
    ]
    return check(names, rows)


def check(source: str, rows: list[tuple[int, dict[str, Any]]]) -> list[Listed]:
    """Return the boards of `rows`, each with the number of its line.

    Raises:
        ListingError: names every line that is wrong.
    """
    problems: list[str] = []
    boards: list[Listed] = []
    seen: dict[str, int] = {}
    for line, row in rows:
        where = f"{source} line {line}" if line else source
        wrong = [*_row_problems(row)]
        board = None if wrong else _listed(row)
        for kind, taken in _claims(board) if board else ():
            if taken in seen:
                wrong.append(f"{kind} {taken} is taken by line {seen[taken]} already; each board needs its own")
            seen.setdefault(taken, line)
        problems += [f"{where}: {each}" for each in wrong]
        boards += [board] if board else []
    if not rows:
        problems.append(f"{source} has no board; expected one a line, with at least a name")
    if problems:
        raise ListingError(problems)
    return boards


def _from_csv(source: str, text: str) -> list[tuple[int, dict[str, Any]]]:
    reader = csv.reader(text.splitlines(), skipinitialspace=True)
    columns = [column.strip() for column in next(reader, [])]
    _check_columns(f"{source} line 1", columns)
    rows, problems = [], []
    for cells in reader:
        if not any(cell.strip() for cell in cells) or cells[0].startswith("#"):
            continue
        if len(cells) > len(columns):
            problems.append(
                f"{source} line {reader.line_num}: {len(cells)} cells; expected {len(columns)}, as in line 1"
            )
        rows.append((reader.line_num, dict(zip(columns, (cell.strip() for cell in cells), strict=False))))
    if problems:
        raise ListingError(problems)
    return rows


def _from_yaml(source: str, text: str) -> list[tuple[int, dict[str, Any]]]:
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        rows = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ListingError([f"{source} is no YAML: {' '.join(str(error).split())}"]) from error
    if not (isinstance(node, yaml.SequenceNode) and all(isinstance(row, dict) for row in rows)):
        raise ListingError([f"{source} holds something else; expected a list of boards, each a dictionary"])
    lines = [each.start_mark.line + 1 for each in node.value]
    for line, row in zip(lines, rows, strict=True):
        _check_columns(f"{source} line {line}", list(map(str, row)))
    return [
        (line, {str(name): "" if value is None else str(value) for name, value in row.items()})
        for line, row in zip(lines, rows, strict=True)
    ]


def _check_columns(where: str, columns: list[str]) -> None:
    unknown = [column for column in columns if column not in COLUMNS]
    twice = sorted({column for column in columns if columns.count(column) > 1})
    problems = [f"{where}: unknown column {column!r}; expected {', '.join(COLUMNS)}" for column in unknown]
    problems += [f"{where}: the column {column} is there twice; leave one" for column in twice]
    problems += [] if "name" in columns else [f"{where}: there is no column name; each board needs one"]
    if problems:
        raise ListingError(problems)


def _row_problems(row: Mapping[str, Any]) -> Iterator[str]:
    name, address, site = (row.get(column) or "" for column in ("name", "address", "site"))
    if len(name) > 253 or not _HOST_NAME.fullmatch(name) or name in NOT_NAMES:
        yield f"the name is {name!r}; expected lower-case letters, digits and hyphens, and none of {_listed_names()}"
    if address and not (_is_address(address) or _HOST_NAME.fullmatch(address.lower())):
        yield f"the address is {address!r}; expected an IP address or a host name"
    if site and not _SITE.fullmatch(site):
        yield f"the site is {site!r}; expected lower-case letters, digits and underscores, the first a letter"
    tiers = ["auto", *load_tiers().tiers]
    if row.get("tier") and row["tier"] not in tiers:
        yield f"the tier is {row['tier']!r}; expected one of {', '.join(tiers)}"
    if row.get("user") and not re.fullmatch(r"[a-z_][a-z0-9_-]*", row["user"]):
        yield f"the user is {row['user']!r}; expected a login name such as pi"
    for column, least, most in (("port", 1, 65535), ("other_memory_mb", 0, 2**20)):
        value = row.get(column) or ""
        if value and not (value.isascii() and value.isdigit() and least <= int(value) <= most):
            yield f"{column} is {value!r}; expected a whole number from {least} to {most}"


def _claims(board: Listed) -> Iterator[tuple[str, str]]:
    """Yield what no other board may have."""
    yield "the name", board.name
    address = board.address or board.name
    yield "the address", f"{address} port {board.port or 22}"


def _listed(row: Mapping[str, Any]) -> Listed:
    words = {column: row.get(column) or "" for column in COLUMNS}
    return Listed(
        words["name"],
        words["address"].lower(),
        int(words["port"] or 0),
        words["user"],
        words["site"],
        words["tier"],
        int(words["other_memory_mb"] or 0),
    )


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _listed_names() -> str:
    return ", ".join(sorted(NOT_NAMES))
