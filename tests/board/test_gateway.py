"""The gateway on the board: a client is let in by its token, recalls, chats where someone answers, and has a page."""

from __future__ import annotations

import http.client
import uuid
from collections.abc import Iterator

import pytest

from tests.appliance import Board
from tests.frames import Gateway, Refused


@pytest.fixture
def gateway(board: Board) -> Iterator[Gateway]:
    """A client that is let in."""
    with Gateway(board.port) as gateway:
        gateway.connect(board.token)
        yield gateway


def test_a_client_is_told_small_limits_and_the_tier(gateway: Gateway) -> None:
    policy = gateway.hello["policy"]
    assert policy["maxBufferedBytes"] <= 512 * 1024
    assert policy["maxPayload"] <= 256 * 1024
    assert gateway.request("health")["ok"] is True
    assert gateway.request("status")["tier"] in {"minimal", "light", "full"}


def test_a_wrong_token_is_refused(board: Board) -> None:
    with Gateway(board.port) as gateway, pytest.raises(Refused, match="token mismatch"):
        gateway.connect("wrong")


def test_what_is_remembered_over_it_is_found_over_it(gateway: Gateway) -> None:
    word = f"gw{uuid.uuid4().hex}"
    stored = gateway.request("memory.remember", {"text": f"the word is {word}", "space": "proof"})
    try:
        hits = gateway.request("memory.search", {"query": word, "space": "proof", "mode": "keyword"})["hits"]
        assert [hit["id"] for hit in hits] == [stored["id"]]
    finally:
        gateway.request("memory.forget", {"id": stored["id"]})


def test_without_a_provider_whoever_chats_is_told(gateway: Gateway) -> None:
    if gateway.request("status")["provider"]["configured"]:
        pytest.skip("the inventory names a provider")
    with pytest.raises(Refused, match="no provider is configured") as refused:
        gateway.request("chat.send", {"sessionKey": "proof", "message": "hello", "idempotencyKey": uuid.uuid4().hex})
    assert refused.value.details["type"] == "no_provider"
    assert "proof" not in {one["key"] for one in gateway.request("sessions.list")["sessions"]}


def test_the_page_needs_no_token_and_runs_nothing_of_others(board: Board) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", board.port, timeout=60)
    connection.request("GET", "/")
    answer = connection.getresponse()
    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'; script-src 'self'")
    assert b"Pinch" in answer.read()
