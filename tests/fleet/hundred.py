"""`python -m tests.fleet.hundred`: preflight.yml and verify.yml against a hundred simulated boards.

Prints how long the controller takes and the memory it needs. Three of the boards refuse connections, one hangs after
the connection, two do not fit. The boards are fakes (`tests/fleet/simulation`), so the suite is the one that asks for
limits only; everything on the controller's side is real.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from tests.benchmarks.machine import machine
from tests.cache import REPOSITORY

from .memory import Watched, watch
from .simulation.boards import SimulatedBoard
from .simulation.world import simulated

SUITE = "tests/board/test_limits.py"
SIZES_MB = (430, 921, 1900, 3790, 7850)
REFUSING, HANGING, MISFITS = 3, 1, 2
OTHER_MB = 10_000
"""What other services are said to take on the boards that do not fit."""
LIMIT_S = 1800.0


def main() -> int:
    """Run both playbooks; return 1 where one does not say what it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--boards", type=int, default=100, help="how many, at least 7 (default: 100)")
    parser.add_argument("--reports", type=Path, default=REPOSITORY / "reports", help="where verify.yml puts its report")
    given = parser.parse_args()
    boards = fleet(given.boards)
    print(f"{len(boards)} simulated boards; controller: {machine()}")
    wrong = []
    with simulated(boards) as world, tempfile.TemporaryDirectory() as name:
        inventory = Path(name) / "hundred.json"
        misfits = [board.name for board in boards if board.kind == "answers"][:MISFITS]
        more: dict[str, dict[str, Any]] = {each: {"preflight_other_memory_mb": OTHER_MB} for each in misfits}
        inventory.write_text(json.dumps(world.inventory(**more)), "utf-8")
        preflight = play("preflight.yml", inventory, fleet_report=name)
        tell("preflight.yml", preflight)
        rows = json.loads((Path(name) / "preflight.json").read_text("utf-8"))
        wrong += check_preflight(preflight, rows, len(boards))
        verify = play("verify.yml", inventory, verify_suites=SUITE, verify_reports=str(given.reports))
        tell("verify.yml", verify)
        wrong += check_verify(verify, given.reports, len(boards))
    print("\n".join(wrong) if wrong else "both said what they should")
    return 1 if wrong else 0


def fleet(count: int) -> list[SimulatedBoard]:
    """Return `count` boards of all sizes, the troublesome among them in the middle."""
    kinds = ["refuses"] * REFUSING + ["hangs"] * HANGING
    middle = count // 2
    return [
        SimulatedBoard(
            f"pi-{number:03}",
            SIZES_MB[number % len(SIZES_MB)],
            kinds[number - middle] if middle <= number < middle + len(kinds) else "answers",
        )
        for number in range(1, count + 1)
    ]


def play(playbook: str, inventory: Path, **extra: str) -> Watched:
    """Run a playbook as an operator does, and watch it."""
    program = str(Path(sys.executable).with_name("ansible-playbook"))
    command = [program, "-i", str(inventory), playbook, "-e", json.dumps(extra)]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"), "NO_COLOR": "1"}
    return watch(command, REPOSITORY / "ansible", environment, LIMIT_S)


def tell(what: str, ran: Watched) -> None:
    """Print what a playbook took."""
    memory = f"{ran.peak_bytes / 2**20:.0f} MB in at most {ran.peak_processes} processes"
    print(f"{what}: {ran.seconds:.0f} s, the controller's memory {memory}, exit status {ran.status}", flush=True)


def check_preflight(ran: Watched, said: dict[str, Any], boards: int) -> list[str]:
    """Return what is wrong with the outcome of preflight.yml."""
    lost = REFUSING + HANGING
    wanted = {"fits": boards - lost - MISFITS, "refused": MISFITS, "not reached": lost}
    return [
        *([] if said["totals"] == wanted else [f"preflight.yml counted {said['totals']}; expected {wanted}"]),
        *([] if len(said["hosts"]) == boards else [f"preflight.yml has {len(said['hosts'])} rows; expected {boards}"]),
        *([] if ran.status else ["preflight.yml ended with status 0 although boards do not fit"]),
    ]


def check_verify(ran: Watched, reports: Path, boards: int) -> list[str]:
    """Return what is wrong with the outcome of verify.yml, and print the size of its report."""
    folder = max(reports.glob("*-fleet"), default=None)
    if folder is None:
        return [f"verify.yml left no report; it said:\n{ran.output[-3000:]}"]
    text = (folder / "report.md").read_text("utf-8")
    listed = text.partition("## Boards")[2].partition("\n## ")[0]
    rows = sum(line.startswith("| pi-") for line in listed.splitlines())
    for file in sorted(folder.glob("*.*")):
        print(f"  {file.name}: {file.stat().st_size / 1024:.0f} KB")
    lost, passed = REFUSING + HANGING, boards - REFUSING - HANGING - MISFITS
    wanted = f"{MISFITS} failed, 0 given up, {lost} not reached, {passed} passed."
    return [
        *([] if rows == boards else [f"the report has {rows} rows; expected {boards}"]),
        *([] if wanted in text else [f"the report does not say {wanted!r}"]),
        *([] if ran.status else ["verify.yml ended with status 0 although boards failed"]),
    ]


if __name__ == "__main__":
    raise SystemExit(main())
