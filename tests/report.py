"""Reports: every figure a test records, as Markdown, beside pytest's own JUnit file."""

from __future__ import annotations

import datetime
import math
import platform
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from attrs import define, field, frozen

from tests.cache import REPOSITORY

PREFIX = "figure"


@frozen
class Figure:
    """A measured number, and the bound it was held against."""

    name: str
    value: str
    bound: str = ""


class Figures:
    """What a test hands its figures to; they end in the JUnit file and in the Markdown report."""

    def __init__(self, record: Callable[[str, object], None]) -> None:
        self._record = record

    def add(self, name: str, value: float | str, unit: str = "", bound: str = "") -> None:
        """Record a figure.

        Args:
            name: what was measured.
            value: the number, infinite where it never came to be measured, or a word.
            unit: such as `MB` or `ms`.
            bound: what it is held against, as a reader would write it: `≤ 60 MB`.
        """
        if isinstance(value, float) and math.isinf(value):
            said = "never"
        else:
            number = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
            said = f"{number} {unit}".strip()
        self._record(f"{PREFIX}: {name}", said + (f" ({bound})" if bound else ""))


@define
class _Outcome:
    seconds: float
    result: str
    figures: list[Figure]
    why: str = ""


@define(eq=False)
class Reporter:
    """Collects results while pytest runs and writes the report at its end."""

    folder: Path
    outcomes: dict[str, _Outcome] = field(factory=dict)
    begin: datetime.datetime = field(factory=lambda: datetime.datetime.now(datetime.UTC))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keep the result of a test, and of a fixture that failed."""
        if report.when != "call" and report.passed:
            return
        figures = [read_figure(name, value) for name, value in report.user_properties if str(name).startswith(PREFIX)]
        why = str(report.longrepr).strip().splitlines()[-1] if report.failed else ""
        self.outcomes[report.nodeid] = _Outcome(report.duration, report.outcome, figures, why)

    def pytest_sessionfinish(self) -> None:
        """Write the report."""
        if not self.outcomes:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path.write_text("\n".join(self._lines()) + "\n", "utf-8")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Show figures and the place of the report on the terminal."""
        if not self.outcomes:
            return
        terminalreporter.section("figures")
        for node, outcome in self.outcomes.items():
            for figure in outcome.figures:
                terminalreporter.line(f"{_short(node)}: {figure.name}: {figure.value} {figure.bound}".rstrip())
        terminalreporter.line(f"report: {self.path}")

    @property
    def path(self) -> Path:
        """File of the Markdown report."""
        return self.folder / f"{self.begin:%Y%m%d-%H%M%S}.md"

    def _lines(self) -> Iterator[str]:
        failed = sum(outcome.result == "failed" for outcome in self.outcomes.values())
        yield "# Pinch: verification report"
        yield ""
        yield f"{self.begin:%Y-%m-%d %H:%M:%S} UTC, verified from {platform.node()} ({platform.machine()})."
        yield f"{len(self.outcomes)} tests, {failed} failed."
        yield ""
        yield "| Figure | Measured | Bound | Test |"
        yield "|---|---:|---:|---|"
        for node, outcome in self.outcomes.items():
            for figure in outcome.figures:
                yield f"| {figure.name} | {figure.value} | {figure.bound} | `{_short(node)}` |"
        yield ""
        yield "| Test | Result | Seconds |"
        yield "|---|---|---:|"
        for node, outcome in self.outcomes.items():
            note = f": {_cell(outcome.why)}" if outcome.why else ""
            yield f"| `{_short(node)}` | {outcome.result}{note} | {outcome.seconds:.1f} |"


def read_figure(name: str, value: object) -> Figure:
    """Return the figure that a test has recorded as a property of this name and value."""
    matched = re.fullmatch(r"(.*?)(?: \((.*)\))?", str(value))
    said, bound = matched.groups() if matched else (str(value), "")
    return Figure(name.removeprefix(f"{PREFIX}: "), said, bound or "")


def _short(node: str) -> str:
    path, colons, test = node.partition("::")
    return path.rpartition("/")[2] + colons + test.replace("[ansible://", "[")


def _cell(text: str) -> str:
    return text.replace("|", "\\|")[:200]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that says where reports go."""
    parser.addoption(
        "--reports",
        default=str(REPOSITORY / "reports"),
        metavar="DIR",
        help="folder for the Markdown report and the JUnit file (default: reports/ in the checkout)",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Write a JUnit file beside the Markdown one unless another place is named."""
    reporter = Reporter(Path(config.getoption("--reports")))
    if not config.option.xmlpath and not config.option.collectonly:
        config.option.xmlpath = str(reporter.path.with_suffix(".xml"))
    config.pluginmanager.register(reporter, "pinch-reporter")
