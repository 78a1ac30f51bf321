"""One service takes over from another that has the store, as in an upgrade."""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.tests.serving import Service, until
from tests.running import ServiceError

WAITS = "waiting for the store: state folder"


@pytest.fixture
def first(tmp_path: Path) -> Iterator[Service]:
    """A service that has a store, and one memory in it."""
    with Service(tmp_path, PINCH_TIER="minimal") as service:
        service.remember("The kettle is on the stove.")
        yield service


@pytest.fixture
def second(first: Service) -> Iterator[Service]:
    """One that wants the same store and waits for it; not started."""
    service = Service(first.folder, PINCH_TIER="minimal", PINCH_STATE_WAIT_S="60")
    yield service
    service.stop()


def told(service: Service) -> None:
    """Wait until it says that it waits."""
    until(lambda: WAITS in service.said(), "the successor says that it waits")


def test_it_serves_as_soon_as_the_other_has_ended(first: Service, second: Service) -> None:
    process = second.spawn()
    told(second)
    first.remember("Said while the other one waited.")
    first.stop()
    second.await_ready(process)
    assert second.texts("kettle") == ["The kettle is on the stove."]
    assert second.texts("waited") == ["Said while the other one waited."]


def test_it_serves_when_the_other_was_killed(first: Service, second: Service) -> None:
    process = second.spawn()
    told(second)
    first.kill()
    second.await_ready(process)
    assert second.texts("kettle") == ["The kettle is on the stove."]


def test_it_ends_at_once_where_it_is_told_to_while_it_waits(first: Service, second: Service) -> None:
    process = second.spawn()
    told(second)
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 0
    assert first.texts("kettle") == ["The kettle is on the stove."]


def test_it_waits_no_longer_than_it_may(first: Service) -> None:
    with pytest.raises(ServiceError, match=r"status 1:[\s\S]*in use by another service") as caught:
        Service(first.folder, PINCH_TIER="minimal", PINCH_STATE_WAIT_S="1").start()
    assert str(caught.value).count(WAITS) == 1, "it says so once"


def test_systemd_is_told_what_it_waits_for(first: Service, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(60)
        line = {"NOTIFY_SOCKET": str(tmp_path / "notify")}
        second = Service(first.folder, PINCH_TIER="minimal", PINCH_STATE_WAIT_S="60", **line)
        second.spawn()
        try:
            assert manager.recv(4096).decode().startswith(f"EXTEND_TIMEOUT_USEC=30000000\nSTATUS={WAITS}")
            first.stop()
            assert manager.recv(4096) == b"EXTEND_TIMEOUT_USEC=180000000\nSTATUS=opening the store"
            assert manager.recv(4096) == b"READY=1"
        finally:
            second.stop()
