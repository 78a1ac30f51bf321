"""Snapshots: one file carries everything, and a bad one changes nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import pytest

from service.tests.serving import Service, until
from tests.frames import Gateway
from tests.provider import MODEL, Provider

Starter = Callable[..., Service]
APPLICATION_ID = 0x50696E63


@pytest.fixture(scope="module")
def snapshot(tmp_path_factory: pytest.TempPathFactory, int8: Path) -> Path:
    """What a service with the model had."""
    file = tmp_path_factory.mktemp("snapshot") / "whole.pinch"
    with Service(tmp_path_factory.mktemp("origin"), PINCH_TIER="full", PINCH_MODEL_DIR=str(int8)) as service:
        for number in range(40):
            service.remember(f"memory {number} of the kettle", space="a", tags=["t"], thread="x", source="s")
        service.put("notes/tea.md", b"# Tea\n\nA teapot is warmed before the leaves go in.\n" * 40, "b")
        service.embedded()
        answer = service.call("GET", "/v1/snapshot")
        assert answer.status == 200
        assert int(answer.headers["Content-Length"]) == len(answer.content)
        file.write_bytes(answer.content)
    return file


def test_a_snapshot_brings_everything_to_an_empty_service(start: Starter, snapshot: Path, int8: Path) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    service.remember("what was here before", space="a")
    service.embedded()
    loaded = service.call("PUT", "/v1/snapshot", snapshot.read_bytes())
    assert loaded.status == 200
    counts = loaded.json
    assert set(counts) == {"memories", "documents", "chunks", "vectors", "schema", "sessions"}
    assert (counts["memories"], counts["documents"]) == (40, 1)
    assert counts["vectors"] == counts["memories"] + counts["chunks"]
    memories = service.listed(space="a")
    assert len(memories) == 40
    assert {(memory["thread"], memory["source"], *memory["tags"]) for memory in memories} == {("x", "s", "t")}
    assert service.texts("before", space="a", mode="keyword") == []
    assert service.recall("hot drinks", mode="semantic")["hits"]
    state = service.get("/v1/sync")["embedding"]
    assert (state["pending"], state["done"]) == (0, 1), "only the memory from before was ever embedded here"
    assert service.remember("memory 3 of the kettle", space="a", thread="x") == memories[36]["id"]


def test_a_snapshot_moves_between_tiers_and_back(start: Starter, snapshot: Path, tmp_path: Path, int8: Path) -> None:
    small = start(tmp_path / "small")
    assert small.call("PUT", "/v1/snapshot", snapshot.read_bytes()).json["memories"] == 40
    assert len(small.texts("kettle", space="a", k=100)) == 40
    small.remember("written on the small one", space="a")
    victim = small.listed(space="a")[5]["id"]
    assert small.call("DELETE", f"/v1/memories/{victim}").status == 204
    small.put("notes/tea.md", b"the teapot is broken\n", "b")
    back = small.call("GET", "/v1/snapshot").content
    large = start(tmp_path / "large", PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    assert large.call("PUT", "/v1/snapshot", back).json["memories"] == 40
    large.embedded()
    assert large.get("/v1/sync")["embedding"]["done"] == 2, "only what the small one wrote is embedded"
    hits = large.recall("written on the small one", space="a", mode="semantic", k=100)["hits"]
    assert hits[0]["text"] == "written on the small one"
    assert victim not in {hit["id"] for hit in hits}
    assert large.texts("crockery in pieces", space="b", mode="semantic") == ["the teapot is broken"]


def test_a_service_goes_on_while_a_snapshot_is_saved(start: Starter, snapshot: Path) -> None:
    service = start()
    service.call("PUT", "/v1/snapshot", snapshot.read_bytes())
    with service.connect() as slow:
        slow.sendall(
            f"GET /v1/snapshot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.token}\r\n\r\n".encode()
        )
        assert slow.recv(100).startswith(b"HTTP/1.1 200")
        service.remember("written meanwhile")
        assert service.texts("meanwhile") == ["written meanwhile"]
    until(lambda: service.call("GET", "/v1/snapshot").status == 200, "the next one may begin")
    until(lambda: not list(service.state.glob("*.partial*")), "the copies are cleared away")


def _spoil(snapshot: Path, to: Path, sql: str) -> bytes:
    to.write_bytes(snapshot.read_bytes())
    connection = apsw.Connection(str(to))
    connection.execute(sql)
    connection.close()
    return to.read_bytes()


def damaged(snapshot: Path, _: Path) -> bytes:
    content = bytearray(snapshot.read_bytes())
    for page in range(4, len(content) // 4096, 3):
        content[page * 4096 : page * 4096 + 200] = b"\xff" * 200
    return bytes(content)


def damaged_where_no_count_looks(snapshot: Path, _: Path) -> bytes:
    content = bytearray(snapshot.read_bytes())
    page = content.index(b"memory 20 of the kettle") // 4096 * 4096
    content[page + 8 : page + 40] = b"\xff" * 32
    return bytes(content)


def truncated(snapshot: Path, _: Path) -> bytes:
    content = snapshot.read_bytes()
    return content[: len(content) // 2]


def newer(snapshot: Path, folder: Path) -> bytes:
    return _spoil(snapshot, folder / "newer", "PRAGMA user_version = 999")


def foreign(_: Path, folder: Path) -> bytes:
    connection = apsw.Connection(str(folder / "foreign"))
    connection.execute("CREATE TABLE a (b)")
    connection.close()
    return (folder / "foreign").read_bytes()


def hollow(_: Path, folder: Path) -> bytes:
    connection = apsw.Connection(str(folder / "hollow"))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 1; CREATE TABLE a (b)")
    connection.close()
    return (folder / "hollow").read_bytes()


def stripped(snapshot: Path, folder: Path) -> bytes:
    return _spoil(snapshot, folder / "stripped", "DROP TABLE pending")


def booby_trapped(snapshot: Path, folder: Path) -> bytes:
    return _spoil(
        snapshot,
        folder / "trapped",
        "CREATE TRIGGER trap AFTER INSERT ON items BEGIN DELETE FROM texts; END",
    )


def altered(snapshot: Path, folder: Path) -> bytes:
    return _spoil(snapshot, folder / "altered", "ALTER TABLE documents RENAME COLUMN sha256 TO digest")


def impostor(snapshot: Path, folder: Path) -> bytes:
    return _spoil(snapshot, folder / "impostor", "CREATE TABLE vectors_9 (space, bits)")


@pytest.mark.parametrize(
    "case",
    [
        (lambda *_: b"", "no Pinch snapshot"),
        (lambda *_: b"kettle" * 1000, "no Pinch snapshot"),
        (damaged, "damaged"),
        (damaged_where_no_count_looks, "damaged"),
        (truncated, "damaged"),
        (newer, "has schema 999, and this release knows 1"),
        (foreign, "no Pinch snapshot"),
        (hollow, "no Pinch snapshot"),
        (stripped, "no Pinch snapshot"),
        (booby_trapped, "no Pinch snapshot"),
        (altered, "has another table documents"),
        (impostor, "has table vectors_9"),
    ],
    ids=[
        "empty",
        "text",
        "damaged",
        "damaged a little",
        "truncated",
        "newer",
        "foreign",
        "hollow",
        "stripped",
        "trapped",
        "altered",
        "impostor",
    ],
)
def test_a_bad_snapshot_is_refused_and_the_store_stays(
    minimal: Service, space: str, snapshot: Path, tmp_path: Path, case: tuple[Callable[[Path, Path], bytes], str]
) -> None:
    make, said = case
    public = minimal.remember("stays", space=space)
    answer = minimal.call("PUT", "/v1/snapshot", make(snapshot, tmp_path))
    assert answer.status == 400, answer.content
    assert said in answer.error["message"], answer.content
    assert answer.error["hint"]
    assert minimal.get(f"/v1/memories/{public}")["text"] == "stays"
    until(lambda: not list(minimal.state.glob("*.partial*")), "the upload is cleared away")


def test_a_snapshot_that_is_cut_on_its_way_changes_nothing(minimal: Service, space: str, snapshot: Path) -> None:
    public = minimal.remember("stays", space=space)
    content = snapshot.read_bytes()
    with minimal.connect() as connection:
        head = f"PUT /v1/snapshot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {minimal.token}\r\n"
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[: len(content) // 2])
        until((minimal.state / "incoming.partial").exists, "a part has arrived")
        other = minimal.call("GET", "/v1/snapshot")
        assert (other.status, other.error["type"]) == (409, "conflict")
    until(lambda: not (minimal.state / "incoming.partial").exists(), "the part is dropped")
    assert minimal.get(f"/v1/memories/{public}")["text"] == "stays"


def test_a_kill_while_a_snapshot_arrives_leaves_the_store(start: Starter, snapshot: Path) -> None:
    service = start()
    service.remember("stays")
    content = snapshot.read_bytes()
    with service.connect() as connection:
        head = f"PUT /v1/snapshot HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {service.token}\r\n"
        connection.sendall(f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content[:-1])
        until((service.state / "incoming.partial").exists, "a part has arrived")
        service.kill()
    service.start()
    assert service.texts("stays") == ["stays"]
    assert list(service.state.glob("*.partial*")) == [], "what was left lying is cleared away"


def test_the_store_before_a_load_is_kept_beside_it(start: Starter, snapshot: Path) -> None:
    service = start()
    service.remember("before")
    service.call("PUT", "/v1/snapshot", snapshot.read_bytes())
    kept = service.state / "pinch.db.replaced"
    connection = apsw.Connection(str(kept), flags=apsw.SQLITE_OPEN_READONLY)
    assert connection.execute("SELECT text FROM texts").fetchall() == [("before",)]
    connection.close()
    service.stop()
    service.start()
    assert len(service.listed(space="a")) == 40
    assert service.get("/readyz")["set_aside"] is None


def test_a_snapshot_that_takes_a_damaged_store_s_place_stays(start: Starter, snapshot: Path) -> None:
    service = start()
    for part in range(8):
        texts = [f"memory {part}-{number} of the kettle {'x' * 300}" for number in range(100)]
        service.call("POST", "/v1/memories", {"memories": [{"text": text} for text in texts]})
    service.stop()
    size = service.store.stat().st_size // 4096
    with service.store.open("r+b") as file:
        for page in range(size // 3, size * 2 // 3):
            file.seek(page * 4096)
            file.write(b"\xa5" * 64)
    service.start()
    listed = service.call("GET", "/v1/memories?limit=200")
    while listed.status == 200 and listed.json["cursor"]:
        listed = service.call("GET", f"/v1/memories?limit=200&cursor={listed.json['cursor']}")
    assert listed.status == 503, "the damage is met"
    marker = service.store.with_name("pinch.db.damaged")
    assert marker.exists()
    assert service.call("PUT", "/v1/snapshot", snapshot.read_bytes()).status == 200
    assert not marker.exists(), "it told of the store that was replaced"
    assert len(service.listed(space="a")) == 40
    service.stop()
    service.start()
    assert service.get("/readyz")["set_aside"] is None
    assert len(service.listed(space="a")) == 40


def test_a_load_that_fails_at_the_swap_leaves_a_service_that_works(start: Starter, snapshot: Path, int8: Path) -> None:
    service = start(PINCH_TIER="full", PINCH_MODEL_DIR=str(int8))
    service.remember("before")
    service.embedded()
    reader = apsw.Connection(str(service.store), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN; SELECT count(*) FROM items").fetchall()
    service.remember("what the reader keeps in the log")
    refused = service.call("PUT", "/v1/snapshot", snapshot.read_bytes())
    reader.close()
    assert (refused.status, refused.error["type"]) == (507, "storage_full")
    service.remember("after")
    service.embedded()
    assert len(service.recall("after", mode="semantic")["hits"]) == 3


def test_sessions_travel_with_it(start: Starter, tmp_path: Path) -> None:
    with Provider() as provider:
        settings = {"PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL}
        first, second = start(tmp_path / "first", **settings), start(tmp_path / "second", **settings)
        said(first, "main", "the kettle is on the shelf")
        said(first, "work", "the drill is in the shed")
        said(second, "main", "something else")
        said(second, "own", "only here")
        whole = first.call("GET", "/v1/snapshot").content
        loaded = second.call("PUT", "/v1/snapshot", whole)
        assert (loaded.status, loaded.json["sessions"]) == (200, 2)
        with Gateway(second.port) as gateway:
            gateway.connect(second.token)
            assert {one["key"] for one in gateway.request("sessions.list")["sessions"]} == {"main", "work"}
            texts = [one["content"][0]["text"] for one in history(gateway, "main")]
            assert texts == ["the kettle is on the shelf", "You said: the kettle is on the shelf"]
            assert gateway.say("and the lid?", "main")[-1]["state"] == "final"
        assert (second.state / "sessions.replaced" / "own.jsonl").exists()
        assert first.call("PUT", "/v1/snapshot", second.call("GET", "/v1/snapshot").content).json["sessions"] == 2


def test_a_snapshot_without_sessions_leaves_those_that_are_there(start: Starter, tmp_path: Path) -> None:
    with Provider() as provider:
        service = start(PINCH_PROVIDER_BASE_URL=provider.url, PINCH_PROVIDER_MODEL=MODEL)
        said(service, "main", "stay")
        old = tmp_path / "old.pinch"
        old.write_bytes(service.call("GET", "/v1/snapshot").content)
        connection = apsw.Connection(str(old))
        connection.execute("DROP TABLE sessions")
        connection.close()
        assert service.call("PUT", "/v1/snapshot", old.read_bytes()).json["sessions"] == 0
        with Gateway(service.port) as gateway:
            gateway.connect(service.token)
            assert len(history(gateway, "main")) == 2


@pytest.mark.parametrize("change", ["UPDATE sessions SET key = '../main'", "UPDATE sessions SET journal = 'text'"])
def test_a_snapshot_with_a_session_that_is_none_changes_nothing(start: Starter, tmp_path: Path, change: str) -> None:
    with Provider() as provider:
        service = start(PINCH_PROVIDER_BASE_URL=provider.url, PINCH_PROVIDER_MODEL=MODEL)
        said(service, "main", "stay")
        file = tmp_path / "changed.pinch"
        file.write_bytes(service.call("GET", "/v1/snapshot").content)
        connection = apsw.Connection(str(file))
        connection.execute(change)
        connection.close()
        answer = service.call("PUT", "/v1/snapshot", file.read_bytes())
        assert (answer.status, answer.error["type"]) == (400, "invalid_request")
        assert {path.name for path in service.state.iterdir() if path.is_dir()} <= {"sessions", "tmp"}
        with Gateway(service.port) as gateway:
            gateway.connect(service.token)
            assert len(history(gateway, "main")) == 2


def said(service: Service, session: str, text: str) -> None:
    """Say something in a session and have it answered."""
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        assert gateway.say(text, session)[-1]["state"] == "final"


def history(gateway: Gateway, session: str) -> list[dict[str, Any]]:
    """Return the messages of a session."""
    messages: list[dict[str, Any]] = gateway.request("chat.history", {"sessionKey": session})["messages"]
    return messages
