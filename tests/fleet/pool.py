"""Tests of many hosts side by side: a pytest process for each, a bound on how many, a limit on how long."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tests.cache import REPOSITORY

from .plan import Host, Plan

GRACE_S = 20.0
"""What an interrupted pytest gets to write down what it has."""


class Run(NamedTuple):
    """The tests of a host: `status` is pytest's exit status, None where they were given up."""

    host: Host
    folder: Path
    seconds: float
    status: int | None

    @property
    def junit(self) -> Path:
        """Where pytest wrote its results."""
        return self.folder / "junit.xml"

    @property
    def log(self) -> Path:
        """Where pytest's own words are."""
        return self.folder / "pytest.log"


def run_all(plan: Plan, folder: Path, secrets: Path, tell: Callable[[str], None]) -> list[Run]:
    """Run the tests of all hosts that were reached, and return how each ended, in the plan's order.

    Args:
        plan: what is asked for.
        folder: gets a folder for each host, with its results.
        secrets: folder that only this user reads; holds inventories while the tests run.
        tell: gets a line whenever a host is done.
    """

    def one(number: int, host: Host) -> Run:
        run = _run(plan, host, folder / f"{number:03}-{_plain(host.name)}", secrets / f"{number:03}.json")
        tell(f"{host.name}: {'given up' if run.status is None else f'status {run.status}'} after {run.seconds:.0f} s")
        return run

    reached = [(number, host) for number, host in enumerate(plan.hosts, start=1) if not host.why]
    with ThreadPoolExecutor(plan.parallel) as places:
        return list(places.map(lambda pair: one(*pair), reached))


def _run(plan: Plan, host: Host, folder: Path, inventory: Path) -> Run:
    folder.mkdir(parents=True)
    inventory.write_text(json.dumps({"pinch": {"hosts": {host.name: host.variables}}}), "utf-8")
    begin = time.monotonic()
    run = Run(host, folder, 0.0, None)
    with run.log.open("wb") as log:
        process = subprocess.Popen(
            _pytest(plan, run, inventory),
            cwd=REPOSITORY,
            env={**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            status = process.wait(plan.limit_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            _end(process)
            inventory.unlink()
    return run._replace(seconds=time.monotonic() - begin, status=status)


def _pytest(plan: Plan, run: Run, inventory: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", "-o", "console_output_style=classic"),
        *("--hosts=ansible://pinch", f"--ansible-inventory={inventory}"),
        *(f"--reports={run.folder}", f"--junitxml={run.junit}"),
        *plan.suites,
    ]


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: first so that it can write what it has, then by force."""
    if process.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "_", name)[:60]
