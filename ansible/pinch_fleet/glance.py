"""The memory of a whole inventory at a glance: a row for each host, and the sums."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

VERDICTS = ("fits", "refused", "not reached")


class Row(NamedTuple):
    """What preflight found out about a host; sizes in MB, None where it did not get so far."""

    host: str
    verdict: str
    reason: str
    tier: str
    memory_mb: int | None
    nominal_mb: int | None
    left_mb: int | None
    budget_mb: dict[str, int]


def make_rows(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]]) -> list[Row]:
    """Return a row for each of `hosts`, from the variables that preflight.yml has left them.

    Args:
        hosts: names, in the order of the inventory.
        variables: by name of the host; `preflight_plan` is the role's, `fleet_reached` and `fleet_refusal`
            are the playbook's.
    """
    return [_row(str(host), variables[host]) for host in hosts]


def as_text(rows: Sequence[Row]) -> str:
    """Return an aligned table, the reasons of those that do not fit, and the sums."""
    table = [[_plain(cell) for cell in cells] for cells in _table(rows)]
    widths = [max(len(line[column]) for line in table) for column in range(len(table[0]))]
    lines = []
    for cells in table:
        aligned = [
            cell.ljust(width) if _worded(column, len(widths)) else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
        ]
        lines.append("  ".join(aligned).rstrip())
    reasons = [f"{_plain(row.host)}: {_plain(row.reason)}" for row in rows if row.reason]
    return "\n".join([*lines, "", *reasons, *([""] if reasons else []), summary(rows)])


def as_markdown(rows: Sequence[Row]) -> str:
    """Return the same as a Markdown document."""
    first, *others = [[_escaped(cell) for cell in cells] for cells in _table(rows)]
    rule = ["---" if _worded(column, len(first)) else "---:" for column in range(len(first))]
    lines = ["# Memory of the fleet", "", *(_line(cells) for cells in (first, rule, *others)), ""]
    lines += [f"- **{_escaped(row.host)}**: {_escaped(row.reason)}" for row in rows if row.reason]
    return "\n".join([*lines, "", summary(rows), "", "Sizes in MB.", ""])


def as_json(rows: Sequence[Row]) -> str:
    """Return the same as JSON: `hosts` and the count of each verdict under `totals`."""
    counted = {verdict: sum(row.verdict == verdict for row in rows) for verdict in VERDICTS}
    return (
        json.dumps({"hosts": [row._asdict() for row in rows], "totals": counted}, indent=1, ensure_ascii=False) + "\n"
    )


def summary(rows: Sequence[Row]) -> str:
    """Return one sentence about all rows."""
    fits, refused, lost = (sum(row.verdict == verdict for row in rows) for verdict in VERDICTS)
    return f"{len(rows)} hosts: {fits} fit, {refused} refused, {lost} not reached"


def _row(host: str, variables: Mapping[str, Any]) -> Row:
    plan = variables.get("preflight_plan") or {}
    reached = variables.get("fleet_reached") or {}
    unreachable = str(reached.get("msg") or "no answer") if reached.get("unreachable") else ""
    refusal = str(variables.get("fleet_refusal") or "")
    if not (plan or unreachable or refusal):
        refusal = "preflight said nothing about this host; run again with -v"
    verdict = "not reached" if unreachable else "refused" if refusal else "fits"
    return Row(
        host,
        verdict,
        " ".join((unreachable or refusal).split()),
        str(plan.get("tier") or ""),
        plan.get("memory_mb"),
        plan.get("nominal_mb"),
        plan.get("left_mb"),
        {str(part): int(size) for part, size in (plan.get("budget_mb") or {}).items()},
    )


def _table(rows: Sequence[Row]) -> list[list[str]]:
    parts = list(dict.fromkeys(part for row in rows for part in row.budget_mb))
    table = [["host", "tier", "MemTotal", "nominal", *parts, "left", "verdict"]]
    for row in rows:
        sizes = [row.memory_mb, row.nominal_mb, *(row.budget_mb.get(part) for part in parts), row.left_mb]
        table.append([row.host, row.tier, *("" if size is None else str(size) for size in sizes), row.verdict])
    planned = [row for row in rows if row.budget_mb]
    sums = [
        sum(row.memory_mb or 0 for row in planned),
        sum(row.nominal_mb or 0 for row in planned),
        *(sum(row.budget_mb.get(part, 0) for row in planned) for part in parts),
        sum(row.left_mb or 0 for row in planned),
    ]
    return [*table, ["all that were read", "", *map(str, sums), ""]]


def _worded(column: int, columns: int) -> bool:
    """Say whether a column holds words, which stand left, while numbers stand right."""
    return column in {0, 1, columns - 1}


def _plain(text: str) -> str:
    """Return `text` without what would move a terminal's cursor."""
    return "".join(sign for sign in text if unicodedata.category(sign)[0] != "C")


def _escaped(text: str) -> str:
    """Return `text` as Markdown that shows it and nothing else."""
    return "".join(f"\\{sign}" if sign in "\\`*[]<>|#&" else sign for sign in _plain(text))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
