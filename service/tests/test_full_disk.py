"""A full disk: 507, nothing half-stored, and on it goes when there is room again."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import apsw
import pytest

from service.tests.serving import Service, until

Starter = Callable[..., Service]
SIZE_MB = 12


@pytest.fixture
def small_disk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A file system of a few MB, or of as many as a test asks for."""
    size = getattr(request, "param", SIZE_MB)
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}m,mode=700", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a full disk needs a small file system, and mounting one needs root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Take every byte that is left."""
    file = folder / "filler"
    with file.open("wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12, 1):
            try:
                while stream.write(b"\0" * size) == size:
                    pass
            except OSError:
                continue
    return file


def test_nothing_acknowledged_is_lost_on_a_full_disk(start: Starter, small_disk: Path) -> None:
    service = start(PINCH_STATE_DIR=str(small_disk / "state"))
    acknowledged = [service.remember(f"before {number} {'x' * 500}") for number in range(20)]
    filler = fill(small_disk)
    statuses = set()
    for number in range(300):
        answer = service.call("POST", "/v1/memories", {"text": f"during {number} {'x' * 5000}"})
        statuses.add(answer.status)
        if answer.status == 201:
            acknowledged.append(answer.json["id"])
        else:
            assert answer.status == 507, answer.content
            assert answer.error["type"] == "storage_full"
            assert "nothing was stored" in answer.error["message"]
    assert 507 in statuses, "the disk was never full"
    batch = service.call(
        "POST", "/v1/memories", {"memories": [{"text": f"batch {n} {'x' * 9000}"} for n in range(100)]}
    )
    assert batch.status == 507
    document = service.put("large.md", b"a line of a document that finds no room\n" * 50_000)
    assert document.status == 507, document.content
    assert service.call("GET", "/v1/snapshot").status == 507
    upload = service.call("PUT", "/v1/snapshot", b"x" * 3_000_000)
    assert upload.status == 507
    assert "nothing was changed" in upload.error["message"]
    assert {memory["id"] for memory in service.listed()} == set(acknowledged), "reading goes on, and all is there"
    assert service.texts("before", k=5)
    filler.unlink()
    assert service.remember("after")
    assert service.put("large.md", b"a line of a document that finds room\n" * 1000).status == 201
    assert len(service.texts("room", k=50)) > 1
    assert service.texts("batch") == []
    assert not any("finds no room" in text for text in service.texts("finds no room", k=100))
    service.stop()
    assert integrity_of(small_disk) == "ok"


def integrity_of(disk: Path) -> str:
    connection = apsw.Connection(str(disk / "state" / "pinch.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return str(connection.execute("PRAGMA integrity_check").get)
    finally:
        connection.close()


def test_a_kill_on_a_full_disk_loses_nothing_either(start: Starter, small_disk: Path) -> None:
    environment = {"PINCH_STATE_DIR": str(small_disk / "state")}
    service = start(**environment)
    acknowledged = {service.remember(f"before {number}") for number in range(20)}
    filler = fill(small_disk)
    for number in range(50):
        answer = service.call("POST", "/v1/memories", {"text": f"during {number} {'x' * 5000}"})
        if answer.status == 201:
            acknowledged.add(answer.json["id"])
    service.kill()
    filler.unlink()
    service.start()
    assert {memory["id"] for memory in service.listed()} == acknowledged
    service.stop()
    assert integrity_of(small_disk) == "ok"


def counted(disk: Path, table: str) -> int:
    connection = apsw.Connection(str(disk / "state" / "pinch.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return int(connection.execute(f"SELECT count(*) FROM {table}").get)
    finally:
        connection.close()


@pytest.mark.parametrize("small_disk", [40], indirect=True)
def test_half_an_upload_on_a_full_disk_does_not_keep_it_from_starting(start: Starter, small_disk: Path) -> None:
    service = start(PINCH_STATE_DIR=str(small_disk / "state"))
    service.remember("the kettle")
    with service.connect() as upload:
        head = f"Host: localhost\r\nAuthorization: Bearer {service.token}\r\nContent-Length: 9000000\r\n\r\n"
        upload.sendall(f"PUT /v1/documents/large.md HTTP/1.1\r\n{head}".encode() + b"a line of many\n" * 60_000)
        until(lambda: counted(small_disk, "items WHERE space = 0") > 200, "a part is stored")
        filler = fill(small_disk)
        service.kill()
    fill(small_disk)
    service.start()
    assert service.texts("kettle") == ["the kettle"], "reading goes on"
    filler.unlink()
    until(lambda: service.call("POST", "/v1/memories", {"text": "after"}).status in {200, 201}, "there is room again")
    service.stop()
    service.start()
    until(
        lambda: bool(service.remember("after")) and not counted(small_disk, "items WHERE space = 0"), "it is tidied up"
    )
    assert counted(small_disk, "documents") == 0
    assert service.listed()


@pytest.mark.parametrize("small_disk", [40], indirect=True)
def test_a_large_document_leaves_room_to_delete_it(start: Starter, small_disk: Path) -> None:
    service = start(PINCH_STATE_DIR=str(small_disk / "state"))
    answer = service.put("large.md", b"".join(b"a line %d of the document\n" % number for number in range(1_000_000)))
    assert answer.status == 507
    assert "large documents leave 16384 KiB" in answer.error["message"]
    until(lambda: not counted(small_disk, "items"), "nothing of it stays")
    assert service.remember("the kettle")


def test_a_disk_that_others_filled_does_not_keep_it_from_starting(start: Starter, small_disk: Path) -> None:
    service = start(PINCH_STATE_DIR=str(small_disk / "state"))
    service.remember("the kettle")
    service.stop()
    filler = fill(small_disk)
    service.start()
    assert service.texts("kettle") == ["the kettle"]
    assert service.call("POST", "/v1/memories", {"text": "no room"}).status == 507
    filler.unlink()
    assert service.remember("room again")
    service.stop()
    assert integrity_of(small_disk) == "ok"
