"""What is known of each row of the matrix: kept as JSON beside the page that shows it."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tests.matrix.rows import Row
from tests.report import PREFIX

SHOWN = ("system", "kernel", "page size", "memory", "tier", "swap", "kills", "tasks of a run that changes nothing")
"""Figures of the page, in this order; the suites record more."""


class Result(NamedTuple):
    """How the last run of a row ended."""

    date: str
    commit: str
    machine: str
    minutes: float
    passed: bool
    tests: int
    failed: int
    skipped: int
    figures: Mapping[str, str]
    """Measured values by name, from all suites of the row."""


class Suites(NamedTuple):
    """What pytest's JUnit files say together."""

    tests: int
    failed: int
    skipped: int
    figures: dict[str, str]


def read_suites(files: Iterable[Path]) -> Suites:
    """Sum JUnit files; of figures that several have, the last counts."""
    tests = failed = skipped = 0
    figures: dict[str, str] = {}
    for file in sorted(files):
        for case in ET.parse(file).iter("testcase"):
            tests += 1
            failed += case.find("failure") is not None or case.find("error") is not None
            skipped += case.find("skipped") is not None
            for entry in case.iter("property"):
                name = str(entry.get("name"))
                if name.startswith(PREFIX):
                    figures[name.removeprefix(f"{PREFIX}: ")] = str(entry.get("value"))
    return Suites(tests, failed, skipped, figures)


def load_results(path: Path) -> dict[str, Result]:
    """Return the last result of each row by name; none where nothing was ever run."""
    if not path.exists():
        return {}
    kept: dict[str, dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return {name: Result(**values) for name, values in kept.items()}


def save_results(path: Path, results: Mapping[str, Result]) -> None:
    """Write the results of all rows."""
    kept = {name: result._asdict() for name, result in sorted(results.items())}
    path.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", "utf-8")


def page(rows: Iterable[Row], results: Mapping[str, Result]) -> str:
    """Return the Markdown page of the matrix: rows that were never run are shown as such."""
    lines = [
        "# The matrix",
        "",
        "Each row is a fresh emulated board: check mode, the playbook killed at random tasks and run again until one",
        "run ends, a second run that changes nothing, the board's suite, a reboot, the suite again.",
        "`python -m tests.matrix` runs the rows of `molecule/matrix.toml` and writes this page. Its minutes are",
        "those of an emulation and no Pi's.",
        "",
        "| Row | Result | Tests | Failed | Skipped | Minutes | Date | Commit |",
        "|---|---|---:|---:|---:|---:|---|---|",
    ]
    ran: list[tuple[Row, Result]] = []
    for row in rows:
        result = results.get(row.name)
        if result is None:
            lines.append(f"| {row.name} | not run | | | | | | |")
            continue
        ran.append((row, result))
        lines.append(
            f"| {row.name} | {'passed' if result.passed else '**failed**'} | {result.tests} | {result.failed} | "
            f"{result.skipped} | {result.minutes:g} | {result.date} | {result.commit} |"
        )
    for row, result in ran:
        lines += ["", f"## {row.name}", "", f"On {result.machine}.", ""]
        lines += [f"- {name}: {result.figures[name]}" for name in SHOWN if name in result.figures]
    return "\n".join(lines) + "\n"
