"""Who may call: tokens, hosts, origins, and where the service listens."""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from pinch.gateway.auth import check_host
from pinch.gateway.context import CONTEXT, Context
from pinch.gateway.faults import Forbidden
from pinch.settings import Settings

from service.tests.serving import Service, until
from tests.running import ServiceError

Starter = Callable[..., Service]
OTHER = "other-token-0123456789abcdef"


@pytest.mark.parametrize(
    "authorization",
    [
        None, "", "Bearer", "Bearer ", "Bearer wrong-token-0123456789", "Basic dXNlcjpwYXNz", "Bearer {token}x",
        "Bearer {short}", "{token}", "Bearer {token} {token}", "bearer\t{token}x", "Bearer \xe9\xff",
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/v1/memories", "/v1/budget", "/metrics", "/openapi.json", "/nowhere"])
def test_nothing_is_told_without_the_token(minimal: Service, path: str, authorization: str | None) -> None:
    headers = {}
    if authorization is not None:
        headers["Authorization"] = authorization.format(token=minimal.token, short=minimal.token[:-1])
    answer = minimal.call("GET", path, token=None, headers=headers)
    assert answer.status == 401
    assert answer.error["type"] == "unauthorized"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert minimal.token[:8] not in answer.content.decode()


def test_a_wrong_token_stores_nothing(minimal: Service, space: str) -> None:
    answer = minimal.call("POST", "/v1/memories", {"text": "x", "space": space}, token="wrong-token-0123456789")
    assert answer.status == 401
    assert minimal.listed(space=space) == []


def test_health_is_open_and_details_are_not(minimal: Service) -> None:
    assert minimal.call("GET", "/healthz", token=None).json == {"ok": True}
    assert minimal.call("GET", "/readyz", token=None).json == {"ready": True}
    told = minimal.get("/readyz")
    assert (told["ready"], told["waiting_for"], told["tier"], told["store"]) == (True, [], "minimal", "ok")


def test_a_tokens_file_that_others_can_read_is_refused_by_name(tmp_path: Path) -> None:
    service = Service(tmp_path, PINCH_TIER="minimal")
    (tmp_path / "tokens").chmod(0o644)
    with pytest.raises(ServiceError, match=r"status 78:[\s\S]*mode 0644[\s\S]*chmod 600"):
        service.start()
    assert service.token not in service.said()


def test_a_first_start_makes_a_token_that_opens(start: Starter, tmp_path: Path) -> None:
    tokens = tmp_path / "made"
    service = start(PINCH_TOKENS_FILE=str(tokens))
    made = tokens.read_text().split()[-1]
    assert tokens.stat().st_mode & 0o777 == 0o600
    assert service.call("GET", "/v1/budget", token=made).status == 200
    assert made not in service.said(), "a token is never logged"


def test_a_rotated_token_is_known_without_a_restart(start: Starter) -> None:
    service = start()
    tokens = service.folder / "tokens"
    past = (datetime.now(UTC) - timedelta(seconds=5)).isoformat(timespec="seconds")
    soon = (datetime.now(UTC) + timedelta(hours=1)).isoformat(timespec="seconds")
    _write(tokens, f"old {service.token} until={past}\nnew {OTHER} until={soon}\n")
    until(lambda: service.call("GET", "/v1/budget", token=OTHER).status == 200, "the new token is known")
    assert service.call("GET", "/v1/budget").status == 401, "the old one has ended"


def test_tokens_spoilt_while_running_change_nothing(start: Starter) -> None:
    service = start()
    tokens = service.folder / "tokens"
    good = tokens.read_text()
    for content, mode in (("garbage", 0o600), (good, 0o644), ("", 0o600)):
        logged = len(service.said())
        _write(tokens, content, mode)
        until(
            lambda logged=logged: service.call("GET", "/v1/budget").status == 200 and len(service.said()) > logged,  # type: ignore[misc]
            "the tokens before stay valid, and the log says why",
        )
    tokens.unlink()
    assert service.call("GET", "/v1/budget").status == 200


def _write(tokens: Path, content: str, mode: int = 0o600) -> None:
    partial = tokens.with_name("partial")
    partial.touch(mode)
    partial.write_text(content, "utf-8")
    partial.chmod(mode)
    partial.rename(tokens)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:18789", "[::1]:5", "192.168.0.17", "pi.local"])
def test_our_own_names_are_served(named: Service, host: str) -> None:
    assert named.call("GET", "/v1/budget", headers={"Host": host}).status == 200


def test_the_name_it_listens_on_is_served() -> None:
    app = web.Application()
    app[CONTEXT] = cast("Context", SimpleNamespace(settings=Settings(listen="Kitchen.local:18789")))
    check_host(make_mocked_request("GET", "/", headers={"Host": "kitchen.local:18789"}, app=app))
    with pytest.raises(Forbidden):
        check_host(make_mocked_request("GET", "/", headers={"Host": "cellar.local:18789"}, app=app))


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example", "pi.local.", "", "[", "[::1", "a b", "127.1"]
)
def test_another_name_is_refused(named: Service, host: str) -> None:
    for path in ("/healthz", "/v1/budget"):
        answer = named.call("GET", path, headers={"Host": host})
        assert answer.status in {400, 403}
        assert answer.error["message"]


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://app.example", 200), ("http://127.0.0.1:{port}", 200), ("https://evil.example", 403), ("null", 403),
        ("", 403), ("http://[", 403), ("http://127.0.0.1:1", 403),
    ],
)  # fmt: skip
def test_only_known_web_pages_may_call(named: Service, origin: str, status: int) -> None:
    answer = named.call("GET", "/v1/budget", headers={"Origin": origin.format(port=named.port)})
    assert answer.status == status
    assert status == 200 or answer.error["type"] == "forbidden"


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> object:
    environment = {
        "PINCH_GATEWAY_ALLOWED_HOSTS": "pi.local",
        "PINCH_GATEWAY_ALLOWED_ORIGINS": "https://app.example:8443,https://app.example",
    }
    with Service(tmp_path_factory.mktemp("named"), PINCH_TIER="minimal", **environment) as service:
        yield service


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("0.0.0.0:0", "beyond loopback and without TLS"),
        ("127.0.0.1", "expected an address and a port"),
        ("127.0.0.1:99999", "expected an address and a port"),
        ("127.0.0.1:port", "expected an address and a port"),
        ("192.0.2.1:0", "beyond loopback"),
    ],
)
def test_an_address_that_cannot_be_is_refused(tmp_path: Path, listen: str, said: str) -> None:
    with pytest.raises(ServiceError, match=rf"status 78:[\s\S]*{said}"):
        Service(tmp_path, PINCH_TIER="minimal", PINCH_LISTEN=listen).start()


def test_a_taken_port_is_named(minimal: Service, tmp_path: Path) -> None:
    second = Service(tmp_path, PINCH_TIER="minimal", PINCH_LISTEN=f"127.0.0.1:{minimal.port}")
    second.port = 1  # so that the first one's answers are not taken for its own
    with pytest.raises(ServiceError, match=rf"cannot listen on 127\.0\.0\.1:{minimal.port}: .*in use"):
        second.start()


def test_a_start_that_fails_leaves_the_store_clean(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="beyond loopback"):
        Service(tmp_path, PINCH_TIER="minimal", PINCH_LISTEN="0.0.0.0:0").start()
    with Service(tmp_path, PINCH_TIER="minimal") as service:
        assert "did not end cleanly" not in service.log.read_text("utf-8")


def test_of_many_connections_at_once_no_more_than_the_limit_are_served(start: Starter) -> None:
    service = start(PINCH_GATEWAY_MAX_CONNECTIONS="3")
    crowd = [service.connect() for _ in range(20)]
    for connection in crowd:
        with suppress(ConnectionError):  # refused before it asked
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    answers = []
    for connection in crowd:
        with suppress(ConnectionError):
            answers.append(connection.recv(4096).partition(b"\r\n")[0])
        connection.close()
    assert 1 <= answers.count(b"HTTP/1.1 200 OK") <= 3


def test_one_connection_more_than_the_limit_is_told_so(start: Starter) -> None:
    service = start(PINCH_GATEWAY_MAX_CONNECTIONS="3")
    held: list[socket.socket] = []

    def hold() -> bool:
        connection = service.connect()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        if b"200 OK" in connection.recv(4096):
            held.append(connection)
        return len(held) == 3

    until(hold, "three connections are held, once those that asked whether it is ready have gone")
    refused = service.call("GET", "/healthz")
    assert refused.status == 503
    assert refused.error["type"] == "busy"
    assert refused.headers["Retry-After"] == "1"
    held.pop().close()
    until(lambda: service.call("GET", "/healthz").status == 200, "a place is free again")
    for connection in held:
        connection.close()
