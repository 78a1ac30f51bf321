"""`pinch budget`: what each account may hold, what it holds, and what nobody explains."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import Exit
from pinch.cli.output import Output
from pinch.cli.text import safe, size, table

_NEAR_PERCENT = 90


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Print the ledger of the running service."""
    budget = context.client.json("GET", "/v1/budget")
    if context.as_json:
        context.output.document(budget)
    else:
        _print(budget, context.output)
    return Exit.OK


def _print(budget: Mapping[str, Any], output: Output) -> None:
    rows = [["account", "limit", "used", ""]]
    for account in budget["accounts"]:
        limit, used = account["limit_bytes"], account["used_bytes"]
        rows.append([safe(account["name"]), size(limit), size(used), _percent(used, limit)])
    limits = sum(account["limit_bytes"] for account in budget["accounts"])
    used = sum(account["used_bytes"] for account in budget["accounts"])
    rows.append(["accounts together", size(limits), size(used), _percent(used, limits)])
    anonymous, allowed = budget["anonymous_bytes"], budget["budget_bytes"]
    rows += [
        ["unattributed", "", size(budget["unattributed_bytes"]), ""],
        ["anonymous memory", size(allowed), size(anonymous), _percent(anonymous, allowed)],
        ["mapped files", "", size(budget["mapped_bytes"]), ""],
        ["resident", "", size(budget["rss_bytes"]), ""],
    ]
    unit = budget.get("cgroup")
    if unit:
        high, limit = unit["high_bytes"], unit["max_bytes"]
        rows += [
            [
                "unit, MemoryHigh",
                size(high),
                size(unit["current_bytes"]),
                _percent(unit["current_bytes"], high),
            ],
            [
                "unit, MemoryMax",
                size(limit),
                size(unit["current_bytes"]),
                _percent(unit["current_bytes"], limit),
            ],
            ["unit, swapped out", "", size(unit["swap_bytes"]), ""],
        ]
    lines = table(rows, right=frozenset({1, 2, 3}))
    output.lines([output.style(lines[0], "bold")])
    for row, line in zip(rows[1:], lines[1:], strict=True):
        near = row[3].endswith("%") and int(row[3][:-1]) >= _NEAR_PERCENT
        output.lines([output.style(line, "yellow") if near else line])
    output.lines([f"tier {safe(str(budget['tier']))}; pressure is read from {safe(str(budget['pressure_signal']))}"])
    if not unit:
        output.lines(["no memory cgroup: the kernel enforces no limit on this service"])
    elif unit["oom_kill"]:
        output.lines([output.style(f"the kernel has killed in this unit {unit['oom_kill']} times", "red")])


def _percent(used: int | None, limit: int | None) -> str:
    return f"{round(100 * used / limit)}%" if limit and used is not None else ""
