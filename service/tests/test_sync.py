"""Folder sync: the store follows the files, and reads no others."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.tests.serving import Service, until
from tests.running import ServiceError

Starter = Callable[..., Service]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "kettle.md").write_text("the kettle is blue\n", "utf-8")
    (folder / "deep" / "er" / "teapot.txt").write_text("the teapot is red\n", "utf-8")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "x.md").write_text("hidden\n", "utf-8")
    (folder / ".draft.md").write_text("hidden too\n", "utf-8")
    return folder


def paths(service: Service) -> list[str]:
    return [document["path"] for document in service.get("/v1/documents?limit=200")["documents"]]


def test_added_changed_and_removed_files_are_followed(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    first = service.synced()
    assert (first["files_total"], first["files_done"], first["added"]) == (2, 2, 2)
    assert (first["updated"], first["removed"], first["failed"]) == (0, 0, [])
    assert first["folders"] == [str(notes)]
    assert paths(service) == ["notes/deep/er/teapot.txt", "notes/kettle.md"]
    (notes / "kettle.md").write_text("the kettle is green now\n", "utf-8")
    (notes / "deep" / "er" / "teapot.txt").unlink()
    (notes / "new.markdown").write_text("a new one\n", "utf-8")
    second = service.synced()
    assert (second["added"], second["updated"], second["removed"]) == (1, 1, 1)
    assert service.texts("kettle") == ["the kettle is green now"]
    assert service.texts("teapot") == []
    third = service.synced()
    assert (third["added"], third["updated"], third["removed"], third["files_done"]) == (0, 0, 0, 2)


def test_an_edit_that_keeps_size_and_time_is_followed(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    service.synced()
    file = notes / "kettle.md"
    before = file.stat()
    file.write_text("the kettle is gold\n", "utf-8")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert service.synced()["updated"] == 1
    assert service.texts("kettle") == ["the kettle is gold"]


def test_what_came_by_upload_is_not_removed_by_a_sync(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    service.put("notes/uploaded.md", b"uploaded\n")
    service.synced()
    assert "notes/uploaded.md" in paths(service)


def test_links_that_lead_out_are_not_followed(start: Starter, notes: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.md").write_text("a secret\n", "utf-8")
    (notes / "file.md").symlink_to(outside / "secret.md")
    (notes / "folder").symlink_to(outside)
    (notes / "loop").symlink_to(notes)
    (notes / "broken.md").symlink_to("nowhere.md")
    (notes / "inside.md").symlink_to("kettle.md")
    os.mkfifo(notes / "pipe.md")
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    done = service.synced()
    assert done["failed"] == []
    assert paths(service) == ["notes/deep/er/teapot.txt", "notes/inside.md", "notes/kettle.md"]
    assert service.texts("secret") == []


def test_a_bad_file_is_named_and_the_others_come_in(start: Starter, notes: Path) -> None:
    (notes / "latin.md").write_bytes(b"caf\xe9")
    (notes / "binary.md").write_bytes(b"a\0b")
    Path(os.fsdecode(bytes(notes) + b"/bad\xff.md")).write_text("x", "utf-8")
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    done = service.synced()
    failed = {failure["path"]: failure["error"] for failure in done["failed"]}
    assert len(failed) == 3
    assert "is not UTF-8" in failed["notes/latin.md"]
    assert "NUL" in failed["notes/binary.md"]
    assert any("bad" in path for path in failed)
    assert not any("\udc80" <= sign <= "\udcff" for path in failed for sign in path), "a client can read it"
    assert done["failed_total"] == 3
    assert len(paths(service)) == 2


def test_a_file_that_turns_bad_keeps_its_last_good_version(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    service.synced()
    (notes / "kettle.md").write_bytes(b"the kettle is \xff\n")
    assert len(service.synced()["failed"]) == 1
    assert service.texts("kettle") == ["the kettle is blue"]


def test_a_folder_that_is_gone_keeps_its_documents(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    service.synced()
    notes.rename(notes.with_name("unplugged"))
    done = service.synced()
    assert done["removed"] == 0
    assert "does not exist" in done["failed"][0]["error"]
    assert len(paths(service)) == 2


def test_a_folder_that_cannot_be_listed_costs_no_document(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    service.synced()
    (notes / "kettle.md").unlink()
    (notes / "new.md").write_text("new\n", "utf-8")
    # Deeper than a path may be long: nobody can list it by its name, not even root.
    at = os.open(notes, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("x" * 250, dir_fd=at)
        inner = os.open("x" * 250, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at = inner
    os.close(at)
    done = service.synced()
    assert (done["added"], done["removed"]) == (1, 0)
    assert [failure["error"] for failure in done["failed"]] == [
        f"File name too long; no document of {notes} is removed"
    ]
    assert len(paths(service)) == 3


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    for parent in ("a", "b"):
        (tmp_path / parent / "notes").mkdir(parents=True)
    folders = f"{tmp_path}/a/notes,{tmp_path}/b/notes"
    with pytest.raises(ServiceError, match=r"status 78:[\s\S]*both would be notes"):
        Service(tmp_path, PINCH_TIER="minimal", PINCH_SYNC_FOLDERS=folders).start()


def test_one_sync_at_a_time_and_none_without_a_folder(start: Starter, minimal: Service, tmp_path: Path) -> None:
    none = minimal.call("POST", "/v1/sync")
    assert none.status == 400
    assert "no folder is configured" in none.error["message"]
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number}.md").write_text(f"document {number}\n" * 50, "utf-8")
    service = start(PINCH_SYNC_FOLDERS=str(many))
    assert service.call("POST", "/v1/sync").status == 202
    again = service.call("POST", "/v1/sync")
    assert again.status == 409
    assert again.error["type"] == "conflict"
    until(lambda: service.get("/v1/sync")["state"] == "idle", "the sync ends")
    assert service.get("/v1/sync")["added"] == 300


def test_a_sync_that_was_killed_goes_on(start: Starter, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number}.md").write_text(f"document {number} tells of the kettle\n" * 400, "utf-8")
    service = start(PINCH_SYNC_FOLDERS=str(many))
    assert service.call("POST", "/v1/sync").status == 202
    until(lambda: service.get("/v1/sync")["files_done"] >= 30, "a part is done")
    service.kill()
    service.start()
    kept = len(paths(service))
    assert 30 <= kept < 300
    done = service.synced()
    assert done["added"] == 300 - kept, "what was done is not done again"
    assert done["files_done"] == 300


def test_a_snapshot_may_be_loaded_while_folders_sync(start: Starter, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(200):
        (many / f"{number}.md").write_text(f"document {number}\n" * 300, "utf-8")
    service = start(PINCH_SYNC_FOLDERS=str(many))
    service.remember("before the snapshot")
    snapshot = service.call("GET", "/v1/snapshot").content
    assert service.call("POST", "/v1/sync").status == 202
    until(lambda: service.get("/v1/sync")["files_done"] >= 10, "a part is done")
    assert service.call("PUT", "/v1/snapshot", snapshot).status == 200
    assert service.get("/v1/sync")["state"] == "idle"
    assert paths(service) == []
    assert service.synced()["added"] == 200


def test_an_empty_mount_point_costs_no_document(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    service.synced()
    notes.rename(notes.with_name("unplugged"))
    notes.mkdir()
    done = service.synced()
    assert (done["files_total"], done["removed"], done["state"]) == (0, 0, "idle")
    assert [failure["path"] for failure in done["failed"]] == [str(notes)]
    assert "2 documents are kept" in done["failed"][0]["error"]
    assert len(paths(service)) == 2


def test_a_file_that_cannot_be_looked_at_is_named_and_costs_no_document(start: Starter, notes: Path) -> None:
    service = start(PINCH_SYNC_FOLDERS=str(notes))
    service.synced()
    (notes / "kettle.md").unlink()
    # The way to it is longer than a path may be: its name can be listed, and nobody can look at it.
    at = os.open(notes, os.O_RDONLY)
    used = len(os.fsencode(notes))
    while used + 201 < 4080:
        os.mkdir("x" * 200, dir_fd=at)
        inner = os.open("x" * 200, os.O_RDONLY, dir_fd=at)
        os.close(at)
        at, used = inner, used + 201
    os.close(os.open("y" * 240 + ".md", os.O_WRONLY | os.O_CREAT, dir_fd=at))
    os.close(at)
    done = service.synced()
    assert (done["state"], done["removed"]) == ("idle", 0)
    assert [failure["error"] for failure in done["failed"]] == [
        f"File name too long; no document of {notes} is removed"
    ]
