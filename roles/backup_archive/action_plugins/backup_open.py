"""Ansible action: check a backup on the controller from end to end, before anything is changed on a board."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "archive"))

from pinch_backup.age import decrypted
from pinch_backup.archive import unpack
from pinch_backup.errors import BackupError
from pinch_backup.folder import Folder, verify


class ActionModule(ActionBase):
    """Reads the whole file once, through a pipe; nothing of it is kept but the manifest."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        """Return the manifest and the file."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        try:
            file = Path(args["file"]) if args.get("file") else Folder(Path(args["folder"])).newest()
            identity = Path(str(args["identity"])).expanduser()
            if not identity.is_file():
                raise BackupError(f"restore_identity is {args['identity']!r}; expected the file with the secret key")
            verify(file)
            with decrypted(str(args["age"]), identity, file) as stream:
                manifest = unpack(stream)
        except BackupError as error:
            return {**result, "failed": True, "msg": f"{error}. Nothing was changed"}
        return {**result, "changed": False, "file": str(file), "manifest": asdict(manifest)}
