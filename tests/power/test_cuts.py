"""Power cuts in the middle of writing. They run where a plug can be pulled: on an emulated board."""

from __future__ import annotations

import os
import random
import time
from pathlib import Path

import pytest
from attrs import frozen

from tests.appliance import RELEASE, STATE, UNIT, Board
from tests.faults.writers import Writers
from tests.power.plug import Plug
from tests.report import Figures

CUTS = 5
RELEASED = ("--packages", f"{RELEASE}/lib")
ONBOARD = Path(__file__).resolve().parent.parent / "onboard"
DROP_IN = f"/run/systemd/system/{UNIT}.d/zz-no-sync.conf"


@frozen
class Outcome:
    """What was written before a cut, and what was there after it."""

    acknowledged: int
    lost: int
    strange: int
    """Memories that were never sent."""
    integrity: str


@pytest.fixture(scope="module")
def plug() -> Plug:
    """The plug of the board that the scenario `faults` booted."""
    state = os.environ.get("EMULATOR_STATE")
    if not state:
        pytest.skip("cuts the power: run it by `molecule test -s faults`, which boots a board for it")
    return Plug("zero2w", Path(state))


def test_acknowledged_memories_survive_power_cuts(plug: Plug, figures: Figures) -> None:
    moments = random.Random(5)
    outcomes = [cut(plug, f"cut-{number}", moments.uniform(3, 8)) for number in range(CUTS)]
    figures.add("power cuts during writes", CUTS)
    figures.add("memories acknowledged before the cuts", sum(each.acknowledged for each in outcomes))
    figures.add("of them lost", sum(each.lost for each in outcomes), bound="= 0")
    assert all(each.acknowledged for each in outcomes), outcomes
    assert [(each.lost, each.strange, each.integrity) for each in outcomes] == [(0, 0, "ok")] * CUTS


def test_the_same_cuts_lose_memories_without_sync(plug: Plug, figures: Figures) -> None:
    """Else the test above proves nothing: the emulator's disk might simply never lose a write."""
    moments = random.Random(5)
    outcomes: list[Outcome] = []
    while len(outcomes) < CUTS and not any(each.lost for each in outcomes):  # one is enough, and may cost the store
        outcomes.append(cut(plug, f"loose-{len(outcomes)}", moments.uniform(3, 8), synchronous="off"))
    figures.add("with synchronous=off: power cuts until some were lost", len(outcomes))
    figures.add("with synchronous=off: memories acknowledged", sum(each.acknowledged for each in outcomes))
    figures.add("with synchronous=off: of them lost", sum(each.lost for each in outcomes), bound="> 0")
    assert sum(each.lost for each in outcomes) > 0


def cut(plug: Plug, space: str, seconds: float, synchronous: str = "full") -> Outcome:
    """Write for `seconds`, pull the plug, boot, and compare."""
    board = plug.put_back()
    board.await_service()
    if synchronous != "full":
        # In /run, so that the next boot is back to what is installed.
        setting = f"[Service]\\nEnvironment=PINCH_MEMORY_SYNCHRONOUS={synchronous}\\n"
        board.run(f"mkdir -p {Path(DROP_IN).parent} && printf '{setting}' > {DROP_IN} && systemctl daemon-reload")
        board.restart()
    with Writers(board.port, board.token, space) as writers:
        time.sleep(seconds)
        plug.pull()
    board.close()
    assert synchronous == "off" or not writers.refused
    board = plug.put_back()
    if synchronous == "off":  # a cut may leave a store that no service opens; its file tells what is there
        found, sound = at_rest(board, space)
    else:
        board.await_service()
        with board.service() as client:
            found = {memory["text"] for memory in client.memories(space)}
        _, sound = at_rest(board, space)
    lost = set(writers.acknowledged) - found
    board.close()
    return Outcome(len(writers.acknowledged), len(lost), len(found - writers.sent), sound)


def at_rest(board: Board, space: str) -> tuple[set[str], str]:
    """Return the texts of a space that are in the store's file, and what SQLite says about the file.

    It is read with the release's own SQLite while the service rests; what cannot be read is not there.
    """
    board.run(f"systemctl stop {UNIT}")
    try:
        found = board.python(ONBOARD / "stored.py", "--store", f"{STATE}/pinch.db", "--space", space, *RELEASED)
    finally:
        board.run(f"systemctl start {UNIT}")
    return set(found["texts"]), str(found["integrity"])
