"""The report of a fleet: HTML and Markdown for people, JUnit for machines."""

from __future__ import annotations

import datetime
import platform
import re
import subprocess
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from tests.benchmarks.machine import machine
from tests.cache import REPOSITORY
from tests.report import PREFIX, Figure

from .plan import Plan
from .results import VERDICTS, HostResult, clean

TEMPLATES = Path(__file__).with_name("templates")
LONGEST_DETAIL = 6000
"""Characters of a failure that the report shows; the whole of it is in the host's own log."""


class Head(NamedTuple):
    """Where a report comes from."""

    begin: datetime.datetime
    end: datetime.datetime
    inventory: str
    command: str
    suites: str
    machine: str
    versions: dict[str, str]

    @property
    def seconds(self) -> float:
        """How long the verification took."""
        return (self.end - self.begin).total_seconds()


class Spread(NamedTuple):
    """A figure over the fleet: its least and its greatest value, and the bounds it was held against."""

    name: str
    hosts: int
    least: str
    most: str
    bounds: str


def head(plan: Plan, begin: datetime.datetime) -> Head:
    """Describe the verification that began at `begin` and ends now."""
    versions = {
        "Pinch": _commit(),
        "ansible-core": version("ansible-core"),
        "testinfra": version("pytest-testinfra"),
        "Python": platform.python_version(),
    }
    now = datetime.datetime.now(datetime.UTC)
    return Head(begin, now, plan.inventory, plan.command, " ".join(plan.suites), machine(), versions)


def in_order(hosts: Sequence[HostResult]) -> list[HostResult]:
    """Return hosts in the order of the report: failures first, then by name, numbers in it by their value."""
    return sorted(hosts, key=lambda host: (VERDICTS.index(host.verdict), _natural(host.name)))


def spreads(hosts: Sequence[HostResult]) -> list[Spread]:
    """Return what each figure is over the fleet."""
    found: dict[str, list[Figure]] = {}
    for host in hosts:
        for test in host.tests:
            for figure in test.figures:
                found.setdefault(figure.name, []).append(figure)
    return [_spread(name, figures) for name, figures in found.items()]


def write(folder: Path, about: Head, hosts: Sequence[HostResult]) -> list[Path]:
    """Write `report.html`, `report.md` and `junit.xml` into `folder` and return their paths."""
    ordered = in_order(hosts)
    counts = {verdict: sum(host.verdict == verdict for host in ordered) for verdict in VERDICTS}
    words = {"head": about, "hosts": ordered, "counts": counts, "spreads": spreads(ordered), "longest": LONGEST_DETAIL}
    paths = [folder / name for name in ("report.html", "report.md", "junit.xml")]
    for path in paths[:2]:
        path.write_text(clean(_environment().get_template(f"{path.name}.j2").render(words)), "utf-8")
    ElementTree.ElementTree(_junit(about, ordered)).write(paths[2], encoding="utf-8", xml_declaration=True)
    return paths


def escape_markdown(text: object) -> str:
    """Return `text` on one line, as Markdown that shows it and nothing else."""
    line = " ".join(str(text).split())
    return "".join(f"\\{sign}" if sign in "\\`*[]<>|#&" else sign for sign in line)


def _environment() -> Environment:
    loaded = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=lambda name: str(name).endswith(".html.j2"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    loaded.filters["md"] = escape_markdown
    loaded.filters["anchor"] = lambda text: re.sub(r"[^a-z0-9]+", "-", str(text).lower())
    loaded.globals["style"] = Markup((TEMPLATES / "report.css").read_text("utf-8"))
    return loaded


def _junit(about: Head, hosts: Sequence[HostResult]) -> ElementTree.Element:
    root = ElementTree.Element("testsuites", name="fleet", time=f"{about.seconds:.1f}")
    for host in hosts:
        suite = ElementTree.SubElement(root, "testsuite", name=clean(host.name), timestamp=about.begin.isoformat())
        for test in host.tests:
            case = ElementTree.SubElement(suite, "testcase", classname=clean(host.name), name=clean(test.name))
            case.set("time", f"{test.seconds:.2f}")
            _properties(case, test.figures)
            if test.outcome != "passed":
                kind = "failure" if test.outcome == "failed" else "skipped"
                ElementTree.SubElement(case, kind, message=clean(test.why)).text = clean(test.detail)
        if host.verdict in {"not reached", "given up"} or (host.verdict == "failed" and not host.count("failed")):
            case = ElementTree.SubElement(suite, "testcase", classname=clean(host.name), name=host.verdict)
            ElementTree.SubElement(case, "error", message=clean(host.reason))
        suite.set("tests", str(len(suite)))
        suite.set("failures", str(host.count("failed")))
        suite.set("skipped", str(host.count("skipped")))
        suite.set("errors", str(len(suite.findall("testcase/error"))))
        suite.set("time", f"{host.seconds:.1f}")
    return root


def _properties(case: ElementTree.Element, figures: Sequence[Figure]) -> None:
    if figures:
        held = ElementTree.SubElement(case, "properties")
        for figure in figures:
            value = figure.value + (f" ({figure.bound})" if figure.bound else "")
            ElementTree.SubElement(held, "property", name=f"{PREFIX}: {clean(figure.name)}", value=clean(value))


def _spread(name: str, figures: Sequence[Figure]) -> Spread:
    ordered = sorted(figures, key=lambda figure: _natural(figure.value))
    bounds = ", ".join(sorted({figure.bound for figure in figures if figure.bound}, key=_natural))
    return Spread(name, len(figures), ordered[0].value, ordered[-1].value, bounds)


def _natural(text: str) -> list[tuple[int, float, str]]:
    """Return a key by which 9 comes before 10."""
    return list(_pieces(text))


def _pieces(text: str) -> Iterator[tuple[int, float, str]]:
    for piece in re.split(r"([0-9]+(?:\.[0-9]+)?)", text):
        if re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", piece):
            yield (0, float(piece), "")
        elif piece:
            yield (1, 0.0, piece.lower())


def _commit() -> str:
    asked = ["git", "-C", str(REPOSITORY), "describe", "--always", "--dirty", "--abbrev=12"]
    done = subprocess.run(asked, capture_output=True, text=True)
    return done.stdout.strip() or "not a checkout"
