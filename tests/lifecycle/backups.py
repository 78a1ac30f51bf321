"""Backups made as the roles make them, of files and of a service on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from tests.cache import REPOSITORY
from tests.playbook import Played, local_fleet, play
from tests.roles.sources import load
from tests.running import LocalService

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
        """The key to encrypt for."""
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

    def back_up(self, files: dict[str, Path], **more: Any) -> dict[str, Any]:
        """Make a backup of files; `more` stands in its manifest."""
        manifest = {
            "host": "kitchen", "made": "2026-05-01T12:00:00Z", "release": "1.0.0-aaaaaaaa", "tier": "full", "model": "",
            "schema": 1, "counts": {"memories": 0}, "secrets": False,
            "members": [contents.member(name, path) for name, path in files.items()],
            **more,
        }  # fmt: skip
        paths = {name: str(path) for name, path in files.items()}
        return self.play(
            "backup_pull", folder=str(self.folder / "backups"), name="20260501T120000Z.age", recipients=[self.public],
            keep=2, paths=paths, manifest=manifest,
        )[1]  # fmt: skip


def launcher(service: LocalService) -> Path:
    """Return a command line that reaches a service, as a release's does."""
    file = service.folder / "pinch"
    file.write_text(
        f"#!/bin/sh\nexport PYTHONPATH={REPOSITORY / 'service' / 'src'} PINCH_URL=http://127.0.0.1:{service.port} "
        f'PINCH_TOKEN={service.token} PINCH_CONFIG=/dev/null\nexec {sys.executable} -m pinch "$@"\n',
        "utf-8",
    )
    file.chmod(0o755)
    return file
