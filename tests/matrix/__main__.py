"""`python -m tests.matrix [ROW…]`: run rows of the matrix, all of them unless some are named.

A row that fails does not keep the others from running; its log is in `reports/matrix/`.
"""

from __future__ import annotations

import argparse
import datetime
import os
import subprocess
import sys
import time
from pathlib import Path

from tests.benchmarks.machine import machine
from tests.cache import REPOSITORY
from tests.matrix.record import Result, load_results, page, read_suites, save_results
from tests.matrix.rows import MatrixError, Row, load_rows

RESULTS = REPOSITORY / "docs" / "matrix.json"
PAGE = REPOSITORY / "docs" / "matrix.md"
REPORTS = REPOSITORY / "reports" / "matrix"


def main() -> int:
    """Run, record and return 1 where a row failed, 2 where there is no such row."""
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("rows", nargs="*", metavar="ROW")
    named = parser.parse_args().rows
    try:
        rows = load_rows()
        chosen = choose(rows, named)
    except MatrixError as error:
        print(error, file=sys.stderr)
        return 2
    results = load_results(RESULTS)
    for row in chosen:
        print(f"{row.name}: running, log in {REPORTS / row.name}.log", flush=True)
        result = results[row.name] = run(row)
        said = "passed" if result.passed else "FAILED"
        print(f"{row.name}: {said}, {result.tests} tests, {result.failed} failed, {result.minutes:g} min", flush=True)
        save_results(RESULTS, {name: kept for name, kept in results.items() if name in {row.name for row in rows}})
        PAGE.write_text(page(rows, results), "utf-8")
    return int(not all(results[row.name].passed for row in chosen))


def choose(rows: list[Row], named: list[str]) -> list[Row]:
    """Return the rows of those names, all where none is named.

    Raises:
        MatrixError: a name that no row has.
    """
    known = {row.name: row for row in rows}
    if unknown := [name for name in named if name not in known]:
        raise MatrixError(f"there is no row {', '.join(unknown)}; known: {', '.join(known)}")
    return [known[name] for name in named] or rows


def run(row: Row) -> Result:
    """Run one row as its Molecule scenario and return how it ended."""
    folder = REPORTS / row.name
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*"):
        old.unlink()
    environment = {**os.environ, **row.environment, "PYTEST_ADDOPTS": f"--reports={folder}"}
    begun = time.monotonic()
    with Path(f"{folder}.log").open("wb") as log:
        command = ["molecule", "test", "-s", "board"]
        status = subprocess.run(
            command, cwd=REPOSITORY, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False
        ).returncode
    suites = read_suites(folder.glob("*.xml"))
    return Result(
        date=f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}",
        commit=_commit(),
        machine=machine(),
        minutes=round((time.monotonic() - begun) / 60, 1),
        passed=status == 0 and suites.tests > 0,
        **suites._asdict(),
    )


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or "unknown"


if __name__ == "__main__":
    raise SystemExit(main())
