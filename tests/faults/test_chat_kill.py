"""`kill -9` in the middle of ten conversations: what was acknowledged is said once, and is answered."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from service.tests.serving import until
from tests.faults.chatters import Chatters, Message
from tests.faults.test_kill import integrity
from tests.frames import Gateway
from tests.provider import MODEL, Provider
from tests.report import Figures
from tests.running import LocalService

KILLS = 50
CLIENTS = 10
TURNS = 10
"""Kills after which each client begins another session, so that a history still shows the whole of one."""
LONGEST_S = 0.6
CHUNK_S = 0.004
"""Between the words of an answer, so that kills come in the middle of some."""
TORN = "a last line that was not finished"


def test_acknowledged_messages_survive_fifty_kills(tmp_path: Path, figures: Figures) -> None:
    moments = random.Random(21)  # the moments are random, and the same in every run
    chatters = Chatters(CLIENTS, seed=22)
    torn = 0
    with Provider(chunk_s=CHUNK_S, remember=False) as provider:
        settings = {"PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL}
        service = LocalService(tmp_path, PINCH_TIER="minimal", **settings)
        for number in range(KILLS):
            service.start()
            turn = number // TURNS
            with Gateway(service.port) as gateway:
                gateway.connect(service.token)
                torn += damaged(gateway)
                recent = [message for message in chatters.acknowledged if message.session.endswith(f".{turn}")]
                assert_said_once(gateway, recent, chatters.sent)
            with chatters.begin(service.port, service.token, turn):
                time.sleep(moments.uniform(0.02, LONGEST_S))
                service.kill()
            assert not chatters.refused, chatters.refused[0].error
        service.start()
        with Gateway(service.port) as gateway:
            gateway.connect(service.token)
            until(lambda: gateway.request("status")["runs"] == {"running": 0, "waiting": 0}, "all is answered")
            torn += damaged(gateway)
            assert_said_once(gateway, chatters.acknowledged, chatters.sent)
        service.stop()
    resumed = assert_answered(tmp_path / "state" / "sessions", chatters.acknowledged)
    figures.add("kill -9 at random moments of ten conversations", KILLS)
    figures.add("acknowledged messages, each there once after the kills", len(chatters.acknowledged))
    figures.add("answers that a kill had cut and that were begun again", resumed)
    figures.add("last lines that a kill had torn", torn)
    assert len(chatters.acknowledged) > KILLS, "hardly anything was said: the test proves nothing"
    assert resumed > CLIENTS, "hardly an answer was cut: the test proves nothing"
    assert integrity(tmp_path / "state") == ["ok"]


def damaged(gateway: Gateway) -> int:
    """Return how many sessions lost a torn line; any other damage fails the test."""
    found = [one["damage"] for one in gateway.request("sessions.list", {"limit": 500})["sessions"] if one["damage"]]
    assert all(damage.startswith(TORN) and ";" not in damage for damage in found), found
    return len(found)


def assert_said_once(gateway: Gateway, acknowledged: Iterable[Message], sent: dict[str, Message]) -> None:
    """Every session loads; what was acknowledged is in its history once, and nothing is that was never sent."""
    by_session: dict[str, dict[str, Message]] = {}
    for message in acknowledged:
        by_session.setdefault(message.session, {})[message.key] = message
    for session, messages in by_session.items():
        history = gateway.request("chat.history", {"sessionKey": session, "limit": 1000})["messages"]
        said = Counter((one["runId"], one["content"][0]["text"]) for one in history if one["role"] == "user")
        for message in messages.values():
            assert said[message.key, message.text] == 1, (
                f"{session}: {message.key} is there {said[message.key, message.text]} times"
            )
        for key, text in said:
            assert sent[key] == (session, key, text), f"{session} holds what was never said: {key}"


def assert_answered(folder: Path, acknowledged: Iterable[Message]) -> int:
    """Every acknowledged run is in the file with one message and one end; return how many were begun again."""
    runs: dict[str, list[dict[str, Any]]] = {}
    for file in folder.glob("*.jsonl"):
        for line in file.read_bytes().splitlines():
            entry = json.loads(line)
            if entry["type"] != "session":
                runs.setdefault(entry["run"], []).append(entry)
    for message in acknowledged:
        kinds = Counter(entry["type"] for entry in runs[message.key])
        assert (kinds["user"], kinds["end"]) == (1, 1), (message, kinds)
        state = runs[message.key][-1]["state"]
        texts = {entry["text"] for entry in runs[message.key] if entry["type"] == "assistant"}
        assert state == "error" if kinds["resumed"] > 1 and not texts else state == "final", runs[message.key]
        assert texts <= {f"You said: {message.text}"}
    return sum(any(entry["type"] == "resumed" for entry in entries) for entries in runs.values())
