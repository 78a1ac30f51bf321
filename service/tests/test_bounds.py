"""What one request may take of memory and time, whatever it asks for."""

from __future__ import annotations

import asyncio
import http.client
import io
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast
from unittest.mock import Mock

import pytest
from aiohttp import web
from pinch.errors import Busy
from pinch.gateway.answers import dropped_when_stalled
from pinch.gateway.bodies import BATCH_LIMIT, TAGS_LIMIT
from pinch.gateway.operations import PIECE, send
from pinch.gateway.reading import MARKS_LIMIT, InFlight
from pinch.memory.memories import PAGE_BYTES
from pinch.memory.rows import rfc3339

from service.tests.serving import Answer, Service, rss_bytes

MEBIBYTE = 1024 * 1024
LONGEST = 64 * 1024


def test_a_page_of_long_texts_ends_early_and_goes_on(minimal: Service, space: str) -> None:
    for number in range(10):
        minimal.remember(f"{number} ".ljust(LONGEST, "x"), space=space)
    page = minimal.get(f"/v1/memories?limit=200&space={space}")
    assert sum(len(memory["text"]) for memory in page["memories"]) <= PAGE_BYTES
    assert page["cursor"]
    assert [memory["text"][0] for memory in minimal.listed(space=space)] == [*"9876543210"]


def test_characters_stand_for_themselves(minimal: Service, space: str) -> None:
    public = minimal.remember("水 и чай", space=space)
    answer = minimal.call("GET", f"/v1/memories/{public}")
    assert "水 и чай".encode() in answer.content
    assert answer.headers["Content-Type"] == "application/json; charset=utf-8"


def test_a_half_character_that_an_error_quotes_is_answered(minimal: Service) -> None:
    answer = minimal.call("POST", "/v1/memories", b'{"\\ud800": 1, "text": "x"}')
    assert (answer.status, answer.error["param"]) == (400, "?")


def test_hits_beyond_the_limit_are_refused(minimal: Service, space: str) -> None:
    for number in range(30):
        minimal.remember(f"kettle {number} ".ljust(LONGEST, "x"), space=space)
    assert len(minimal.texts("kettle", space=space)) == 6
    answer = minimal.call("POST", "/v1/recall", {"query": "kettle", "space": space, "k": 30})
    assert (answer.status, answer.error["type"], answer.error["param"]) == (413, "too_large", "k")
    assert answer.error["hint"] == "ask for fewer"


@pytest.mark.parametrize("piece", [b"{},", b"[],", b'"",', b"0,", b'"\\"",'])
def test_a_body_of_tiny_values_is_refused_before_it_is_parsed(minimal: Service, piece: bytes) -> None:
    before = rss_bytes(minimal.pid)
    body = b'{"text":[' + piece * (MEBIBYTE // len(piece) - 10) + piece[:-1] + b"]}"
    answer = minimal.call("POST", "/v1/memories", body)
    assert (answer.status, answer.error["type"], answer.error["param"]) == (413, "too_large", "body")
    assert str(MARKS_LIMIT) in answer.error["message"]
    assert rss_bytes(minimal.pid) - before < 8 * MEBIBYTE


def test_a_full_batch_with_every_tag_and_texts_full_of_commas_passes(minimal: Service, space: str) -> None:
    tags = [f"t{number}" for number in range(TAGS_LIMIT)]
    memories = [
        {"text": f'{number} "{"[,{" * 300}', "space": space, "tags": tags, "source": "s", "thread": "t"}
        for number in range(BATCH_LIMIT)
    ]
    assert minimal.call("POST", "/v1/memories", {"memories": memories}).status == 201


def test_a_body_that_is_alone_passes_and_a_second_one_waits() -> None:
    in_flight = InFlight(limit=100)
    in_flight.take(90, 0)
    in_flight.take(90, 90)
    with pytest.raises(Busy):
        in_flight.take(1, 0)
    with pytest.raises(Busy), InFlight(limit=100).answering(34):
        pass


def worst_health(service: Service, during: Callable[[], Answer]) -> float:
    """Seconds that the slowest answer of /healthz took while something else went on, which must go well."""
    worst, ended = 0.0, threading.Event()

    def look() -> None:
        nonlocal worst
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
        while not ended.wait(0.002):
            begin = time.monotonic()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            worst = max(worst, time.monotonic() - begin)
        connection.close()

    thread = threading.Thread(target=look)
    thread.start()
    try:
        assert during().status == 201
    finally:
        ended.set()
        thread.join()
    return worst


@pytest.mark.parametrize("content", [b"\n" * 400_000, b"a\n" * 200_000], ids=["newlines", "lines"])
def test_others_are_answered_while_a_document_is_cut(minimal: Service, space: str, content: bytes) -> None:
    assert worst_health(minimal, lambda: minimal.put("lines.md", content, space)) < 1


def test_a_download_that_nobody_reads_ends() -> None:
    class Stalled(web.StreamResponse):
        async def write(self, _: bytes | bytearray | memoryview) -> None:
            await asyncio.sleep(60)

    with pytest.raises(TimeoutError):
        asyncio.run(send(Stalled(), io.BytesIO(b"x"), stall_s=0.05))


def test_whoever_has_the_last_byte_of_a_snapshot_finds_the_way_free() -> None:
    """A load that follows at once must not find the save still under way."""
    order: list[str] = []

    class Taking(web.StreamResponse):
        async def write(self, data: bytes | bytearray | memoryview) -> None:
            order.append(f"{len(data)} bytes")

        async def write_eof(self, _: bytes = b"") -> None:
            order.append("end")

    content = io.BytesIO(b"x" * (PIECE + 1))
    asyncio.run(send(Taking(), content, before_last=lambda: order.append("free")))
    assert order == [f"{PIECE} bytes", "free", "1 bytes", "end"]


def test_a_client_that_stops_taking_its_answer_is_cut_off() -> None:
    transport = Mock()
    request = cast("web.Request", SimpleNamespace(transport=transport))
    with pytest.raises(ConnectionAbortedError), dropped_when_stalled(request):
        raise TimeoutError
    transport.abort.assert_called_once_with()


def test_a_look_at_the_head_of_a_snapshot_makes_none(minimal: Service) -> None:
    assert minimal.call("HEAD", "/v1/snapshot").status == 405


def test_a_request_without_a_host_is_answered_at_once(minimal: Service) -> None:
    with minimal.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
        connection.settimeout(5)
        assert connection.recv(4096).startswith(b"HTTP/1.0 403")


@pytest.mark.parametrize(
    ("milliseconds", "said"),
    [
        (-1, "1969-12-31T23:59:59.999Z"),
        (253402300799999, "9999-12-31T23:59:59.999Z"),
        (-62135596800000, "0001-01-01T00:00:00.000Z"),
        (1_700_000_000_001, "2023-11-14T22:13:20.001Z"),
    ],
)
def test_times_are_exact_to_the_millisecond(milliseconds: int, said: str) -> None:
    assert rfc3339(milliseconds) == said
