"""Ansible action: write files of an encrypted backup on the controller to a board."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "archive"))

from pinch_backup.age import decrypted
from pinch_backup.archive import unpack
from pinch_backup.errors import BackupError
from pinch_backup.manifest import Member

PIECE_BYTES = 8 * 2**20


class ActionModule(ActionBase):
    """Pushes over Ansible's own connection; the plaintext goes from one pipe into the other."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Write the members that `paths` names, readable by root alone."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        paths: dict[str, str] = args["paths"]
        if self._task.check_mode:
            return {**result, "changed": True, "written": sorted(paths.values())}
        self._paths, self._waiting, self._path = paths, bytearray(), ""
        try:
            with decrypted(str(args["age"]), Path(str(args["identity"])).expanduser(), Path(args["file"])) as stream:
                manifest = unpack(stream, self)
            self._flush()
            found = {member.name for member in manifest.members}
        except BackupError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": True, "written": sorted(path for name, path in paths.items() if name in found)}

    def take(self, member: Member, piece: bytes) -> None:
        """Take the next piece of a member, as `Sink` asks."""
        path = self._paths.get(member.name)
        if path is None:
            return
        if path != self._path:
            self._flush()
            self._path = path
            self._execute(f"umask 077 && : > {shlex.quote(path)}", None)
        self._waiting += piece
        if len(self._waiting) >= PIECE_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            self._execute(f"cat >> {shlex.quote(self._path)}", bytes(self._waiting))
            self._waiting.clear()

    def _execute(self, command: str, given: bytes | None) -> None:
        done = self._low_level_execute_command(command, sudoable=True, in_data=given)
        if done["rc"]:
            said = done["stderr"].strip() or done["rc"]
            raise BackupError(f"{self._path} on the board cannot be written: {said}. The service was not changed")
