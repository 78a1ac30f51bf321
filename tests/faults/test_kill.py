"""`kill -9` in the middle of writing: what was acknowledged is there, and the store is whole."""

from __future__ import annotations

import random
import time
from pathlib import Path

import apsw

from tests.faults.writers import Writers
from tests.report import Figures
from tests.running import LocalService

KILLS = 50
LONGEST_S = 0.6


def test_acknowledged_memories_survive_fifty_kills(tmp_path: Path, figures: Figures) -> None:
    moments = random.Random(20)  # the moments are random, and the same in every run
    service = LocalService(tmp_path, PINCH_TIER="minimal")
    acknowledged: dict[str, list[str]] = {}
    sent: dict[str, set[str]] = {}
    for number in range(KILLS):
        service.start()
        space = f"round-{number}"
        with Writers(service.port, service.token, space) as writers:
            time.sleep(moments.uniform(0.02, LONGEST_S))
            service.kill()
        assert not writers.refused
        acknowledged[space], sent[space] = writers.acknowledged, writers.sent
    service.start()
    with service.client() as client:
        for space, texts in acknowledged.items():
            found = {memory["text"] for memory in client.memories(space)}
            assert set(texts) <= found, f"{space}: {len(set(texts) - found)} acknowledged memories are lost"
            assert found <= sent[space], f"{space} holds a text that was never sent"
    service.stop()
    total = sum(map(len, acknowledged.values()))
    figures.add("kill -9 at random moments of a write load", KILLS)
    figures.add("acknowledged memories, all there after the kills", total)
    assert total > KILLS, "hardly anything was written: the test proves nothing"
    assert integrity(tmp_path / "state") == ["ok"]


def integrity(state: Path) -> list[str]:
    """Return what SQLite says about each store in a state folder."""
    found = []
    for file in state.glob("*.db"):
        with apsw.Connection(str(file), flags=apsw.SQLITE_OPEN_READONLY) as connection:
            found.append(str(connection.pragma("integrity_check")))
    return found
