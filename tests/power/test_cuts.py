"""Power cuts in the middle of writing and chatting. They run where a plug can be pulled: on an emulated board."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import frozen

from tests.appliance import RELEASE, STATE, UNIT, Board
from tests.faults.chatters import Chatters, Message
from tests.faults.writers import Writers
from tests.frames import Gateway
from tests.power.plug import Plug
from tests.report import Figures

CUTS = 5
RELEASED = ("--packages", f"{RELEASE}/lib")
ONBOARD = Path(__file__).resolve().parent.parent / "onboard"
DROP_IN = f"/run/systemd/system/{UNIT}.d/zz-cuts.conf"
CHATTERS = 10
PROVIDER_PORT = 18400
TORN = "a last line that was not finished"
PROVIDER_UNIT = "pinch-cuts-provider"


@frozen
class Outcome:
    """What was written before a cut, and what was there after it."""

    acknowledged: int
    lost: int
    strange: int
    """Memories that were never sent."""
    integrity: str
    said: int
    """Messages of chats that were acknowledged."""
    unsaid: int
    """Of them those that are in no session."""
    damage: tuple[str, ...]
    """What is wrong with sessions, beside a last line that was not acknowledged."""


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
    figures.add(f"messages acknowledged in {CHATTERS} chats before the cuts", sum(each.said for each in outcomes))
    figures.add("of them lost", sum(each.unsaid for each in outcomes), bound="= 0")
    assert all(each.acknowledged and each.said for each in outcomes), outcomes
    assert [(each.lost, each.strange, each.integrity) for each in outcomes] == [(0, 0, "ok")] * CUTS
    assert [(each.unsaid, each.damage) for each in outcomes] == [(0, ())] * CUTS


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
    """Write and chat for `seconds`, pull the plug, boot, and compare."""
    board = plug.put_back()
    board.await_service()
    provide(board, synchronous)
    chatters = Chatters(CHATTERS, seed=len(space))
    with Writers(board.port, board.token, space) as writers, chatters.begin(board.port, board.token, space):
        time.sleep(seconds)
        plug.pull()
    board.close()
    assert synchronous == "off" or not (writers.refused or chatters.refused)
    board = plug.put_back()
    unsaid, damage = 0, tuple[str, ...]()
    if synchronous == "off":  # a cut may leave a store that no service opens; its file tells what is there
        found, sound = at_rest(board, space)
    else:
        board.await_service()
        with board.service() as client:
            found = {memory["text"] for memory in client.memories(space)}
        unsaid, damage = spoken(board, chatters.acknowledged)
        _, sound = at_rest(board, space)
    lost = set(writers.acknowledged) - found
    board.close()
    return Outcome(
        acknowledged=len(writers.acknowledged),
        lost=len(lost),
        strange=len(found - writers.sent),
        integrity=sound,
        said=len(chatters.acknowledged),
        unsaid=unsaid,
        damage=damage,
    )


def provide(board: Board, synchronous: str) -> None:
    """Give the service a provider on the board; all in /run, so that the next boot is back to what is installed."""
    script = board.push(ONBOARD / "provider.py")
    board.run(f"systemd-run --unit={PROVIDER_UNIT} python3 -I {script} --port {PROVIDER_PORT}")
    settings = (
        f"PINCH_MEMORY_SYNCHRONOUS={synchronous} PINCH_PROVIDER_MODEL=echo "
        f"PINCH_PROVIDER_BASE_URL=http://127.0.0.1:{PROVIDER_PORT}/v1"
    )
    drop_in = f"[Service]\\nEnvironment={settings}\\n"
    board.run(f"mkdir -p {Path(DROP_IN).parent} && printf '{drop_in}' > {DROP_IN} && systemctl daemon-reload")
    board.restart()


def spoken(board: Board, acknowledged: Sequence[Message]) -> tuple[int, tuple[str, ...]]:
    """Return how many acknowledged messages are in no session, and what is wrong with sessions."""
    with Gateway(board.port) as gateway:
        gateway.connect(board.token)
        listed = gateway.request("sessions.list", {"limit": 500})["sessions"]
        said: set[tuple[str, str, str]] = set()
        for key in {message.session for message in acknowledged}:
            history = gateway.request("chat.history", {"sessionKey": key, "limit": 1000})["messages"]
            said |= {(key, one["runId"], one["content"][0]["text"]) for one in history if one["role"] == "user"}
    damage = tuple(one["damage"] for one in listed if one["damage"] and not one["damage"].startswith(TORN))
    return sum((one.session, one.key, one.text) not in said for one in acknowledged), damage


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
