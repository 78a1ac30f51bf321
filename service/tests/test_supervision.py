"""What systemd is told, and how the service ends."""

from __future__ import annotations

import http.client
import os
import select
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from service.tests.serving import Service, until

Starter = Callable[..., Service]
STOP_S = 10


@pytest.fixture
def manager(tmp_path: Path) -> socket.socket:
    """The socket that systemd gives to a service of `Type=notify`."""
    receiving = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiving.bind(str(tmp_path / "notify"))
    receiving.settimeout(60)
    return receiving


def told(manager: socket.socket, wanted: str) -> list[str]:
    """Read until `wanted` is said; return everything up to there."""
    said: list[str] = []
    while wanted not in said:
        said += manager.recv(4096).decode().splitlines()
    return said


def told_by_now(manager: socket.socket) -> list[str]:
    """Return what was said and not yet read."""
    said: list[str] = []
    while select.select([manager], [], [], 0)[0]:
        said += manager.recv(4096).decode().splitlines()
    return said


def test_systemd_hears_ready_status_and_stopping(start: Starter, manager: socket.socket) -> None:
    service = start(NOTIFY_SOCKET=manager.getsockname())
    said = told(manager, "READY=1")
    assert service.call("GET", "/healthz").status == 200, "ready means that it answers"
    assert "STOPPING=1" not in said
    told(manager, f"STATUS=tier minimal, listening on 127.0.0.1:{service.port}")
    service.terminate()
    assert "WATCHDOG=1" not in told(manager, "STOPPING=1"), "nothing is fed that was not asked for"
    assert service.exit_status() == 0


def test_the_watchdog_is_fed_only_while_the_writer_works(start: Starter, manager: socket.socket) -> None:
    service = start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="600000")
    told(manager, "WATCHDOG=1")
    told(manager, "WATCHDOG=1")
    blocker = apsw.Connection(str(service.store))
    blocker.execute("BEGIN IMMEDIATE")
    held = threading.Thread(target=service.call, args=("POST", "/v1/memories", {"text": "held up"}))
    held.start()
    # The feeder itself now waits for the writer: what comes after the last feed in flight is silence.
    until(lambda: service.call("GET", "/healthz").status == 200, "the loop turns")
    told_by_now(manager)
    beginning = time.monotonic()
    held.join()  # the writer waits five seconds for the lock: far longer than the watchdog's time
    assert time.monotonic() - beginning > 1, "the writer was not held up: the test proves nothing"
    fed = told_by_now(manager).count("WATCHDOG=1")
    assert fed <= 1, "the loop turned all the time, and the writer did not"
    blocker.execute("ROLLBACK")
    blocker.close()
    told(manager, "WATCHDOG=1")
    assert service.remember("and on it goes")


def test_a_watchdog_meant_for_another_process_is_not_fed(start: Starter, manager: socket.socket) -> None:
    service = start(NOTIFY_SOCKET=manager.getsockname(), WATCHDOG_USEC="30000", WATCHDOG_PID=str(os.getpid()))
    told(manager, "READY=1")
    for number in range(20):
        service.remember(str(number))
    service.terminate()
    assert "WATCHDOG=1" not in told(manager, "STOPPING=1")


def test_a_writer_that_is_held_up_is_told_to_the_client_as_busy(start: Starter) -> None:
    service = start()
    blocker = apsw.Connection(str(service.store))
    blocker.execute("BEGIN IMMEDIATE")
    answer = service.call("POST", "/v1/memories", {"text": "held up"})
    assert (answer.status, answer.error["type"]) == (503, "busy")
    assert answer.headers["Retry-After"] == "1"
    assert service.recall("anything")["hits"] == [], "reading goes on"
    blocker.execute("ROLLBACK")
    blocker.close()
    assert service.listed() == []
    assert service.remember("held up")


def test_sigterm_finishes_what_was_acknowledged(start: Starter) -> None:
    service = start()
    acknowledged: list[str] = []
    refused: list[int] = []

    def write(number: int) -> None:
        part = 0
        while True:
            try:
                answer = service.call("POST", "/v1/memories", {"text": f"{number}-{part}"})
            except (OSError, http.client.HTTPException):
                return  # the service is gone
            if answer.status != 201:
                refused.append(answer.status)
                return
            acknowledged.append(f"{number}-{part}")
            part += 1

    writers = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    until(lambda: len(acknowledged) > 50, "a load is on")
    service.terminate()
    assert service.exit_status() == 0
    for writer in writers:
        writer.join()
    assert not refused
    log = service.store.with_name("pinch.db-wal")
    assert not log.exists() or not log.stat().st_size, "the log is folded into the file"
    service.start()
    assert {memory["text"] for memory in service.listed()} >= set(acknowledged)
    assert "did not end cleanly" not in service.said()


@pytest.mark.parametrize("kind", ["upload", "body", "idle", "snapshot", "slow head"])
def test_no_client_keeps_it_from_ending(start: Starter, kind: str) -> None:
    service = start()
    parts = 20 if kind == "snapshot" else 1
    for part in range(parts):
        batch = [{"text": f"{part} {number} {'x' * 3000}"} for number in range(200)]
        service.call("POST", "/v1/memories", {"memories": batch})
    head = f"Host: localhost\r\nAuthorization: Bearer {service.token}\r\n"
    sent = {
        "upload": f"PUT /v1/documents/a.md HTTP/1.1\r\n{head}Content-Length: 1000000\r\n\r\n" + "line\n" * 50_000,
        "body": f"POST /v1/recall HTTP/1.1\r\n{head}Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        "idle": "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "snapshot": f"GET /v1/snapshot HTTP/1.1\r\n{head}\r\n",
        "slow head": "GET /healthz HTTP/1.1\r\nHost:",
    }[kind]
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.connect(("127.0.0.1", service.port))
    connection.sendall(sent.encode())
    if kind in {"idle", "snapshot"}:
        assert connection.recv(12) == b"HTTP/1.1 200"
    begin = time.monotonic()
    service.terminate()
    assert service.exit_status() == 0
    taken = time.monotonic() - begin
    connection.close()
    assert taken < STOP_S, f"it took {taken:.1f} s to end"
    service.start()
    assert "did not end cleanly" not in service.said()
    assert len(service.listed()) == 200 * parts
    assert service.get("/v1/documents")["documents"] == []


def test_sigterm_in_the_middle_of_embedding_loses_nothing(start: Starter, int8: Path) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    texts = [{"text": f"The kettle number {number} stands on the shelf."} for number in range(100)]
    service.call("POST", "/v1/memories", {"memories": texts})
    until(lambda: service.get("/v1/sync")["embedding"]["loaded"], "the model works")
    service.terminate()
    assert service.exit_status() == 0
    service.start()
    service.embedded()
    assert len(service.recall("kettle", mode="semantic", k=100)["hits"]) == 100


def test_a_clock_that_jumps_back_loses_and_hides_nothing(minimal: Service, space: str) -> None:
    ids = [
        minimal.remember(f"turn {number}", space=space, thread="t", at=at)
        for number, at in enumerate(["2030-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "2026-01-01T00:00:00Z"])
    ]
    assert [memory["id"] for memory in minimal.listed(space=space)] == ids[::-1], "the order is that of arrival"
    assert len(minimal.texts("turn", space=space)) == 3
