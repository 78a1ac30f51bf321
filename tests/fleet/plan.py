"""What verify.yml asks for: hosts, suites and bounds, as JSON."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from tests.cache import REPOSITORY

PROCESS_MB = 160
"""Memory that the tests of a host are reckoned with; `python -m tests.fleet.hundred` prints what all of them take."""
PER_CORE = 4
"""Processes a core: most of the time they wait for a board."""


class PlanError(ValueError):
    """What was asked for cannot be done; the message says what to change."""


class Host(NamedTuple):
    """A board to verify; `why` says why it was not reached, where it was not."""

    name: str
    why: str
    variables: dict[str, Any]


class Plan(NamedTuple):
    """A verification; `limit_s` is what the tests of one host may take in all."""

    inventory: str
    command: str
    suites: list[str]
    parallel: int
    limit_s: float
    reports: Path
    hosts: list[Host]


def read_plan(asked: Mapping[str, Any]) -> Plan:
    """Check what verify.yml asks for.

    Raises:
        PlanError: it cannot be done.
    """
    suites = _suites(asked["suites"])
    hosts = [Host(str(host["name"]), str(host["why"]), dict(host["variables"])) for host in asked["hosts"]]
    if not hosts:
        raise PlanError("the inventory has no host in the group pinch; name some in its hosts.yml")
    parallel = _whole("verify_parallel", asked["parallel"])
    return Plan(
        inventory=str(asked["inventory"]),
        command=str(asked["command"]),
        suites=suites,
        parallel=parallel or bearable(len(hosts), int(asked["forks"])),
        limit_s=_whole("verify_limit_s", asked["limit_s"], least=1),
        reports=Path(str(asked["reports"] or REPOSITORY / "reports")).expanduser(),
        hosts=hosts,
    )


def bearable(hosts: int, forks: int) -> int:
    """Return how many hosts may be verified at once: by Ansible's forks, the cores and half of the free memory."""
    available = psutil.virtual_memory().available // 2**20
    return max(1, min(hosts, forks, PER_CORE * (os.cpu_count() or 1), available // 2 // PROCESS_MB))


def _suites(asked: Any) -> list[str]:
    suites = asked.split() if isinstance(asked, str) else list(map(str, asked))
    for suite in suites:
        path = (REPOSITORY / suite.partition("::")[0]).resolve()
        if not (path.exists() and path.is_relative_to(REPOSITORY / "tests")):
            raise PlanError(f"verify_suites names {suite}; expected folders or files below tests/, such as tests/board")
    if not suites:
        raise PlanError("verify_suites is empty; expected at least tests/board")
    return suites


def _whole(name: str, value: Any, least: int = 0) -> int:
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = -1
    if number < least:
        raise PlanError(f"{name} is {value!r}; expected a whole number of at least {least}")
    return number
