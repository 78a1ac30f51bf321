"""Ansible action: read files of a board into an encrypted backup on the controller."""

from __future__ import annotations

import base64
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "archive"))

from pinch_backup.age import encrypted
from pinch_backup.archive import pack
from pinch_backup.errors import BackupError
from pinch_backup.folder import Folder, verify
from pinch_backup.manifest import Manifest, Member

PIECE_MB = 8
"""What one command reads: few enough to be held twice on the controller, enough that its start does not count."""


class ActionModule(ActionBase):
    """Pulls over Ansible's own connection, so that it reaches whatever the inventory reaches, with its sudo."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Make the backup."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        folder, name = Folder(Path(args["folder"])), str(args["name"])
        manifest = Manifest(
            **{**args["manifest"], "members": tuple(Member(**each) for each in args["manifest"]["members"])}
        )
        paths: dict[str, str] = args["paths"]
        if self._task.check_mode:
            return {**result, "changed": True, "file": str(folder.path / name), "removed": []}
        try:
            if not args["recipients"]:
                raise BackupError("backup_recipients is empty; expected the public key that opens the backups: age1…")
            with (
                folder.arriving(name) as partial,
                encrypted(str(args["age"]), list(args["recipients"]), partial) as out,
            ):
                pack(manifest, lambda member: self._pieces(paths[member.name]), out)
            file = folder.path / name
            verify(file, sum(member.bytes for member in manifest.members))
            removed = folder.prune(int(args["keep"]), file)
        except BackupError as error:
            return {**result, "failed": True, "msg": str(error)}
        except OSError as error:
            said = f"{error.filename or folder.path}: {error.strerror}; no backup was made"
            return {**result, "failed": True, "msg": said}
        size = file.stat().st_size
        return {**result, "changed": True, "file": str(file), "bytes": size, "removed": removed}

    def _pieces(self, path: str) -> Iterator[bytes]:
        number = 0
        while True:
            command = (
                f"dd if={shlex.quote(path)} bs=1M skip={number * PIECE_MB} count={PIECE_MB} status=none | base64 -w 0"
            )
            done = self._low_level_execute_command(command, sudoable=True)
            if done["rc"]:
                raise BackupError(f"{path} on the board cannot be read: {done['stderr'].strip() or done['rc']}")
            piece = base64.b64decode(done["stdout"])
            if not piece:
                return
            yield piece
            number += 1
