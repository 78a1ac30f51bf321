"""Bad input over the WebSocket: a clear error or close code, nothing stored, and the service goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from service.tests.serving import Service, rss_bytes
from tests.frames import (
    BINARY,
    CONTINUATION,
    PING,
    TEXT,
    Gateway,
    Refused,
    UpgradeRefused,
    Wire,
    frame,
)
from tests.provider import MODEL, Provider

CONNECT: dict[str, Any] = {
    "minProtocol": 3,
    "maxProtocol": 4,
    "client": {"id": "test", "version": "1", "platform": "linux", "mode": "test"},
}
ENDED = "ended-" + "x" * 30
HANDSHAKE_BYTES = 16 * 1024
FLOOD_BYTES = 64 * 2**20
HEADER_BYTES = 14
"""A frame's longest header; it may count."""


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Service]:
    """A service that would answer, with a memory, a session and a token that has ended."""
    settings = {"PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL}
    service = Service(tmp_path_factory.mktemp("websocket"), PINCH_TIER="minimal", **settings)
    with (service.folder / "tokens").open("a", encoding="utf-8") as tokens:
        tokens.write(f"old {ENDED} until=2026-01-01T00:00:00Z\n")
    with service, Gateway(service.port) as gateway:
        gateway.connect(service.token)
        service.remember("The kettle is on the left shelf")
        assert gateway.say("hello", "main")[-1]["state"] == "final"
        yield service


@pytest.fixture
def service(serving: Service) -> Iterator[Service]:
    """That service; it is unharmed after the test, and what it keeps is the same."""
    before = kept(serving)
    yield serving
    assert serving.call("GET", "/healthz").status == 200
    assert kept(serving) == before
    assert "Traceback" not in serving.said()
    assert serving.token not in serving.said()


@pytest.fixture
def gateway(service: Service) -> Iterator[Gateway]:
    """A connected client."""
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        yield gateway


def kept(service: Service) -> Any:
    """Return all that the service keeps, and the names of its files."""
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        sessions = gateway.request("sessions.list")["sessions"]
        said = [gateway.request("chat.history", {"sessionKey": session["key"]}) for session in sessions]
    files = sorted(str(path.relative_to(service.folder)) for path in service.folder.rglob("*"))
    return sessions, said, service.listed(), [file for file in files if not file.startswith("state/pinch.db")]


def request(method: str = "connect", params: Any = CONNECT, **more: Any) -> str:
    """Return a request frame's text."""
    return json.dumps({"type": "req", "id": "1", "method": method, "params": params, **more})


NO_REQUEST: dict[str, str] = {
    "no JSON": "kettle",
    "empty": "",
    "blank": " \n",
    "an array": "[]",
    "a string": '"connect"',
    "a number": "5",
    "null": "null",
    "cut": '{"type": "req", "id": "1"',
    "two": '{"type": "req"} {"type": "req"}',
    "no id": '{"type": "req", "method": "health"}',
    "a number as id": '{"type": "req", "id": 5, "method": "health"}',
    "an empty id": '{"type": "req", "id": "", "method": "health"}',
    "an endless id": json.dumps({"type": "req", "id": "x" * 10_000, "method": "health"}),
    "NaN": '{"type": "req", "id": "1", "method": "health", "params": {"limit": NaN}}',
    "a key twice": '{"type": "req", "id": "1", "id": "2", "method": "health"}',
    "an endless number": '{"type": "req", "id": ' + "9" * 10_000 + "}",
    "5,000 levels": "[" * 5_000 + "]" * 5_000,
    "10,000 open brackets": "[" * 10_000,
}
"""Frames that give no id an answer could go to."""

BAD_REQUEST: dict[str, str] = {
    "another type": request("health", {}, type="res"),
    "no type": '{"id": "1", "method": "health"}',
    "a type that is a number": request("health", {}, type=5),
    "no method": '{"type": "req", "id": "1"}',
    "an empty method": request(""),
    "a number as method": '{"type": "req", "id": "1", "method": 5}',
    "an array as method": '{"type": "req", "id": "1", "method": ["health"]}',
    "an array as params": request("health", []),
    "a string as params": request("health", "limit"),
    "a number as params": request("health", 5),
}
"""Frames whose id an answer can go to."""


@pytest.mark.parametrize("name", NO_REQUEST)
def test_a_frame_that_is_no_request_ends_the_handshake(service: Service, name: str) -> None:
    with Gateway(service.port) as client:
        client.send_raw(NO_REQUEST[name])
        assert client.closed()[0] == 1008


@pytest.mark.parametrize("name", NO_REQUEST)
def test_a_frame_that_is_no_request_ends_the_connection(gateway: Gateway, name: str) -> None:
    gateway.send_raw(NO_REQUEST[name])
    code, reason = gateway.closed()
    assert code == 1008
    assert reason


@pytest.mark.parametrize("name", BAD_REQUEST)
def test_a_bad_request_ends_the_handshake_with_an_answer(service: Service, name: str) -> None:
    with Gateway(service.port) as client:
        client.send_raw(BAD_REQUEST[name])
        answer = client.response_raw()
        assert (answer["id"], answer["ok"], answer["error"]["code"]) == ("1", False, "INVALID_REQUEST")
        assert client.closed()[0] == 1008


@pytest.mark.parametrize("name", BAD_REQUEST)
def test_a_bad_request_is_answered_and_the_connection_goes_on(gateway: Gateway, name: str) -> None:
    gateway.send_raw(BAD_REQUEST[name].replace('"id": "1"', '"id": "bad"'))
    answer = gateway.response_raw()
    assert (answer["id"], answer["ok"], answer["error"]["code"]) == ("bad", False, "INVALID_REQUEST")
    assert_clear(answer["error"])
    assert gateway.request("health")["ok"]


def test_10_000_levels_end_the_connection_and_no_more(gateway: Gateway) -> None:
    gateway.send_raw(request("memory.search", None)[:-5] + '{"query": ' + "[" * 10_000 + "]" * 10_000 + "}}")
    assert gateway.closed()[0] == 1008


@pytest.mark.parametrize("method", ["health", "chat.send", "agent", "sessions.delete", "no.such.method", "Connect"])
def test_any_other_request_before_connect_is_refused(service: Service, method: str) -> None:
    with Gateway(service.port) as client:
        params = {"sessionKey": "main", "message": "hello", "idempotencyKey": "early", "key": "main"}
        with pytest.raises(Refused, match="connect") as refused:
            client.request(method, params)
        assert refused.value.code == "INVALID_REQUEST"
        assert client.closed()[0] == 1008


def test_what_follows_a_refused_connect_is_not_served(service: Service) -> None:
    with Gateway(service.port) as client:
        first = frame(TEXT, request(params={**CONNECT, "auth": {"token": "wrong"}}).encode())
        params = {"sessionKey": "main", "message": "hello", "idempotencyKey": "after"}
        second = frame(TEXT, request("chat.send", params, id="2").encode())
        client.send_raw(first + second)
        assert client.response_raw()["error"]["details"]["code"] == "AUTH_TOKEN_MISMATCH"
        assert client.closed()[0] == 1008


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        (None, "AUTH_TOKEN_MISSING"),
        ({}, "AUTH_TOKEN_MISSING"),
        ({"token": ""}, "AUTH_TOKEN_MISSING"),
        ({"token": None}, "AUTH_TOKEN_MISSING"),
        ({"password": "{right}"}, "AUTH_TOKEN_MISSING"),
        ({"token": "wrong"}, "AUTH_TOKEN_MISMATCH"),
        ({"token": "{right}x"}, "AUTH_TOKEN_MISMATCH"),
        ({"token": "{right} "}, "AUTH_TOKEN_MISMATCH"),
        ({"token": "\ud800"}, "AUTH_TOKEN_MISMATCH"),
        ({"token": "\0"}, "AUTH_TOKEN_MISMATCH"),
        ({"token": "x" * 10_000}, "AUTH_TOKEN_MISMATCH"),
        ({"token": ENDED}, "AUTH_TOKEN_MISMATCH"),
    ],
    ids=range(12),
)
def test_without_a_valid_token_nobody_gets_in(service: Service, auth: Any, code: str) -> None:
    presented = json.loads(json.dumps(auth).replace("{right}", service.token))
    with Gateway(service.port) as client:
        with pytest.raises(Refused, match="token") as refused:
            client.connect(None, auth=presented)
        assert refused.value.code == "INVALID_REQUEST"
        assert refused.value.details["code"] == code
        assert service.token not in json.dumps(refused.value.error)
        assert client.closed()[0] == 1008
    assert ENDED not in service.said()


@pytest.mark.parametrize("protocol", [(2, 2), (1, 2), (5, 5), (99, 99), (5, 10**30), (4, 3)])
def test_no_protocol_in_common_is_told_with_the_one_expected(service: Service, protocol: tuple[int, int]) -> None:
    with Gateway(service.port) as client:
        with pytest.raises(Refused, match="protocol") as refused:
            client.connect(service.token, protocol=protocol)
        assert refused.value.code == "INVALID_REQUEST"
        assert refused.value.details["expectedProtocol"] == 4
        assert client.closed()[0] == 1002


@pytest.mark.parametrize(("protocol", "chosen"), [((3, 3), 3), ((1, 3), 3), ((4, 99), 4), ((1, 10**30), 4)])
def test_the_highest_protocol_in_common_is_taken(service: Service, protocol: tuple[int, int], chosen: int) -> None:
    with Gateway(service.port) as client:
        assert client.connect(service.token, protocol=protocol)["protocol"] == chosen


@pytest.mark.parametrize(
    "change",
    [
        {"minProtocol": "3"},
        {"minProtocol": None},
        {"minProtocol": 3.5},
        {"minProtocol": True},
        {"minProtocol": -1},
        {"maxProtocol": [4]},
        {"client": None},
        {"client": "cli"},
        {"client": []},
        {"client": {}},
        {"client": {"id": 5, "version": "1", "platform": "linux", "mode": "cli"}},
        {"client": {"id": "cli", "version": {}, "platform": "linux", "mode": "cli"}},
    ],
    ids=str,
)
def test_a_connect_of_wrong_types_is_refused(service: Service, change: dict[str, Any]) -> None:
    with Gateway(service.port) as client:
        with pytest.raises(Refused) as refused:
            client.connect(service.token, **change)
        assert refused.value.code == "INVALID_REQUEST"
        assert_clear(refused.value.error)
        assert client.closed()[0] == 1008


def test_a_second_connect_changes_nothing(gateway: Gateway) -> None:
    with pytest.raises(Refused) as refused:
        gateway.request("connect", {**CONNECT, "auth": {"token": "wrong"}})
    assert refused.value.code == "INVALID_REQUEST"
    assert gateway.request("health")["ok"]


def test_who_says_nothing_is_closed(start: Any) -> None:
    service = start(PINCH_GATEWAY_HANDSHAKE_TIMEOUT_S="1")
    with Gateway(service.port) as client:
        assert client.closed()[0] == 1008
    with Gateway(service.port) as client:
        client.send_raw(frame(TEXT, b'{"type": "req"', fin=False))
        assert client.closed()[0] == 1008


@pytest.mark.parametrize("connected", [False, True], ids=["before connect", "connected"])
def test_a_binary_frame_closes(service: Service, *, connected: bool) -> None:
    with Gateway(service.port) as client:
        if connected:
            client.connect(service.token)
        client.send_raw(frame(BINARY, request("health", {}).encode()))
        assert client.closed()[0] == 1003


@pytest.mark.parametrize("connected", [False, True], ids=["before connect", "connected"])
@pytest.mark.parametrize("piece", [b"", b"x", b"x" * 1000], ids=["empty", "of one byte", "of 1,000 bytes"])
def test_fragments_that_never_end_close(service: Service, piece: bytes, *, connected: bool) -> None:
    with Gateway(service.port) as client:
        if connected:
            client.connect(service.token)
        client.send_raw(frame(TEXT, b'{"', fin=False))
        assert flooded(client, frame(CONTINUATION, piece, fin=False) * 50) < FLOOD_BYTES
        assert client.closed()[0] == 1009


@pytest.mark.parametrize("connected", [False, True], ids=["before connect", "connected"])
@pytest.mark.parametrize("opcode", [TEXT, BINARY])
def test_a_frame_of_50_mb_closes_long_before_it_has_come(service: Service, opcode: int, *, connected: bool) -> None:
    before = rss_bytes(service.pid)
    with Gateway(service.port) as client:
        if connected:
            client.connect(service.token)
        client.send_raw(frame(opcode, b"", length=50 * 2**20))
        flooded(client, b"x" * 65_536, 50 * 2**20)
        assert client.closed()[0] == 1009
    assert rss_bytes(service.pid) - before < 8 * 2**20


def test_a_message_may_have_what_the_policy_says_and_no_more(service: Service) -> None:
    with Gateway(service.port) as client:
        most = client.connect(service.token)["policy"]["maxPayload"]
        client.send_raw(request("health", {}, id="fits").ljust(most - HEADER_BYTES))
        assert client.response_raw()["ok"]
        client.send_raw(request("health", {}, id="longer").ljust(most + 1))
        assert client.closed()[0] == 1009
    with Gateway(service.port) as client:
        client.send_raw(request(params={**CONNECT, "auth": {"token": service.token}}).ljust(HANDSHAKE_BYTES + 1))
        assert client.closed()[0] == 1009


def test_a_message_that_does_not_go_on_closes(service: Service) -> None:
    with Gateway(service.port) as client:
        client.connect(service.token)
        client.send_raw(frame(TEXT, request("health", {}).encode())[:-1])
        assert client.closed()[0] == 1008


def test_pings_whose_answers_nobody_takes_close(service: Service) -> None:
    before = rss_bytes(service.pid)
    with Gateway(service.port, receive_bytes=4096) as client:
        client.connect(service.token)
        sent = flooded(client, frame(PING, b"x" * 125) * 500)
        assert sent < FLOOD_BYTES, "64 MB of pings are taken from one who reads nothing"
    assert rss_bytes(service.pid) - before < 8 * 2**20


def test_an_id_is_answered_once(gateway: Gateway) -> None:
    gateway.send_raw(request("health", {}, id="twice"))
    gateway.send_raw(request("health", {}, id="twice"))
    answers = sorted((gateway.response_raw() for _ in range(2)), key=lambda answer: bool(answer["ok"]))
    assert [answer["ok"] for answer in answers] == [False, True]
    assert answers[0]["error"]["code"] == "INVALID_REQUEST"
    assert_clear(answers[0]["error"])


@pytest.mark.parametrize(
    "method", ["", "Health", "health ", "sessions", "no.such.method", "__class__", "../health", "x" * 10_000, "\0", "ü"]
)
def test_an_unknown_method_is_refused(gateway: Gateway, method: str) -> None:
    with pytest.raises(Refused) as refused:
        gateway.request(method)
    assert refused.value.code == "INVALID_REQUEST"
    assert_clear(refused.value.error)
    assert gateway.request("health")["ok"]


SESSION = {"sessionKey": "main"}
MESSAGE = {**SESSION, "message": "hello", "idempotencyKey": "never-used"}
METHODS: dict[str, tuple[dict[str, Any], dict[str, str]]] = {
    "health": ({}, {}),
    "status": ({}, {}),
    "budget": ({}, {}),
    "system-presence": ({}, {}),
    "config.get": ({}, {}),
    "logs.tail": ({}, {"cursor": "int", "limit": "int", "maxBytes": "int"}),
    "sessions.list": ({}, {"limit": "int", "search": "str"}),
    "sessions.preview": ({"keys": ["main"]}, {"keys": "list", "limit": "int", "maxChars": "int"}),
    "sessions.reset": ({"key": "main"}, {"key": "str"}),
    "sessions.delete": ({"key": "main"}, {"key": "str"}),
    "chat.send": (MESSAGE, {"sessionKey": "str", "message": "str", "idempotencyKey": "str"}),
    "chat.history": (SESSION, {"sessionKey": "str", "limit": "int", "maxChars": "int"}),
    "chat.abort": (SESSION, {"sessionKey": "str", "runId": "str"}),
    "agent": (MESSAGE, {"sessionKey": "str", "message": "str", "idempotencyKey": "str"}),
    "memory.search": (
        {"query": "kettle"},
        {"query": "str", "space": "str", "k": "int", "tags": "list", "mode": "str"},
    ),
    "memory.get": ({"id": "m1"}, {"id": "str"}),
    "memory.remember": ({"text": "never"}, {"text": "str", "space": "str", "tags": "list", "thread": "str"}),
    "memory.forget": ({"id": "m1"}, {"id": "str"}),
}
"""Every method: params it would take, and the types of those it knows."""
OF_WRONG_TYPE: dict[str, list[Any]] = {
    "str": [5, 0.5, True, [], ["main"], {}, {"a": 1}],
    "int": ["5", 0.5, True, [5], {}, -1],
    "list": ["main", 5, True, {}, [5], [None], [["main"]]],
}
WRONG = [
    (method, name, value)
    for method, (_, types) in METHODS.items()
    for name, kind in types.items()
    for value in OF_WRONG_TYPE[kind]
]
REQUIRED = {
    "sessions.preview": ["keys"],
    "sessions.reset": ["key"],
    "sessions.delete": ["key"],
    "chat.send": ["sessionKey", "message"],
    "chat.history": ["sessionKey"],
    "chat.abort": ["sessionKey"],
    "agent": ["message"],
    "memory.search": ["query"],
    "memory.get": ["id"],
    "memory.remember": ["text"],
    "memory.forget": ["id"],
}


def test_every_method_is_tested_here(gateway: Gateway) -> None:
    assert set(gateway.hello["features"]["methods"]) - {"connect"} <= set(METHODS)


@pytest.mark.parametrize(("method", "name", "value"), WRONG, ids=[f"{m}-{n}-{v!r:.20}" for m, n, v in WRONG])
def test_a_param_of_a_wrong_type_is_refused_by_its_name(gateway: Gateway, method: str, name: str, value: Any) -> None:
    with pytest.raises(Refused) as refused:
        gateway.request(method, {**METHODS[method][0], name: value})
    assert refused.value.code == "INVALID_REQUEST", refused.value.error
    assert name in refused.value.message
    assert_clear(refused.value.error)


@pytest.mark.parametrize(
    ("method", "name"), [(method, name) for method, names in REQUIRED.items() for name in names], ids=str
)
def test_a_missing_param_is_named(gateway: Gateway, method: str, name: str) -> None:
    with pytest.raises(Refused) as refused:
        gateway.request(method, {key: value for key, value in METHODS[method][0].items() if key != name})
    assert refused.value.code == "INVALID_REQUEST"
    assert name in refused.value.message


NAMES = [
    "", ".", "..", "../main", "../../tokens", "a/../b", "a/b", "/etc/passwd", "a\\b", ".hidden", "-x", "_x", "a b",
    "main\n", "main\0", "\0", "größe", "main\u202e", "\ud800", "x" * 121, "x" * 10_000, "%2e%2e%2fmain", "a,b", "a*",
]  # fmt: skip


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("chat.send", "sessionKey"),
        ("agent", "sessionKey"),
        ("chat.history", "sessionKey"),
        ("chat.abort", "sessionKey"),
        ("sessions.reset", "key"),
        ("sessions.delete", "key"),
    ],
)
def test_a_session_of_no_proper_name_is_refused(gateway: Gateway, method: str, name: str) -> None:
    for key in NAMES:
        with pytest.raises(Refused) as refused:
            gateway.request(method, {**METHODS[method][0], name: key})
        assert refused.value.code == "INVALID_REQUEST", (key, refused.value.error)
        assert_clear(refused.value.error)


@pytest.mark.parametrize(
    "name", ["A", "9", "a" * 120, "agent:main:main", "a.b_c:d@e+f-g", "telegram:+4930123", "a..b", "con", "lost+found"]
)
def test_any_proper_name_is_a_session_of_its_own(serving: Service, name: str) -> None:
    with Gateway(serving.port) as client:
        client.connect(serving.token)
        assert client.say("hello", name)[-1]["state"] == "final"
        assert name in [session["key"] for session in client.request("sessions.list")["sessions"]]
        assert client.request("sessions.delete", {"key": name})["deleted"]
        assert name not in [session["key"] for session in client.request("sessions.list")["sessions"]]


@pytest.mark.parametrize("message", ["", "\0", "a\0b", "\ud800"], ids=["empty", "NUL", "NUL within", "surrogate"])
@pytest.mark.parametrize("method", ["chat.send", "agent"])
def test_a_message_that_says_nothing_proper_is_refused(gateway: Gateway, method: str, message: str) -> None:
    with pytest.raises(Refused) as refused:
        gateway.request(method, {**MESSAGE, "message": message})
    assert refused.value.code == "INVALID_REQUEST"
    assert "message" in refused.value.message


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "", "http://127.0.0.1:1", "file://"])
def test_a_page_from_elsewhere_is_not_let_in(service: Service, origin: str) -> None:
    with pytest.raises(UpgradeRefused) as refused:
        Wire(service.port, headers={"Origin": origin})
    assert refused.value.status == 403
    assert json.loads(refused.value.body)["error"]["type"] == "forbidden"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", ""])
def test_another_name_of_this_address_is_not_let_in(service: Service, host: str) -> None:
    with pytest.raises(UpgradeRefused) as refused:
        Wire(service.port, headers={"Host": host})
    assert refused.value.status in {400, 403}


def test_our_own_page_is_let_in(service: Service) -> None:
    with Gateway(service.port, headers={"Origin": f"http://127.0.0.1:{service.port}"}) as client:
        assert client.connect(service.token)["type"] == "hello-ok"


@pytest.mark.parametrize("where", ["/?token={}", "/?auth={}", "/{}", "/?access_token={}", "/ws?token={}"])
def test_a_token_in_the_address_opens_nothing(service: Service, where: str) -> None:
    with pytest.raises(UpgradeRefused) as refused:
        Wire(service.port, where.format(service.token))
    assert 400 <= refused.value.status < 500
    assert service.token.encode() not in refused.value.body


def flooded(client: Gateway, piece: bytes, most: int = FLOOD_BYTES) -> int:
    """Send `piece` again and again until the gateway hangs up; return the bytes that went out."""
    sent = 0
    with suppress(ConnectionError):
        while sent < most:
            client.send_raw(piece)
            sent += len(piece)
    return sent


def assert_clear(error: dict[str, Any]) -> None:
    """One sentence a person can do something with."""
    assert error["message"]
    assert len(error["message"]) < 300, error
    assert "\n" not in error["message"]
    assert "\0" not in error["message"]
    assert isinstance(error["details"]["type"], str)
