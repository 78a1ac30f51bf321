"""A damaged store is set aside, told of and never overwritten; a foreign or newer one is left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

from service.tests.serving import Service, until
from tests.running import ServiceError

Starter = Callable[..., Service]
PAGE = 4096


def filled(start: Starter) -> Service:
    """A service that has something to lose, stopped."""
    service = start()
    for part in range(8):
        texts = [f"memory {part}-{number} of the kettle {'x' * 300}" for number in range(100)]
        service.call("POST", "/v1/memories", {"memories": [{"text": text} for text in texts]})
    service.stop()
    return service


def garbage(store: Path) -> None:
    store.write_bytes(b"this is no database " * 10_000)


def garbled_head(store: Path) -> None:
    with store.open("r+b") as file:
        file.write(b"\xff" * 2 * PAGE)


def truncated(store: Path) -> None:
    with store.open("r+b") as file:
        file.truncate(store.stat().st_size // 2 // PAGE * PAGE)


def set_aside(service: Service) -> list[Path]:
    return sorted(path for path in service.state.glob("pinch.db.corrupt-*") if path.name.endswith("Z"))


@pytest.mark.parametrize("spoil", [garbage, garbled_head, truncated], ids=lambda spoil: spoil.__name__)
def test_a_damaged_store_is_set_aside_and_told_of(start: Starter, spoil: Callable[[Path], None]) -> None:
    service = filled(start)
    spoil(service.store)
    before = service.store.read_bytes()
    service.start()
    if service.get("/readyz")["set_aside"] is None:  # found only when it is read: told, and set aside by the restart
        until(lambda: service.call("GET", "/readyz").status == 503, "the damage is noticed")
        service.stop()
        service.start()
    told = service.get("/readyz")
    assert told["ready"] is True
    (aside,) = set_aside(service)
    assert told["set_aside"] == str(aside)
    assert aside.read_bytes()[: len(before)] == before, "not a byte of it was touched"
    assert "set_aside" not in service.call("GET", "/readyz", token=None).json, "only with a token"
    assert "set aside as" in service.said()
    assert service.remember("life goes on")
    assert service.texts("kettle") == []
    service.stop()
    service.start()
    assert service.get("/readyz")["set_aside"] == str(aside), "told of until it is taken away"
    service.stop()
    aside.unlink()
    service.start()
    assert service.get("/readyz")["set_aside"] is None


def flip_pages(store: Path) -> None:
    """Garble the pages in the middle: a start does not read them."""
    with store.open("r+b") as file:
        for page in range(store.stat().st_size // PAGE // 3, store.stat().st_size // PAGE * 2 // 3):
            file.seek(page * PAGE)
            file.write(b"\xa5" * 64)


def test_damage_in_the_middle_is_found_by_reading_and_nothing_is_written_after_it(start: Starter) -> None:
    service = filled(start)
    flip_pages(service.store)
    service.start()
    listed = service.call("GET", "/v1/memories?limit=200")
    while listed.status == 200 and listed.json["cursor"]:
        listed = service.call("GET", f"/v1/memories?limit=200&cursor={listed.json['cursor']}")
    assert listed.status == 503, "a damaged store does not pretend to be whole"
    assert listed.error["type"] == "store_damaged"
    told = service.call("GET", "/readyz")
    assert told.status == 503
    assert told.json["store"].startswith("damaged:")
    refused = service.call("POST", "/v1/memories", {"text": "too late"})
    assert (refused.status, refused.error["type"]) == (503, "store_damaged")
    assert "restart the service" in refused.error["hint"]
    assert set_aside(service) == [], "nothing is moved while it is in use"
    service.stop()
    service.start()
    assert len(set_aside(service)) == 1, "the promise is kept: the restart sets it aside"
    assert service.remember("life goes on")


def test_damage_that_a_kill_left_is_found_at_the_next_start(start: Starter) -> None:
    service = filled(start)
    service.start()
    service.remember("so that the end is not a clean one")
    service.kill()
    connection = apsw.Connection(str(service.store))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    connection.close()
    flip_pages(service.store)
    service.start()
    until(lambda: service.call("GET", "/readyz").status == 503, "the start reads the whole store and tells of it")
    assert service.call("GET", "/healthz").status == 200
    service.stop()
    service.start()
    assert len(set_aside(service)) == 1


def test_damage_happens_twice_and_both_are_kept(start: Starter) -> None:
    service = filled(start)
    for _ in range(2):
        garbage(service.store)
        service.start()
        service.stop()
    kept = [path for path in service.state.glob("pinch.db.corrupt-*") if path.stat().st_size == 200_000]
    assert len(kept) == 2


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("PRAGMA user_version = 999", "has schema 999, and this release knows 1"),
        ("PRAGMA application_id = 5", "is an SQLite file of another program"),
    ],
)
def test_a_store_that_is_not_for_this_release_is_left_alone(start: Starter, sql: str, said: str) -> None:
    service = filled(start)
    connection = apsw.Connection(str(service.store))
    connection.execute(sql).fetchall()
    connection.close()
    before = service.store.read_bytes()
    with pytest.raises(ServiceError, match=rf"status 1:[\s\S]*{said}"):
        service.start()
    assert service.store.read_bytes() == before
    assert set_aside(service) == []


def test_two_services_do_not_share_a_state_folder(start: Starter) -> None:
    first = start()
    first.remember("mine")
    second = Service(first.folder, PINCH_TIER="minimal")
    with pytest.raises(ServiceError, match=rf"status 1:[\s\S]*in use by another service \(process {first.pid}\)"):
        second.start()
    assert first.texts("mine") == ["mine"]
    first.kill()
    second.start()
    assert second.texts("mine") == ["mine"], "a killed one does not keep its lock"
    second.stop()


def test_a_state_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x", "utf-8")
    service = Service(tmp_path, PINCH_TIER="minimal", PINCH_STATE_DIR=str(tmp_path / "file"))
    with pytest.raises(ServiceError, match=r"status 1:[\s\S]*state folder .*file cannot be used"):
        service.start()
