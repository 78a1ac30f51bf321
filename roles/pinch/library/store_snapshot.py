#!/usr/bin/python
"""Ansible module: keep a snapshot of the store on the board, and no more of them than asked for."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: store_snapshot
short_description: Keep a snapshot of the store on the board
description:
  - Asks the running service for a consistent copy of its store, sessions included, and keeps it in a folder that only
    root reads. Older ones beyond O(keep) go when the new one is whole.
options:
  folder:
    description: Folder of the snapshots.
    type: path
    required: true
  state:
    description: Folder of the service's state, whose size says how much room is needed.
    type: path
    required: true
  launcher:
    description: The command line of the release that runs.
    type: path
    required: true
  label:
    description: Words that the file's name ends with.
    type: str
    required: true
  keep:
    description: Snapshots to keep, the new one among them.
    type: int
    default: 2
  copies:
    description: How many times the store has to fit into the free disk.
    type: int
    default: 3
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Keep a snapshot of the store
  store_snapshot:
    folder: /var/lib/pinch-snapshots
    state: /var/lib/pinch
    launcher: /usr/local/bin/pinch
    label: 1.0.0-0a1b2c3d
"""
RETURN = r"""
file:
  description: The snapshot.
  returned: success
  type: str
bytes:
  description: Its size.
  returned: success
  type: int
removed:
  description: Older snapshots and leftovers that were removed.
  returned: success
  type: list
  elements: str
"""

SUFFIX = ".snapshot"
SPARE_BYTES = 16 * 2**20
"""What stays free for the log, the journal and whoever writes meanwhile."""


class SnapshotError(Exception):
    """A snapshot that cannot be had; the message says what to do."""


def held_bytes(state: Path) -> int:
    """Return the bytes of the store and its sessions."""
    files = [*state.glob("pinch.db*"), *state.glob("sessions/*")]
    return sum(path.stat().st_size for path in files if path.is_file() and ".corrupt-" not in path.name)


def require_room(folder: Path, held: int, copies: int) -> None:
    """Refuse a disk on which `copies` of a store of `held` bytes have no room.

    Raises:
        SnapshotError: they have none.
    """
    status = os.statvfs(folder)
    free, needed = status.f_bavail * status.f_frsize, copies * held + SPARE_BYTES
    if free < needed:
        raise SnapshotError(
            f"{folder} has {free >> 20} MB free; expected {needed >> 20} MB for a snapshot of a store of "
            f"{held >> 20} MB and for the work with it. Free the disk of the board and run again; nothing was changed"
        )


def surplus(folder: Path, keep: int) -> list[Path]:
    """Return what dead runs left and the oldest snapshots beyond `keep`; their names begin with their time."""
    whole = sorted(folder.glob(f"*{SUFFIX}"), reverse=True)
    return [*folder.glob("*.partial"), *whole[max(keep, 1) :]]


def save(launcher: Path, file: Path) -> int:
    """Let the service write its store to `file`; return the bytes.

    Raises:
        SnapshotError: it does not; in its own words.
    """
    done = subprocess.run(
        [str(launcher), "--json", "snapshot", "save", str(file)], capture_output=True, text=True, check=False
    )
    try:
        answer = json.loads(done.stdout or done.stderr)
    except ValueError:
        answer = {}
    if done.returncode or "bytes" not in answer:
        error = answer.get("error", {})
        said = "; ".join(filter(None, (error.get("message"), error.get("hint")))) or done.stderr.strip()
        raise SnapshotError(f"the service gave no snapshot: {said or done.returncode}. Nothing was changed")
    return int(answer["bytes"])


def main() -> None:
    """Make room sure, save, tidy."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "state": {"type": "path", "required": True},
            "launcher": {"type": "path", "required": True},
            "label": {"type": "str", "required": True},
            "keep": {"type": "int", "default": 2},
            "copies": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
    )
    params = module.params
    folder, state = Path(params["folder"]), Path(params["state"])
    file = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{params['label']}{SUFFIX}"
    if module.check_mode:
        module.exit_json(changed=True, file=str(file), bytes=0, removed=[])
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder.chmod(0o700)
        for leftover in folder.glob("*.partial"):
            leftover.unlink()
        require_room(folder, held_bytes(state), params["copies"])
        size = save(Path(params["launcher"]), file)
        removed = surplus(folder, params["keep"])
        for path in removed:
            path.unlink()
    except SnapshotError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or folder}: {error.strerror}; repair the board's disk and run again")
    module.exit_json(changed=True, file=str(file), bytes=size, removed=[path.name for path in removed])


if __name__ == "__main__":
    main()
