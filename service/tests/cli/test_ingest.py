import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from service.tests.cli.command import Pinch, pinch_of
from service.tests.serving import Service

Scripted = Callable[[Callable[[BaseHTTPRequestHandler], None]], Pinch]


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("# Alpha\n\nThe first letter.\n")
    (folder / "b.txt").write_text("The second letter is beta.\n")
    (folder / "sub/c d%é#?.markdown").write_text("The third letter is gamma.\n")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    return folder


def counts(report: Any) -> tuple[int, int, int, int, int]:
    return report["added"], report["updated"], report["unchanged"], report["removed"], len(report["failed"])


def paths(pinch: Pinch, query: str, space: str) -> list[str]:
    return sorted(hit["path"] for hit in pinch.json("recall", query, "--space", space)["hits"])


def test_a_folder_is_found_under_its_name(pinch: Pinch, space: str, notes: Path) -> None:
    report = pinch.json("ingest", str(notes), "--space", space, "--wait")
    assert counts(report) == (3, 0, 0, 0, 0)
    assert report["bytes"] == sum(
        file.stat().st_size for file in notes.rglob("*") if file.suffix in {".md", ".txt", ".markdown"}
    )
    assert paths(pinch, "letter", space) == ["notes/a.md", "notes/b.txt", "notes/sub/c d%é#?.markdown"]


def test_only_what_changed_is_sent_again(pinch: Pinch, space: str, notes: Path) -> None:
    pinch.ok("ingest", str(notes), "--space", space)
    (notes / "a.md").write_text("# Alpha\n\nThe very first letter.\n")
    (notes / "new.md").write_text("A new letter.\n")
    report = pinch.json("ingest", str(notes), "--space", space)
    assert counts(report) == (1, 1, 2, 0, 0)
    again = pinch.json("ingest", str(notes), "--space", space)
    assert (counts(again), again["bytes"]) == ((0, 0, 4, 0, 0), 0)


def test_the_current_folder_has_a_name_too(pinch: Pinch, space: str, notes: Path) -> None:
    command = [sys.executable, "-m", "pinch", "ingest", ".", "--space", space]
    subprocess.run(command, cwd=notes, env={**pinch.whole_environ}, check=True, capture_output=True)
    assert "notes/a.md" in paths(pinch, "letter", space)


@pytest.mark.parametrize(("prefix", "path"), [("", "a.md"), ("x/y", "x/y/a.md"), ("/x/", "x/a.md")])
def test_the_prefix_may_be_chosen(pinch: Pinch, space: str, notes: Path, prefix: str, path: str) -> None:
    pinch.ok("ingest", str(notes), "--space", space, "--prefix", prefix, "--pattern", "a.*")
    assert paths(pinch, "letter", space) == [path]


def test_vanished_files_stay_until_delete_is_said(pinch: Pinch, space: str, notes: Path) -> None:
    pinch.ok("ingest", str(notes), "--space", space)
    pinch.ok("ingest", str(notes), "--space", space, "--prefix", "notes-of-another")
    (notes / "b.txt").unlink()
    shutil.rmtree(notes / "sub")
    assert counts(pinch.json("ingest", str(notes), "--space", space)) == (0, 0, 1, 0, 0)
    assert counts(pinch.json("ingest", str(notes), "--space", space, "--delete")) == (0, 0, 1, 2, 0)
    assert paths(pinch, "letter", space) == [
        "notes-of-another/a.md", "notes-of-another/b.txt", "notes-of-another/sub/c d%é#?.markdown", "notes/a.md",
    ]  # fmt: skip


def test_delete_spares_files_that_are_there_but_not_asked_for(pinch: Pinch, space: str, notes: Path) -> None:
    pinch.ok("ingest", str(notes), "--space", space)
    report = pinch.json("ingest", str(notes), "--space", space, "--delete", "--pattern", "a.md")
    assert counts(report) == (0, 0, 1, 0, 0)


def test_an_empty_folder_does_not_delete_everything(pinch: Pinch, space: str, notes: Path) -> None:
    pinch.ok("ingest", str(notes), "--space", space)
    shutil.rmtree(notes)
    notes.mkdir()
    assert "remove them all" in pinch.fails(1, "ingest", str(notes), "--space", space, "--delete")
    assert len(paths(pinch, "letter", space)) == 3


def test_what_cannot_be_ingested_is_reported_at_the_end(pinch: Pinch, space: str, notes: Path) -> None:
    (notes / "latin.md").write_bytes("caf\u00e9".encode("latin-1"))
    (notes / "nul.md").write_bytes(b"a\0b")
    (notes / "gone.md").symlink_to("nowhere")
    bad_name = os.fsencode(notes) + b"/caf\xe9.md"
    Path(os.fsdecode(bad_name)).write_text("letter")
    done = pinch("ingest", str(notes), "--space", space, "--follow", "--json")
    report = json.loads(done.stdout)
    assert done.returncode == 1
    failed = {failure["path"]: failure["error"] for failure in report["failed"]}
    assert report["added"] == 6 - (len(failed) - 1)
    assert "not UTF-8" in failed["latin.md"]
    assert "cannot be read" in failed["gone.md"]
    assert "name is not UTF-8" in failed["caf\\udce9.md"]
    shown = pinch("ingest", str(notes), "--space", space, "--follow")
    assert shown.returncode == 1
    assert b"pinch: latin.md: is not UTF-8" in shown.stderr
    assert b"failed" in shown.stdout


def test_a_file_that_fails_while_it_is_read_is_reported(pinch: Pinch, space: str, notes: Path) -> None:
    # Reading address 0 of a process is an I/O error, for root too.
    (notes / "broken.md").symlink_to("/proc/self/mem")
    done = pinch("ingest", str(notes), "--space", space, "--follow", "--json")
    report = json.loads(done.stdout)
    assert (done.returncode, counts(report)) == (1, (3, 0, 0, 0, 1))
    assert "Input/output error" in report["failed"][0]["error"]


@pytest.mark.parametrize(("name", "complaint"), [("absent", "does not exist"), ("notes/a.md", "is a file")])
def test_what_is_no_folder_is_named(pinch: Pinch, notes: Path, name: str, complaint: str) -> None:
    assert complaint in pinch.fails(2, "ingest", str(notes.parent / name))


def test_a_large_file_goes_through_in_blocks(pinch: Pinch, space: str, tmp_path: Path) -> None:
    folder = tmp_path / "large"
    folder.mkdir()
    text = "".join(f"Line {number} of a long document about rivers.\n" for number in range(60_000))
    (folder / "large.md").write_text(text + "\nThe estuary is at the end.\n")
    assert counts(pinch.json("ingest", str(folder), "--space", space)) == (1, 0, 0, 0, 0)
    (hit,) = pinch.json("recall", "estuary", "--space", space, "--k", "1")["hits"]
    assert hit["lines"][1] == 60_002


def test_progress_is_for_terminals(pinch: Pinch, space: str, notes: Path) -> None:
    assert pinch("ingest", str(notes), "--space", space).stderr == b""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "pinch", "ingest", str(notes), "--space", space + "2", "--json"]
    done = subprocess.run(command, env={**pinch.whole_environ}, stdout=subprocess.PIPE, stderr=theirs, timeout=30)
    os.close(theirs)
    assert b"ingest" in os.read(ours, 10_000)
    os.close(ours)
    assert json.loads(done.stdout)["added"] == 3


def respond(handler: BaseHTTPRequestHandler, status: int, body: object) -> None:
    content = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(content)))
    handler.send_header("Connection", "close")
    handler.end_headers()
    handler.wfile.write(content)
    handler.close_connection = True


@pytest.mark.parametrize(
    ("status", "exit_status", "outcome"), [(507, 6, "0 of 3 files"), (401, 4, "0 of 3 files"), (400, 1, "")]
)
def test_a_refusal_in_the_middle_of_an_upload_is_understood(
    scripted: Scripted, notes: Path, status: int, exit_status: int, outcome: str
) -> None:
    # Answered without reading the body, as a full disk makes any server do.
    for file in ("a.md", "b.txt"):
        (notes / file).write_text("x" * 3_000_000)

    def refuse(handler: BaseHTTPRequestHandler) -> None:
        if handler.command == "GET":
            respond(handler, 200, {"documents": [], "cursor": None})
        else:
            length = int(handler.headers["Content-Length"])
            handler.rfile.read(min(10_000, length))
            respond(handler, status, {"error": {"type": "refused", "message": "the reason", "hint": "the way out"}})
            handler.rfile.read(max(0, length - 10_000))

    done = scripted(refuse)("ingest", str(notes))
    assert done.returncode == exit_status
    assert b"the reason; the way out" in done.stderr or b"the reason (" in done.stderr
    assert outcome.encode() in done.stderr


def test_a_listing_of_many_pages_is_read_to_its_end(scripted: Scripted, notes: Path) -> None:
    import hashlib

    files = [file for file in sorted(notes.rglob("*")) if file.suffix in {".md", ".txt", ".markdown"}]
    asked: list[str] = []

    def page(handler: BaseHTTPRequestHandler) -> None:
        asked.append(handler.path)
        file = files[len(asked) - 1]
        path = f"notes/{file.relative_to(notes).as_posix()}"
        document = {"path": path, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        respond(handler, 200, {"documents": [document], "cursor": "more&=" if len(asked) < 3 else None})

    report = scripted(page).json("ingest", str(notes))
    assert counts(report) == (0, 0, 3, 0, 0)
    assert "cursor=more%26%3D" in asked[1]


def test_wait_returns_when_all_can_be_found_by_meaning(full: Service, space: str, notes: Path) -> None:
    pinch = pinch_of(full)
    (notes / "kitchen.md").write_text("The kettle stands on the stove.\n")
    pinch.ok("ingest", str(notes), "--space", space, "--wait")
    hit = pinch.json("recall", "Where can I boil water?", "--space", space, "--mode", "semantic", "--k", "1")["hits"][0]
    assert hit["path"] == "notes/kitchen.md"
    assert hit["why"]["semantic_rank"] == 1
    assert "semantic #1 0." in pinch.ok("recall", "boil water", "--space", space, "--mode", "semantic")
