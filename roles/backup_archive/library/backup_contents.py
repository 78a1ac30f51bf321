#!/usr/bin/python
"""Ansible module: say what is in a snapshot of the store, and the sizes and sums of files that go with it."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: backup_contents
short_description: Say what is in a snapshot of the store
description:
  - Counts what a snapshot holds, and lists the files that go into a backup with their sizes and sums. It reads no
    more of a file than that, so no secret passes through Ansible.
options:
  snapshot:
    description: A file that C(pinch snapshot save) wrote.
    type: path
    required: true
  files:
    description: Paths of further files by their name in the backup; those that do not exist are left out.
    type: dict
    default: {}
author: The Pinch authors
"""
EXAMPLES = r"""
- name: List what goes into the backup
  backup_contents:
    snapshot: /var/lib/pinch-snapshots/backup/20260501T120000Z-backup.snapshot
    files:
      settings/pinch.toml: /etc/pinch/pinch.toml
"""
RETURN = r"""
counts:
  description: Memories, documents, chunks, vectors and sessions in the snapshot.
  returned: success
  type: dict
schema:
  description: Version of the store.
  returned: success
  type: int
members:
  description: Name, bytes and sha256 of each file.
  returned: success
  type: list
  elements: dict
paths:
  description: Path of each file by its name in the backup.
  returned: success
  type: dict
"""

COUNTS = {
    "memories": "SELECT count(*) FROM items WHERE kind = 0",
    "documents": "SELECT count(*) FROM documents WHERE live",
    "chunks": "SELECT count(*) FROM items WHERE kind = 1 AND space > 0",
    "vectors": "SELECT count(*) FROM items JOIN embeddings USING (digest) WHERE space > 0",
}
SESSIONS = "SELECT count(*) FROM sqlite_schema WHERE name = 'sessions'"


def contents(snapshot: Path) -> tuple[dict[str, int], int]:
    """Return what a snapshot holds, as the service counts it when it loads one, and its schema.

    Raises:
        sqlite3.Error: it is damaged.
    """
    with closing(sqlite3.connect(f"file:{snapshot}?mode=ro&immutable=1", uri=True)) as connection:

        def number(sql: str) -> int:
            return int(connection.execute(sql).fetchone()[0])

        counts = {name: number(sql) for name, sql in COUNTS.items()}
        counts["sessions"] = number("SELECT count(*) FROM sessions") if number(SESSIONS) else 0
        return counts, number("PRAGMA user_version")


def member(name: str, path: Path) -> dict[str, Any]:
    """Return a file as a member of a backup."""
    with path.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {"name": name, "bytes": path.stat().st_size, "sha256": digest}


def main() -> None:
    """Count and list."""
    module = AnsibleModule(
        argument_spec={
            "snapshot": {"type": "path", "required": True},
            "files": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    snapshot = Path(module.params["snapshot"])
    try:
        counts, schema = contents(snapshot)
        found = {name: Path(path) for name, path in module.params["files"].items() if Path(path).is_file()}
        paths = {**found, "snapshot": snapshot}
        members = [member(name, path) for name, path in sorted(paths.items())]
    except sqlite3.Error as error:
        module.fail_json(msg=f"the snapshot {snapshot} cannot be read: {error}; run again")
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; nothing was changed")
    named = {name: str(path) for name, path in paths.items()}
    module.exit_json(changed=False, counts=counts, schema=schema, members=members, paths=named)


if __name__ == "__main__":
    main()
