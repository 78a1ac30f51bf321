"""WebSocket as RFC 6455 has it: the conformance suite against our own upgrade, broken frames against the service."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import pytest
from aiohttp import WSMsgType, web
from kosoku import FailureError, run_fuzzingclient
from pinch.gateway.listener import Listener
from pinch.gateway.reading import InFlight
from pinch.gateway.websocket.socket import Socket
from pinch.settings import GatewaySettings

from service.tests.serving import Service
from tests.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Frame,
    Gateway,
    UpgradeRefused,
    Wire,
    close_payload,
    frame,
)

LIMIT_BYTES = 262_144
NO_PART_OF_IT = ["9.*", "12.*", "13.*"]
"""Megabytes a message, which are refused here, and compression, which is never agreed on."""


async def echo(request: web.Request) -> web.StreamResponse:
    """Send back what comes, on the service's own socket."""
    held = Socket(request, InFlight(2**30), limit=LIMIT_BYTES, first_limit=LIMIT_BYTES, untaken_limit=LIMIT_BYTES)
    response = await held.accept()
    held.trust()
    while (message := await held.receive()) is not None:
        if isinstance(message, str):
            await held.send(message.encode())
        else:
            await held.send(message, WSMsgType.BINARY)
    await held.closed()
    return response


async def test_every_case_of_the_suite_passes() -> None:
    app = web.Application()
    app.router.add_get("/", echo)
    listener = Listener("127.0.0.1:0", GatewaySettings(), limit=16, in_flight=InFlight(2**30))
    await listener.start(app)
    try:
        results = await run_fuzzingclient(f"ws://{listener.address}/", exclude_cases=NO_PART_OF_IT, concurrency=4)
    except FailureError as failed:
        pytest.fail(str(failed))
    finally:
        await listener.stop(1)
    assert len(results) > 200


@pytest.fixture
def wire(minimal: Service) -> Iterator[Callable[..., Wire]]:
    """Opens connections to the service: as they are after the upgrade, or after `connect`."""
    opened: list[Wire] = []

    def begin(*, connected: bool = False) -> Wire:
        if connected:
            gateway = Gateway(minimal.port)
            gateway.connect(minimal.token)
            found = gateway.wire
        else:
            found = Wire(minimal.port)
        opened.append(found)
        return found

    yield begin
    for one in opened:
        one.drop()
    assert minimal.get("/healthz")
    assert "Traceback" not in minimal.said()


REQUEST = b'{"type": "req", "id": "a", "method": "health", "params": {}}'

BROKEN: dict[str, tuple[bytes, int]] = {
    **{f"reserved bits {rsv:03b}": (frame(TEXT, REQUEST, rsv=rsv), 1002) for rsv in range(1, 8)},
    **{f"opcode {opcode}": (frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    "not masked": (frame(TEXT, REQUEST, mask=False), 1002),
    "ping not masked": (frame(PING, mask=False), 1002),
    "close not masked": (frame(CLOSE, close_payload(1000), mask=False), 1002),
    "ping in fragments": (frame(PING, b"x", fin=False), 1002),
    "close in fragments": (frame(CLOSE, close_payload(1000), fin=False), 1002),
    "ping of 126 bytes": (frame(PING, b"x" * 126), 1002),
    "pong of 126 bytes": (frame(PONG, b"x" * 126), 1002),
    "ping of 65,536 bytes": (frame(PING, b"x" * 65_536), 1002),
    "close of 126 bytes": (frame(CLOSE, close_payload(1000, "x" * 124)), 1002),
    "close of one byte": (frame(CLOSE, b"\x03"), 1002),
    **{
        f"close with {code}": (frame(CLOSE, close_payload(code)), 1002)
        for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535)
    },
    "close with a reason that is not UTF-8": (frame(CLOSE, close_payload(1000) + b"\xff\xfe"), 1007),
    "continuation of nothing": (frame(CONTINUATION, REQUEST), 1002),
    "continuation of nothing, unfinished": (frame(CONTINUATION, REQUEST, fin=False), 1002),
    "continuation after the end": (
        frame(TEXT, REQUEST[:9], fin=False) + frame(CONTINUATION, REQUEST[9:]) + frame(CONTINUATION, b"more"),
        1002,
    ),
    "text within a fragmented text": (frame(TEXT, b"{", fin=False) + frame(TEXT, REQUEST), 1002),
    "binary within a fragmented text": (frame(TEXT, b"{", fin=False) + frame(BINARY, b"x"), 1002),
    "length with the highest bit": (frame(TEXT, b"x", length=1 << 63), 1009),
    "not UTF-8": (frame(TEXT, b'{"type": "caf\xe9"}'), 1007),
    "surrogate in UTF-8": (frame(TEXT, b"\xed\xa0\x80"), 1007),
    "UTF-8 cut at the end": (frame(TEXT, "{ü".encode()[:-1]), 1007),
    "not UTF-8 in the second fragment": (frame(TEXT, b"{", fin=False) + frame(CONTINUATION, b"\xff"), 1007),
}
"""What is sent, and the code that the service closes with."""
BEFORE_CONNECT = {"ping of 65,536 bytes": {1002, 1009}, "continuation after the end": {1008}}
"""Codes of what may be refused for another reason then: it is too long, or complete and no `connect`."""


@pytest.mark.parametrize("connected", [False, True], ids=["before connect", "connected"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_frame_closes_with_its_code(wire: Callable[..., Wire], name: str, *, connected: bool) -> None:
    sent, code = BROKEN[name]
    connection = wire(connected=connected)
    connection.send(sent)
    assert connection.closed()[0] in ({code} if connected else BEFORE_CONNECT.get(name, {code}))


@pytest.mark.parametrize("connected", [False, True], ids=["before connect", "connected"])
@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999])
def test_a_close_is_answered_with_its_code(wire: Callable[..., Wire], code: int, *, connected: bool) -> None:
    connection = wire(connected=connected)
    connection.send(frame(CLOSE, close_payload(code, "größer")) + frame(TEXT, REQUEST))
    assert connection.closed()[0] == code


def test_a_close_without_a_code_is_answered(wire: Callable[..., Wire]) -> None:
    connection = wire(connected=True)
    connection.send(frame(CLOSE))
    assert connection.closed()[0] in {1000, 1005}


def test_a_ping_is_answered_in_the_middle_of_a_message(wire: Callable[..., Wire]) -> None:
    connection = wire(connected=True)
    third = len(REQUEST) // 3
    connection.send(frame(TEXT, REQUEST[:third], fin=False))
    connection.send(frame(PING, b"are you there"))
    assert connection.receive() == Frame(PONG, b"are you there")
    connection.send(frame(PONG, b"nobody asked") + frame(CONTINUATION, REQUEST[third:-third], fin=False))
    connection.send(frame(PING, b"x" * 125))
    assert connection.receive() == Frame(PONG, b"x" * 125)
    connection.send(frame(CONTINUATION, b"", fin=False) + frame(CONTINUATION, REQUEST[-third:]))
    answer = connection.receive()
    assert answer is not None
    assert answer.opcode == TEXT
    assert b'"ok"' in answer.payload


def test_what_comes_byte_by_byte_is_understood(wire: Callable[..., Wire]) -> None:
    connection = wire(connected=True)
    for byte in frame(TEXT, REQUEST, width=64):
        connection.send(bytes([byte]))
    answer = connection.receive()
    assert answer is not None
    assert not answer.masked
    assert b'"ok"' in answer.payload


def test_what_comes_all_at_once_is_answered_one_by_one(minimal: Service) -> None:
    with Gateway(minimal.port) as gateway:
        gateway.connect(minimal.token)
        many = [f'{{"type": "req", "id": "{n}", "method": "health", "params": {{}}}}{" " * 30_000}' for n in range(40)]
        gateway.send_raw(b"".join(frame(TEXT, one.encode()) for one in many))
        assert {gateway.response_raw()["id"] for _ in many} == {str(n) for n in range(40)}


def test_nothing_is_packed_however_often_it_is_offered(minimal: Service) -> None:
    offers = "permessage-deflate; client_max_window_bits, permessage-deflate"
    with Wire(minimal.port, headers={"Sec-WebSocket-Extensions": offers}) as connection:
        assert "sec-websocket-extensions" not in connection.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-WebSocket-Version": "12"},
        {"Sec-WebSocket-Version": ""},
        {"Sec-WebSocket-Key": ""},
        {"Sec-WebSocket-Key": "kettle"},
        {"Sec-WebSocket-Key": "a2V0dGxl"},
    ],
    ids=str,
)
def test_an_upgrade_that_is_none_is_told_so_in_one_sentence(minimal: Service, headers: dict[str, str]) -> None:
    with pytest.raises(UpgradeRefused) as refused:
        Wire(minimal.port, headers=headers)
    assert 400 <= refused.value.status < 500
    assert b'"error"' in refused.value.body
    assert "Traceback" not in minimal.said()


@pytest.mark.parametrize("after", [0, 1, 2, 5, 6, 20])
def test_a_connection_that_breaks_off_in_a_frame_leaves_nothing(
    wire: Callable[..., Wire], minimal: Service, after: int
) -> None:
    connection = wire(connected=True)
    connection.send(frame(TEXT, REQUEST)[:after])
    connection.drop()
    with Gateway(minimal.port) as gateway:
        gateway.connect(minimal.token)
        assert gateway.request("health")["ok"]


def test_a_frame_says_its_length_the_way_the_tests_want_it() -> None:
    assert frame(TEXT, b"x", mask=False) == b"\x81\x01x"
    assert frame(TEXT, b"x" * 126, mask=False)[:4] == b"\x81\x7e\x00\x7e"
    assert frame(TEXT, b"", mask=False, length=1 << 63) == b"\x81\x7f" + struct.pack("!Q", 1 << 63)
