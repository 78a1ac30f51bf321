"""Files go from a board into an encrypted backup and back, over Ansible's own connection; this machine is the board."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.lifecycle.backups import Boards, contents


@pytest.fixture
def boards(tmp_path: Path) -> Boards:
    """The board and its controller."""
    return Boards(tmp_path)


def test_files_of_many_pieces_come_back_as_they_were(boards: Boards) -> None:
    large, small = boards.folder / "it's large", boards.folder / "small"
    large.write_bytes(os.urandom(20 * 2**20 + 7))  # more than two pieces of either direction
    small.write_bytes(b"")
    made = boards.back_up({"snapshot": large, "settings/pinch.toml": small})
    assert made.get("failed") is not True, made
    assert made["bytes"] > 20 * 2**20
    file = made["file"]
    opened = boards.play("backup_open", file=file, folder="", identity=str(boards.key))[1]
    assert opened["manifest"]["host"] == "kitchen"
    back = boards.folder / "back"
    back.write_text("what was there before", "utf-8")
    paths = {"snapshot": str(back), "settings/pinch.toml": str(boards.folder / "empty")}
    written = boards.play("backup_push", file=file, identity=str(boards.key), paths=paths)[1]
    assert sorted(written["written"]) == sorted(paths.values())
    assert back.read_bytes() == large.read_bytes()
    assert (boards.folder / "empty").read_bytes() == b""


def test_a_file_that_grows_while_it_is_read_fails_the_backup_and_leaves_none(boards: Boards) -> None:
    file = boards.folder / "growing"
    file.write_bytes(b"before")
    member = contents.member("snapshot", file)
    file.write_bytes(b"after!!")
    manifest = {
        "host": "kitchen", "made": "", "release": "", "tier": "full", "model": "", "schema": 1, "counts": {},
        "secrets": False, "members": [member],
    }  # fmt: skip
    made = boards.play(
        "backup_pull", folder=str(boards.folder / "backups"), name="20260501T120000Z.age", recipients=[boards.public],
        keep=2, paths={"snapshot": str(file)}, manifest=manifest,
    )[1]  # fmt: skip
    assert "changed while it was read" in made["msg"]
    assert list((boards.folder / "backups").iterdir()) == []


def test_a_wrong_key_is_told_before_anything_is_written(boards: Boards) -> None:
    file = boards.folder / "file"
    file.write_bytes(b"text")
    made = boards.back_up({"snapshot": file})
    other = boards.folder / "other.txt"
    subprocess.run(["age-keygen", "-o", str(other)], check=True, capture_output=True)
    opened = boards.play("backup_open", file=made["file"], folder="", identity=str(other))[1]
    assert "none of the keys in the identity file opens it" in opened["msg"]
    assert opened["msg"].endswith("Nothing was changed")
    for identity in ("", str(boards.folder / "no-such-key")):
        opened = boards.play("backup_open", file=made["file"], folder="", identity=identity)[1]
        assert "expected the file with the secret key" in opened["msg"]
