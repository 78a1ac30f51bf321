"""The manifest: what a backup says about itself, first of all that is in it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from .errors import BackupError

FORMAT = 1
NAME = "pinch-backup.json"
SNAPSHOT = "snapshot"
MOST_BYTES = 2**20
"""A manifest is a few hundred bytes; a larger one is none."""


@dataclass(frozen=True)
class Member:
    """A file of a backup."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """A board at one time."""

    host: str
    made: str
    """RFC 3339, UTC."""
    release: str
    tier: str
    model: str
    """Embedding model that the board had, empty where it had none."""
    schema: int
    counts: dict[str, int]
    secrets: bool
    members: tuple[Member, ...]
    format: int = FORMAT

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"

    def member(self, name: str) -> Member:
        """Return the member `name`.

        Raises:
            BackupError: there is none.
        """
        found = next((each for each in self.members if each.name == name), None)
        if found is None:
            raise BackupError(f"the backup has no {name}; make another by backup.yml")
        return found


def read_manifest(text: bytes) -> Manifest:
    """Return the manifest that `text` is.

    Raises:
        BackupError: it is none of ours, or of a newer format.
    """
    try:
        said: dict[str, Any] = json.loads(text)
        found = int(said["format"])
        if found > FORMAT:
            raise BackupError(
                f"the backup has format {found}, and this folder knows up to {FORMAT}; restore it with the playbooks "
                "that made it, or newer ones"
            )
        members = tuple(Member(str(one["name"]), int(one["bytes"]), str(one["sha256"])) for one in said["members"])
        return Manifest(
            host=str(said["host"]),
            made=str(said["made"]),
            release=str(said["release"]),
            tier=str(said["tier"]),
            model=str(said["model"]),
            schema=int(said["schema"]),
            counts={str(name): int(count) for name, count in said["counts"].items()},
            secrets=bool(said["secrets"]),
            members=members,
            format=found,
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise BackupError("the file is no backup of a Pinch board: its manifest cannot be read") from error
