"""The comparison of profiles: what may be compared, and what the table says of runs."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinch.tiers import MEBIBYTE, Tier, load_tiers

from tests.budget.scenario import Limits, Run
from tests.cache import REPOSITORY
from tests.profiles.comparison import ANSWERS, Measured, conclusions, measured, report
from tests.profiles.profile import Profile, ProfileError, parse, parse_all

LIGHT: Tier = load_tiers().named("light")


def a_sample(**changes: Any) -> dict[str, Any]:
    """Return what the load reads in one second."""
    sizes = {"anon": 50 * MEBIBYTE, "file": 40 * MEBIBYTE, "kernel": 5 * MEBIBYTE, "current": 95 * MEBIBYTE, "peak": 0}
    counts = {"refaults": 10, "swap": 0, "swapped_in": 1000, "swapped_out": 5000, "over_high": 0, "over_max": 0}
    return {**sizes, **counts, "full_avg60": 0.2, "oom_kill": 0, "parent_oom_kill": 0, **changes}


def a_run(*, recalls: int = 600, latency: float = 80.0, first: float = 4.0, **last: Any) -> Run:
    """Return a run that held, with `last` in its last sample."""
    found = {
        "latencies_ms": [latency] * recalls,
        "samples": [a_sample() for _ in range(59)] + [a_sample(**last)],
        "answers": 30,
        "ingested": 40,
        "degraded": 0,
        "unanswered": 0,
        "refused": {},
    }
    limits = Limits(98 * MEBIBYTE, 100 * MEBIBYTE, 64 * MEBIBYTE)
    return Run(limits, "a", "a", first, model_loaded=True, found=found, oom_kills_of_slice=0)


def runs(**counts: list[int]) -> list[Measured]:
    """Return runs by profile with so many recalls each, alternating."""
    rounds = max(map(len, counts.values()))
    return [
        measured(name, a_run(recalls=answers[number]), LIGHT)
        for number in range(rounds)
        for name, answers in counts.items()
    ]


def test_a_bare_word_is_a_sysctl_profile_and_variables_are_said_by_name() -> None:
    assert parse("host-report") == Profile("host-report", {"sysctl_profile": "host-report"})
    assert parse("keep,readahead_kb=128").variables == {"sysctl_profile": "keep", "readahead_kb": 128}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("zram", "sysctl_profile is 'zram'; expected one of auto, host-report, keep"),
        ("readahead=3", "no role has a variable readahead; expected one of"),
        ("readahead_kb=3k", "readahead_kb is '3k'; expected a whole number"),
        ("auto,sysctl_profile=keep", "says sysctl_profile twice"),
        ("sysctl_values=1", "sysctl_values is a dict"),
        ("", "sysctl_profile is ''"),
    ],
)
def test_what_the_roles_would_not_know_is_refused(text: str, said: str) -> None:
    with pytest.raises(ProfileError) as refused:
        parse(text)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("texts", "said"),
    [(["auto"], "1 profile to compare"), (["auto", "sysctl_profile=auto"], "are the same"), ([], "0 profile")],
)
def test_it_takes_two_different_profiles(texts: list[str], said: str) -> None:
    with pytest.raises(ProfileError, match=said):
        parse_all(texts)


def test_pages_swapped_are_those_of_the_run_and_not_of_the_boards_life() -> None:
    found = measured("auto", a_run(swapped_in=1250, swapped_out=5100, refaults=77, swap=3 * MEBIBYTE), LIGHT)
    assert found.value("pages swapped in, whole board") == 250
    assert found.value("pages swapped out, whole board") == 100
    assert found.value("file pages read again") == 77
    assert found.value("swap of the unit, peak") == 3


def test_the_table_has_medians_and_times_as_ratio_to_the_first() -> None:
    fast = [measured("auto", a_run(recalls=count, latency=80), LIGHT) for count in (600, 640, 900)]
    slow = [measured("host-report", a_run(recalls=count, latency=100, first=5), LIGHT) for count in (500, 510, 520)]
    text = report([each for pair in zip(fast, slow, strict=True) for each in pair], {"Board": "zero2w"})
    lines = text.splitlines()
    assert "- Board: zero2w" in lines
    assert "Medians of 3 runs each; times as ratio to auto." in lines
    assert "| Figure | auto | host-report |" in lines
    assert f"| {ANSWERS} | 640 | 510 |" in lines
    assert "| recall p95 | 80 ms | × 1.25 |" in lines
    assert "| start to first recall, page cache cold | 4 s | × 1.25 |" in lines
    assert sum(line.endswith("| yes |") for line in lines) == 6
    columns = {line.count("|") for line in lines if line.startswith(("| 1 |", "| Run |"))}
    assert len(columns) == 1


def test_a_time_that_never_came_is_said_and_no_ratio_made_of_it() -> None:
    text = report(
        [
            measured("auto", a_run(), LIGHT),
            measured("keep", a_run(recalls=0, first=math.inf), LIGHT),
        ],
        {},
    )
    assert "| start to first recall, page cache cold | 4 s | never |" in text
    assert "| recall p50 | 80 ms | never |" in text


def test_a_profile_under_which_the_budget_broke_is_named() -> None:
    broken = measured("host-report", a_run(full_avg60=7.5), LIGHT)
    said = conclusions([measured("auto", a_run(), LIGHT), broken])
    assert said[0].startswith("Under host-report the budget did not hold: memory.pressure full avg60 reached 7.50 %")


@pytest.mark.parametrize(
    ("first", "second", "said"),
    [
        ([600, 610], [700, 720], "Every run under b answered more recalls than any under a: +17.4% in the median."),
        ([600, 610], [500, 510], "Every run under b answered fewer recalls than any under a: -16.5% in the median."),
        ([600, 710], [700, 620], "b and a answered as many recalls within the spread of their runs (620 to 700 and"),
    ],
)
def test_a_difference_is_one_only_beyond_the_spread_of_the_runs(first: list[int], second: list[int], said: str) -> None:
    assert conclusions(runs(a=first, b=second))[-1].startswith(said)


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=4), st.lists(st.integers(1, 2000), min_size=1, max_size=4))
def test_every_run_is_in_the_report(first: list[int], second: list[int]) -> None:
    both = [measured(name, a_run(recalls=n), LIGHT) for name, ns in (("a", first), ("b", second)) for n in ns]
    rows = [line for line in report(both, {}).splitlines() if line.endswith(("| yes |", "| no |"))]
    assert len(rows) == len(first) + len(second)


@pytest.mark.parametrize(
    ("profiles", "said"),
    [(["auto", "best"], "expected one of auto, host-report, keep"), (["auto", "keep"], "is no inventory with boards")],
)
def test_what_cannot_be_compared_is_said_in_a_sentence(profiles: list[str], said: str) -> None:
    command = [sys.executable, "-m", "tests.profiles", *profiles, "--inventory", "/nonexistent"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr
