"""A client of the WebSocket gateway on a bare socket: whole requests, and frames as broken as a test wants them."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

WAIT_S = 90.0
ACCEPT_KEY = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, 1.3."""

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
ABNORMAL = 1006
"""What `closed` says where no close frame came."""


class Refused(Exception):
    """A response with `ok: false`."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.error = error
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.details: dict[str, Any] = error.get("details") or {}


class UpgradeRefused(Exception):
    """The upgrade was answered with another status than 101."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"{status}: {body[:200]!r}")
        self.status = status
        self.headers = headers
        self.body = body


class Closed(Exception):
    """The gateway closed the connection while something was waited for."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"closed with {code} {reason}")
        self.code = code
        self.reason = reason


class Frame(NamedTuple):
    """One frame as it came."""

    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = False


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    mask: bool = True,
    length: int | None = None,
    width: int | None = None,
) -> bytes:
    """Return a frame of a client, right or wrong.

    Args:
        opcode: 0 to 15, those that RFC 6455 leaves free too.
        payload: its bytes.
        fin: whether the message ends with it.
        rsv: the three reserved bits, 0 to 7.
        mask: whether it is masked, as a client's frame must be.
        length: what its head says instead of the true length.
        width: 7, 16 or 64 bits for the length instead of the fewest that hold it.
    """
    told = len(payload) if length is None else length
    bits = width or (7 if told < 126 else 16 if told < 65_536 else 64)
    marker = told if bits == 7 else 126 if bits == 16 else 127
    head = bytes([fin << 7 | rsv << 4 | opcode, mask << 7 | marker])
    head += b"" if bits == 7 else struct.pack("!H" if bits == 16 else "!Q", told)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + masked(payload, key)


def masked(payload: bytes, key: bytes) -> bytes:
    """Return the payload under a masking key; twice is not at all."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def close_payload(code: int, reason: str = "") -> bytes:
    """Return the payload of a close frame."""
    return struct.pack("!H", code) + reason.encode()


class Wire:
    """A connection after the upgrade, frame by frame; knows nothing of what they mean."""

    def __init__(
        self, port: int, path: str = "/", *, headers: Mapping[str, str] | None = None, receive_bytes: int = 0
    ) -> None:
        """Connect and upgrade.

        Args:
            port: of the loopback.
            path: with a query, if there is one.
            headers: sent besides those of the upgrade, or instead of one of them.
            receive_bytes: size of the socket's receive buffer; 0 leaves the system's.
        """
        self.socket = socket.socket()
        if receive_bytes:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
        self.socket.settimeout(WAIT_S)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._received = bytearray()
        key = base64.b64encode(os.urandom(16)).decode()
        sent = {
            "Host": f"127.0.0.1:{port}",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": key,
            **(headers or {}),
        }
        lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in sent.items())]
        self.send("\r\n".join([*lines, "", ""]).encode())
        try:
            self.headers = self._upgraded(sent["Sec-WebSocket-Key"])
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.drop()

    def send(self, content: bytes) -> None:
        """Send bytes as they are."""
        self.socket.sendall(content)

    def receive(self) -> Frame | None:
        """Return the next frame, or nothing where the connection has ended."""
        head = self._take(2)
        if head is None:
            return None
        size = head[1] & 0x7F
        if size >= 126:
            more = self._take(2 if size == 126 else 8)
            if more is None:
                return None
            size = int.from_bytes(more, "big")
        key = self._take(4) if head[1] & 0x80 else b""
        payload = self._take(size)
        if payload is None or key is None:
            return None
        return Frame(head[0] & 0x0F, payload, bool(head[0] & 0x80), head[0] >> 4 & 7, bool(key))

    def closed(self) -> tuple[int, str]:
        """Read to the end, answering nothing but the close, and return its code and reason."""
        while (received := self.receive()) is not None:
            if received.opcode == CLOSE:
                return self.leave(received)
        return ABNORMAL, ""

    def leave(self, received: Frame) -> tuple[int, str]:
        """Answer a close frame, wait for the end, and return the code and reason."""
        code, reason = read_close(received.payload)
        try:
            self.send(frame(CLOSE, received.payload[:2]))
            while self.receive() is not None:
                pass
        except OSError:
            pass  # it had gone already
        self.drop()
        return code, reason

    def drop(self) -> None:
        """Close the socket without a word."""
        self.socket.close()

    def _upgraded(self, key: str) -> Mapping[str, str]:
        while b"\r\n\r\n" not in self._received:
            if not self._more():
                raise UpgradeRefused(0, {}, bytes(self._received))
        head, _, rest = bytes(self._received).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._received = bytearray(rest)
        status = int(first.split()[1])
        if status != 101:
            body = self._take(int(headers.get("content-length", "0"))) or b""
            raise UpgradeRefused(status, headers, body)
        expected = base64.b64encode(hashlib.sha1(key.encode() + ACCEPT_KEY).digest()).decode()
        assert headers["sec-websocket-accept"] == expected, headers
        return headers

    def _take(self, size: int) -> bytes | None:
        while len(self._received) < size:
            if not self._more():
                return None
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken

    def _more(self) -> bool:
        try:
            piece = self.socket.recv(65_536)
        except ConnectionError:
            return False
        self._received += piece
        return bool(piece)


def read_close(payload: bytes) -> tuple[int, str]:
    """Return code and reason out of a close frame; 1005 stands for none."""
    return (int.from_bytes(payload[:2], "big"), payload[2:].decode()) if payload else (1005, "")


class Gateway:
    """Requests, responses and events; what comes while something else is waited for is kept.

    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        gateway.request("chat.send", {"sessionKey": "main", "message": "hello", "idempotencyKey": "1"})
        final = list(gateway.events(until=lambda event: event["payload"].get("state") == "final"))[-1]
    """

    def __init__(
        self, port: int, path: str = "/", *, headers: Mapping[str, str] | None = None, receive_bytes: int = 0
    ) -> None:
        """Upgrade; `connect` is not sent yet."""
        self.wire = Wire(port, path, headers=headers, receive_bytes=receive_bytes)
        self.hello: dict[str, Any] = {}
        """The payload of `hello-ok`."""
        self._ids = 0
        self._events: deque[dict[str, Any]] = deque()
        self._responses: dict[str, deque[dict[str, Any]]] = {}
        self._close: tuple[int, str] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.wire.drop()

    def connect(self, token: str | None, *, protocol: tuple[int, int] = (3, 4), **params: Any) -> dict[str, Any]:
        """Send `connect` and return the payload of `hello-ok`."""
        offered = {"minProtocol": protocol[0], "maxProtocol": protocol[1]}
        client = {"id": "test", "version": "1", "platform": "linux", "mode": "test"}
        auth = {} if token is None else {"auth": {"token": token}}
        self.hello = self.request("connect", {**offered, "client": client, **auth, **params})
        return self.hello

    def request(self, method: str, params: Any = None) -> Any:
        """Return the payload of the response.

        Raises:
            Refused: it was `ok: false`.
            Closed: the connection ended instead.
        """
        return self.response(self.send(method, params))

    def send(self, method: str, params: Any = None) -> str:
        """Send a request and return its id."""
        self._ids += 1
        request = str(self._ids)
        wanted = {} if params is None else params
        self.send_raw(json.dumps({"type": "req", "id": request, "method": method, "params": wanted}))
        return request

    def response(self, request: str) -> Any:
        """Wait for the next response to a request, and return its payload or raise as `request` does."""
        waiting = self._responses.setdefault(request, deque())
        while not waiting:
            self._read()
        response = waiting.popleft()
        if not response["ok"]:
            raise Refused(response["error"])
        return response.get("payload")

    def event(self, name: str) -> dict[str, Any]:
        """Wait for the next event of this name and return its payload; others are dropped."""
        *_, found = self.events(until=name)
        payload: dict[str, Any] = found["payload"]
        return payload

    def events(self, until: str | Callable[[dict[str, Any]], bool] | None = None) -> Iterator[dict[str, Any]]:
        """Give the events one by one, the last of them the one that `until` names or accepts."""
        while True:
            while not self._events:
                self._read()
            event = self._events.popleft()
            yield event
            if event["event"] == until or (callable(until) and until(event)):
                return

    def run(self, run_id: str, session: str | None = None) -> list[dict[str, Any]]:
        """Wait until a run has ended and return the payloads of its `chat` events, the end last.

        Runs of two sessions may have one name: `session` tells them apart.
        """

        def of_run(event: dict[str, Any]) -> bool:
            payload = event["payload"]
            return event["event"] == "chat" and payload["runId"] == run_id and session in {None, payload["sessionKey"]}

        def ends(event: dict[str, Any]) -> bool:
            return of_run(event) and event["payload"]["state"] in {"final", "aborted", "error"}

        return [event["payload"] for event in self.events(until=ends) if of_run(event)]

    def say(self, message: str, session: str = "main", key: str | None = None) -> list[dict[str, Any]]:
        """Send a message and wait for the end of its run."""
        self._ids += 1
        wanted = {"sessionKey": session, "message": message, "idempotencyKey": key or f"{session}-{self._ids}"}
        return self.run(self.request("chat.send", wanted)["runId"])

    def send_raw(self, content: bytes | str) -> None:
        """Send text as one text frame, and bytes as they are: `frame` makes them."""
        self.wire.send(frame(TEXT, content.encode()) if isinstance(content, str) else content)

    def response_raw(self) -> dict[str, Any]:
        """Wait for the next response, whatever its id, and return the whole frame."""
        while True:
            for waiting in self._responses.values():
                if waiting:
                    return waiting.popleft()
            self._read()

    def closed(self) -> tuple[int, str]:
        """Read until the gateway closes and return code and reason; what comes until then is kept."""
        while self._close is None:
            try:
                self._read()
            except Closed:
                break
        assert self._close is not None
        return self._close

    def _read(self) -> None:
        """Take one message."""
        if self._close is not None:
            raise Closed(*self._close)
        received = self.wire.receive()
        if received is None or received.opcode == CLOSE:
            self._close = (ABNORMAL, "") if received is None else self.wire.leave(received)
            raise Closed(*self._close)
        if received.opcode == PING:
            self.wire.send(frame(PONG, received.payload))
        if received.opcode == TEXT:
            self._sort(json.loads(received.payload))

    def _sort(self, message: dict[str, Any]) -> None:
        if message["type"] == "res":
            self._responses.setdefault(message["id"], deque()).append(message)
        else:
            assert message["type"] == "event", message
            self._events.append(message)
