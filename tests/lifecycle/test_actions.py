"""Files go from a board into an encrypted backup and back, over Ansible's own connection; this machine is the board."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.playbook import Played, local_fleet, play
from tests.roles.sources import load

contents = load("backup_archive/library/backup_contents.py")


class Boards:
    """A board with files, and a controller with a key."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.key = folder / "key.txt"
        subprocess.run(["age-keygen", "-o", str(self.key)], check=True, capture_output=True)
        self.inventory = local_fleet(folder, "kitchen")

    @property
    def public(self) -> str:
        return subprocess.run(["age-keygen", "-y", self.key], check=True, capture_output=True, text=True).stdout.strip()

    def play(self, action: str, **arguments: Any) -> tuple[Played, dict[str, Any]]:
        """Play one task; return how it ended and its result."""
        result = self.folder / "result.json"
        book = self.folder / "play.yml"
        tasks = [
            {"name": "Act", action: {"age": "age", **arguments}, "register": "acted", "ignore_errors": True},
            {"name": "Keep what it said",
             "ansible.builtin.copy": {"content": "{{ acted | to_json }}", "dest": str(result), "mode": "0600"}},
        ]  # fmt: skip
        plays = [{"hosts": "pinch", "gather_facts": False, "roles": ["backup_archive"], "tasks": tasks}]
        book.write_text(yaml.safe_dump(plays), "utf-8")
        played = play(book, self.inventory)
        assert played.status == 0, played.said
        return played, json.loads(result.read_text("utf-8"))

    def back_up(self, files: dict[str, Path]) -> dict[str, Any]:
        manifest = {
            "host": "kitchen", "made": "2026-05-01T12:00:00Z", "release": "1.0.0-aaaaaaaa", "tier": "full", "model": "",
            "schema": 1, "counts": {"memories": 0}, "secrets": False,
            "members": [contents.member(name, path) for name, path in files.items()],
        }  # fmt: skip
        paths = {name: str(path) for name, path in files.items()}
        return self.play(
            "backup_pull", folder=str(self.folder / "backups"), name="20260501T120000Z.age", recipients=[self.public],
            keep=2, paths=paths, manifest=manifest,
        )[1]  # fmt: skip


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
