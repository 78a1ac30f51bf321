"""The report of a fleet, as who is handed it reads it."""

from __future__ import annotations

import datetime
import html.parser
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fleet.plan import Host, Plan, PlanError, bearable, read_plan
from tests.fleet.pool import Run
from tests.fleet.report import Head, head, in_order, spreads, write
from tests.fleet.results import HostResult, Outcome, not_reached, read_junit, read_result
from tests.report import Figure

HOSTILE = "</td><script>alert(1)</script>|`\n# head\x00\x1b[31m{{ 7 * 7 }}"
BEGIN = datetime.datetime(2026, 11, 21, 8, 30, tzinfo=datetime.UTC)
HEAD = Head(
    BEGIN, BEGIN + datetime.timedelta(seconds=90), "mine", "make verify", "tests/board", "a machine", {"Pinch": "1"}
)


def a_test(name: str, outcome: str = "passed", *figures: Figure, why: str = "", detail: str = "") -> Outcome:
    return Outcome(name, outcome, 0.5, why, detail, list(figures))


def a_host(name: str, verdict: str = "passed", reason: str = "", *tests: Outcome) -> HostResult:
    return HostResult(name, verdict, reason, 12.0, {"board": "Raspberry Pi 4 Model B"}, list(tests))


class Page(html.parser.HTMLParser):
    """Tags and text of a page; fails on what a report must not have."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        assert tag not in {"script", "img", "link", "iframe"}
        assert not [name for name, _ in attrs if name.startswith("on") or name == "src"]

    def handle_data(self, data: str) -> None:
        self.text += data


def test_failures_come_first_and_pi_9_before_pi_10() -> None:
    hosts = [
        a_host("pi-10"),
        a_host("pi-9"),
        a_host("b", "not reached"),
        a_host("c", "failed"),
        a_host("d", "given up"),
    ]
    assert [host.name for host in in_order(hosts)] == ["c", "d", "b", "pi-9", "pi-10"]


def test_the_report_says_where_it_comes_from_and_every_figure_with_its_bound(tmp_path: Path) -> None:
    limit = a_test("limits::test_limits", "passed", Figure("memory.max", "100 MB", "= 100 MB"))
    slow = a_test("speed::test_speed", "failed", Figure("recall", "120 ms", "< 100 ms"), why="too slow", detail="E 120")
    page, text, _ = write(
        tmp_path, HEAD, [a_host("attic", "failed", "too slow", slow, limit), a_host("loft", "passed")]
    )
    for said in (Page(page.read_text("utf-8")).text, text.read_text("utf-8")):
        for word in ("2026-11-21 08:30:00 UTC", "90 s", "mine", "make verify", "a machine", "tests/board"):
            assert word in said
        for word in ("attic", "loft", "Raspberry Pi 4 Model B", "100 MB", "= 100 MB", "120 ms"):
            assert word in said
    assert "E 120" in page.read_text("utf-8")


def test_a_page_needs_nothing_but_itself(tmp_path: Path) -> None:
    page, *_ = write(tmp_path, HEAD, [a_host("attic")])
    source = page.read_text("utf-8")
    assert "http" not in source.replace("http-equiv", "")
    assert 'name="viewport"' in source
    assert "@media print" in source


def test_hostile_names_and_outputs_are_shown_and_not_obeyed(tmp_path: Path) -> None:
    test = a_test(HOSTILE, "failed", Figure(HOSTILE, HOSTILE, HOSTILE), why=HOSTILE, detail=HOSTILE)
    host = HostResult(HOSTILE, "failed", HOSTILE, 1.0, {HOSTILE: HOSTILE}, [test])
    page, text, junit = write(tmp_path, HEAD._replace(inventory=HOSTILE, command=HOSTILE), [host])
    shown = Page(page.read_text("utf-8"))
    assert "<script>alert(1)</script>" in shown.text
    assert not {"\x00", "\x1b"} & {*shown.text, *text.read_text("utf-8")}
    assert "{{ 7 * 7 }}" in shown.text
    markdown = text.read_text("utf-8")
    assert "<script" not in markdown.replace("\\<script", "")
    assert not [line for line in markdown.splitlines() if line.startswith("# head")]
    case = next(ElementTree.parse(junit).iter("testcase"))
    assert "<script>" in str(case.get("name"))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)
@given(name=st.text(), said=st.text())
def test_any_text_of_a_board_leaves_whole_documents(tmp_path: Path, name: str, said: str) -> None:
    host = a_host(name, "failed", said, a_test(said, "failed", Figure(said, said, said), why=said, detail=said))
    page, text, junit = write(tmp_path, HEAD, [host])
    tags = Page(page.read_text("utf-8")).tags
    assert tags.count("table") == 3
    rows = [line.startswith("|") for line in text.read_text("utf-8").split("\n")]
    assert (rows.count(True), rows.count(False)) == (8 + 3 + 3 + 3, 14)
    assert len(list(ElementTree.parse(junit).iter("testcase"))) == 1


def test_junit_counts_who_was_not_reached_as_an_error(tmp_path: Path) -> None:
    lost = not_reached(Host("cellar", "Connection\nrefused", {}))
    skipped = a_test("limits::test_model", "skipped", why="no model")
    *_, junit = write(tmp_path, HEAD, [lost, a_host("attic", "passed", "", a_test("limits::test_max"), skipped)])
    suites = {str(suite.get("name")): suite for suite in ElementTree.parse(junit).iter("testsuite")}
    assert (suites["cellar"].get("errors"), suites["attic"].get("errors")) == ("1", "0")
    assert (suites["attic"].get("tests"), suites["attic"].get("skipped")) == ("2", "1")
    assert lost.reason == "Connection refused"


def test_figures_of_the_fleet_are_spread_by_their_value() -> None:
    hosts = [
        a_host(name, "passed", "", a_test("t", "passed", Figure("anonymous", value, bound)))
        for name, value, bound in (("a", "9 MB", "≤ 40 MB"), ("b", "31 MB", "≤ 82 MB"), ("c", "120 MB", "≤ 82 MB"))
    ]
    (spread,) = spreads(hosts)
    assert (spread.least, spread.most, spread.bounds, spread.hosts) == ("9 MB", "120 MB", "≤ 40 MB, ≤ 82 MB", 3)


def pytest_of(tmp_path: Path, code: str, status: int | None = None) -> HostResult:
    """Run real tests and return what the report makes of them."""
    (tmp_path / "test_it.py").write_text(code, "utf-8")
    run = Run(Host("attic", "", {}), tmp_path, 3.0, status)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "no:cacheprovider",
        f"--rootdir={tmp_path}",
        "-o",
        "junit_family=xunit1",
    ]
    done = subprocess.run(
        [*command, f"--junitxml={run.junit}", "test_it.py"], cwd=tmp_path, capture_output=True, text=True
    )
    run.log.write_text(done.stdout, "utf-8")
    return read_result(run._replace(status=done.returncode if status is None else None), 60)


def test_what_pytest_says_arrives_with_figures_and_reason(tmp_path: Path) -> None:
    result = pytest_of(
        tmp_path,
        "import pytest\n"
        "def test_good(record_property):\n    record_property('figure: memory.max', '100 MB (= 100 MB)')\n"
        "def test_bad():\n    assert 1 == 2, 'one is not two'\n"
        "def test_left_out():\n    pytest.skip('no model')\n"
        "@pytest.fixture\ndef broken():\n    raise OSError('no tunnel')\n"
        "def test_without_a_board(broken):\n    pass\n",
    )
    assert result.verdict == "failed"
    assert "one is not two" in result.reason
    assert [test.outcome for test in result.tests] == ["passed", "failed", "skipped", "failed"]
    assert result.tests[0].figures == [Figure("memory.max", "100 MB", "= 100 MB")]
    assert "no tunnel" in result.tests[3].why


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("test_a[ansible://pi-001]", "board::test_a"),
        ("test_a[ansible://pi-001-/etc/x-root:-420]", "board::test_a[/etc/x-root:-420]"),
        ("test_a", "board::test_a"),
    ],
)
def test_the_name_of_a_test_is_said_without_its_board(tmp_path: Path, name: str, short: str) -> None:
    case = f'<testsuites><testsuite><testcase classname="tests.board" name="{name}" time="1"/></testsuite></testsuites>'
    (tmp_path / "junit.xml").write_text(case, "utf-8")
    _, (test,) = read_junit(tmp_path / "junit.xml", "pi-001")
    assert test.name == short


def test_tests_that_never_began_are_no_success(tmp_path: Path) -> None:
    result = pytest_of(tmp_path, "import nowhere\n")
    assert result.verdict == "failed"
    result = pytest_of(tmp_path, "")
    assert (result.verdict, result.count("passed")) == ("failed", 0)
    assert "status 5" in result.reason


def test_a_host_that_was_given_up_says_how_far_it_came(tmp_path: Path) -> None:
    run = Run(Host("attic", "", {}), tmp_path, 60.0, None)
    result = read_result(run, 60)
    assert (result.verdict, result.reason) == (
        "given up",
        "the tests were not done after 60 s; 0 of them have a result",
    )


ASKED = {
    "inventory": "mine",
    "command": "make verify",
    "suites": "tests/board",
    "parallel": "0",
    "forks": 20,
    "limit_s": 60,
    "reports": "",
    "hosts": [{"name": "attic", "why": "", "variables": {}}],
}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"suites": "tests/bord"}, "verify_suites names tests/bord; expected folders or files below tests/"),
        ({"suites": ["/etc"]}, "verify_suites names /etc"),
        ({"suites": ""}, "verify_suites is empty"),
        ({"parallel": "many"}, "verify_parallel is 'many'; expected a whole number of at least 0"),
        ({"limit_s": 0}, "verify_limit_s is 0; expected a whole number of at least 1"),
        ({"hosts": []}, "no host in the group pinch"),
    ],
)
def test_what_cannot_be_verified_is_refused_with_a_sentence(change: dict[str, object], said: str) -> None:
    with pytest.raises(PlanError) as refused:
        read_plan({**ASKED, **change})
    assert said in str(refused.value)


def test_a_list_of_suites_may_be_words(tmp_path: Path) -> None:
    plan = read_plan({**ASKED, "suites": "tests/board tests/budget", "reports": str(tmp_path)})
    assert isinstance(plan, Plan)
    assert (plan.suites, plan.reports, plan.parallel) == (["tests/board", "tests/budget"], tmp_path, 1)
    assert head(plan, BEGIN).suites == "tests/board tests/budget"


def test_never_more_at_once_than_forks_or_hosts_and_at_least_one() -> None:
    assert bearable(100, 3) <= 3
    assert bearable(1, 20) == 1
    assert bearable(100, 0) == 1
