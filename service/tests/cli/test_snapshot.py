import stat
import subprocess
import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from service.tests.cli.command import Pinch

Scripted = Callable[[Callable[[BaseHTTPRequestHandler], None]], Pinch]


def test_a_snapshot_moves_everything_to_another_service(pinch: Pinch, fresh: Pinch, space: str, tmp_path: Path) -> None:
    pinch.ok("remember", "carried over", "--space", space)
    file = tmp_path / "save.pinch"
    saved = pinch.json("snapshot", "save", str(file))
    assert saved == {"file": str(file), "bytes": file.stat().st_size}
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    fresh.ok("remember", "replaced", "--space", space)
    loaded = fresh.json("snapshot", "load", str(file))
    assert loaded["memories"] >= 1
    texts = [hit["text"] for hit in fresh.json("recall", "carried replaced", "--space", space)["hits"]]
    assert texts == ["carried over"]


def test_an_existing_file_is_replaced_only_by_force(pinch: Pinch, tmp_path: Path) -> None:
    file = tmp_path / "save"
    file.write_text("precious")
    assert "--force" in pinch.fails(2, "snapshot", "save", str(file))
    assert file.read_text() == "precious"
    pinch.ok("snapshot", "save", "--force", str(file))
    assert file.read_bytes().startswith(b"SQLite format 3\0")
    assert [path.name for path in tmp_path.iterdir()] == ["save"]


def test_a_half_written_file_of_before_is_no_obstacle(pinch: Pinch, tmp_path: Path) -> None:
    (tmp_path / "save.partial").write_text("half")
    pinch.ok("snapshot", "save", str(tmp_path / "save"))
    assert [path.name for path in tmp_path.iterdir()] == ["save"]


def test_a_place_that_cannot_be_written_is_named(pinch: Pinch, tmp_path: Path) -> None:
    assert "is no folder" in pinch.fails(2, "snapshot", "save", str(tmp_path / "absent/save"))
    assert "is a folder" in pinch.fails(2, "snapshot", "save", str(tmp_path))


def test_what_is_no_snapshot_is_not_sent(pinch: Pinch, space: str, tmp_path: Path) -> None:
    pinch.ok("remember", "still here", "--space", space)
    (tmp_path / "text").write_text("hello")
    assert "is no snapshot" in pinch.fails(2, "snapshot", "load", str(tmp_path / "text"))
    assert "No such file" in pinch.fails(2, "snapshot", "load", str(tmp_path / "absent"))
    (tmp_path / "other").write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert pinch.fails(2, "snapshot", "load", str(tmp_path / "other"))
    assert len(pinch.json("recall", "still", "--space", space)["hits"]) == 1


def test_a_truncated_snapshot_changes_nothing(pinch: Pinch, space: str, tmp_path: Path) -> None:
    pinch.ok("remember", "still here", "--space", space)
    pinch.ok("snapshot", "save", str(tmp_path / "whole"))
    content = (tmp_path / "whole").read_bytes()
    (tmp_path / "cut").write_bytes(content[: len(content) // 2])
    assert pinch.fails(2, "snapshot", "load", str(tmp_path / "cut"))
    assert len(pinch.json("recall", "still", "--space", space)["hits"]) == 1


def test_a_full_disk_leaves_no_half_file(pinch: Pinch, tmp_path: Path) -> None:
    # A limit on file sizes fails the write like a full disk, without root.
    file = tmp_path / "save"
    program = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192)); "
        "from pinch.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "snapshot", "save", str(file)]
    done = subprocess.run(command, env={**pinch.whole_environ}, capture_output=True, timeout=30)
    assert done.returncode == 1
    assert done.stderr.count(b"\n") == 1
    assert b"File too large" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("content", [b"SQLite format 3\0" + bytes(1000), b"<html>"])
def test_an_answer_that_is_short_or_something_else_is_no_snapshot(
    scripted: Scripted, tmp_path: Path, content: bytes
) -> None:
    def respond(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(content) + (500 if content.startswith(b"SQLite") else 0)))
        handler.end_headers()
        handler.wfile.write(content)
        handler.close_connection = True

    scripted(respond).fails(3 if content.startswith(b"SQLite") else 1, "snapshot", "save", str(tmp_path / "save"))
    assert [path.name for path in tmp_path.iterdir()] == []
