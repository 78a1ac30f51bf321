"""Results of a host, read from what pytest wrote."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from tests.report import PREFIX, Figure, read_figure

from .about import PREFIX as ABOUT
from .plan import Host
from .pool import Run

VERDICTS = ("failed", "given up", "not reached", "passed")
"""How a host may end, the worst first."""
_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Outcome(NamedTuple):
    """A test: `outcome` is passed, failed or skipped, `why` one line, `detail` all that pytest said."""

    name: str
    outcome: str
    seconds: float
    why: str
    detail: str
    figures: list[Figure]


class HostResult(NamedTuple):
    """A host: `reason` says in a sentence why it did not pass."""

    name: str
    verdict: str
    reason: str
    seconds: float
    about: dict[str, str]
    tests: list[Outcome]

    def count(self, outcome: str) -> int:
        """Return how many tests ended so."""
        return sum(test.outcome == outcome for test in self.tests)


def not_reached(host: Host) -> HostResult:
    """Return the result of a host that no test could look at."""
    return HostResult(host.name, "not reached", clean(" ".join(host.why.split())), 0.0, {}, [])


def read_result(run: Run, limit_s: float) -> HostResult:
    """Return the result of a host whose tests ran, or were given up after `limit_s` seconds."""
    about, tests = read_junit(run.junit, run.host.name) if run.junit.exists() else ({}, [])
    failed = [test for test in tests if test.outcome == "failed"]
    if run.status is None:
        verdict, reason = "given up", f"the tests were not done after {limit_s:g} s; {len(tests)} of them have a result"
    elif failed:
        verdict, reason = "failed", f"{failed[0].name}: {failed[0].why}"
    elif run.status or not any(test.outcome == "passed" for test in tests):
        verdict, reason = "failed", f"pytest ended with status {run.status}: {_last_line(run.log)}"
    else:
        verdict, reason = "passed", ""
    return HostResult(run.host.name, verdict, reason, run.seconds, about, tests)


def read_junit(file: Path, host: str) -> tuple[dict[str, str], list[Outcome]]:
    """Return what a JUnit file of pytest says about the board `host`, and its tests."""
    suite = next(ElementTree.parse(file).iter("testsuite"))
    said = [(str(each.get("name")), str(each.get("value"))) for each in suite.findall("properties/property")]
    about = {name.removeprefix(f"{ABOUT}: "): value for name, value in said if name.startswith(f"{ABOUT}: ")}
    return about, [_test(case, host) for case in suite.findall("testcase")]


def clean(text: str) -> str:
    """Return `text` without what XML cannot hold."""
    return _NOT_IN_XML.sub("\ufffd", text)


def _test(case: ElementTree.Element, host: str) -> Outcome:
    bad = [*case.findall("failure"), *case.findall("error")]
    skipped = case.find("skipped")
    named = [(str(each.get("name")), str(each.get("value"))) for each in case.findall("properties/property")]
    found = bad[0] if bad else skipped
    outcome = "failed" if bad else "skipped" if skipped is not None else "passed"
    lines = str(found.get("message") or found.text or "").strip().splitlines() if found is not None else []
    return Outcome(
        name=_short(str(case.get("classname")), str(case.get("name")), host),
        outcome=outcome,
        seconds=float(case.get("time") or 0),
        why=lines[0][:300] if lines else "",
        detail="\n".join(str(each.text or "") for each in bad),
        figures=[read_figure(name, value) for name, value in named if name.startswith(f"{PREFIX}: ")],
    )


def _short(module: str, name: str, host: str) -> str:
    """Return the test's name without the host, which is said once for all its tests."""
    test, _, parameters = name.partition("[")
    rest = parameters.removesuffix("]").removeprefix(f"ansible://{host}").strip("-")
    return f"{module.rpartition('.')[2]}::{test}" + (f"[{rest}]" if rest else "")


def _last_line(log: Path) -> str:
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return clean(lines[-1])[:300] if lines else "it said nothing"
