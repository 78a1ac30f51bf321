"""Many clients at once, hostile or just many: what they leave in memory, and that others are served."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from service.tests.cli.test_tls import certificate
from service.tests.serving import Service, rss_bytes, until
from tests.frames import Gateway
from tests.provider import MODEL, Provider
from tests.running import LocalService

MEBIBYTE = 1024 * 1024
MOST_BYTES = 8 * MEBIBYTE
"""What any crowd may take of a service whose limit is 50 MB."""
CROWD = 24


@pytest.fixture
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def service(start: Callable[..., Service], provider: Provider) -> Service:
    return start(PINCH_PROVIDER_BASE_URL=provider.url, PINCH_PROVIDER_MODEL=MODEL)


def grown(service: Service, before: int) -> int:
    assert service.call("GET", "/healthz").status == 200  # what came before it is taken in by then, or refused
    return rss_bytes(service.pid) - before


def test_unfinished_heads_are_cut_before_they_fill_the_memory(service: Service) -> None:
    before = rss_bytes(service.pid)
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n" + (b"X-A: " + b"x" * 8000 + b"\r\n") * 110
    with ExitStack() as opened:
        for _ in range(CROWD):
            client = opened.enter_context(service.connect())
            with suppress(OSError):
                client.sendall(head)
        assert grown(service, before) < 3 * MEBIBYTE
    assert service.call("GET", "/healthz").status == 200


def test_a_head_after_an_answered_request_is_bounded_too(service: Service) -> None:
    with service.connect() as client:
        client.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
        with suppress(OSError):  # a reset or a broken pipe, as the moment has it
            for _ in range(200):
                client.sendall(b"X-A: " + b"x" * 8000 + b"\r\n")
                time.sleep(0.001)
            pytest.fail("a head of 1.6 MB was taken")
    assert service.call("GET", "/healthz").status == 200


def test_a_body_is_no_head(service: Service) -> None:
    text = "kettle " * 9000
    assert (
        service.call("POST", "/v1/memories", {"memories": [{"text": text + str(n)} for n in range(10)]}).status == 201
    )


def test_abandoned_handshakes_of_tls_take_little(tmp_path: Path) -> None:
    pem = str(certificate(tmp_path, "mine.pem"))
    service = LocalService(tmp_path, PINCH_TIER="minimal", PINCH_GATEWAY_TLS_CERTIFICATE=pem, PINCH_GATEWAY_TLS_KEY=pem)
    service.spawn()
    try:
        until(lambda: over_tls(service) == 200, "it answers over TLS")
        before = rss_bytes(service.pid)
        with ExitStack() as opened:
            for _ in range(150):
                opened.enter_context(socket.create_connection(("127.0.0.1", service.port), timeout=60))
            assert over_tls(service) == 200
            assert rss_bytes(service.pid) - before < MOST_BYTES
    finally:
        service.stop()


def over_tls(service: LocalService) -> int:
    """Return the status of /healthz, or 0 where there is no answer."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    connection = http.client.HTTPSConnection("127.0.0.1", service.port, context=context, timeout=60)
    try:
        connection.request("GET", "/healthz")
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_waiting_for_one_answer_again_and_again_takes_little(service: Service, provider: Provider) -> None:
    provider.hold()
    long = "🫖" + "x" * 60_000
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        wanted = {"sessionKey": "main", "message": long, "idempotencyKey": "k"}
        gateway.request("chat.send", wanted)
        before = rss_bytes(service.pid)
        for number in range(30):
            gateway.response(gateway.send("agent", wanted | {"extraSystemPrompt": f"{number}"}))
        assert grown(service, before) < 3 * MEBIBYTE
        provider.release()
        assert gateway.run("k")[-1]["state"] == "final"


def test_what_was_said_last_is_not_kept(service: Service) -> None:
    before = rss_bytes(service.pid)
    with ExitStack() as opened:
        for _ in range(CROWD):
            gateway = opened.enter_context(Gateway(service.port))
            gateway.connect(service.token)
            asked = {"type": "req", "id": "1", "method": "memory.search", "params": {"query": "🫖" + "x" * 240_000}}
            gateway.send_raw(json.dumps(asked, ensure_ascii=False))
            assert gateway.response_raw()["ok"] is False
        assert grown(service, before) < MOST_BYTES


def test_answers_that_were_read_are_not_kept(service: Service) -> None:
    for number in range(10):
        service.remember(f"kettle {number} " + "x" * 60_000, space="large")
    before = rss_bytes(service.pid)
    with ExitStack() as opened:
        for _ in range(CROWD):
            connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
            opened.callback(connection.close)
            body = b'{"query": "kettle", "space": "large", "k": 10}'
            headers = {"Authorization": f"Bearer {service.token}", "Content-Type": "application/json"}
            connection.request("POST", "/v1/recall", body, headers)
            answer = connection.getresponse()
            assert answer.status == 200
            assert len(answer.read()) > 500_000
        assert grown(service, before) < MOST_BYTES
