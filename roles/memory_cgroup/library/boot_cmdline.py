#!/usr/bin/python
"""Ansible module: words on the kernel's command line of a Raspberry Pi."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_cmdline import WORD, CmdlineError, edit
from ansible.module_utils.pinch_files import clear, place

DOCUMENTATION = r"""
module: boot_cmdline
short_description: Put words on the kernel's command line of a Raspberry Pi
description:
  - Edits C(cmdline.txt) as a list of words. Words it does not know keep their place; exactly one
    C(root=) must be there before and after; the file is replaced atomically beside a backup.
  - Where Debian's raspi-firmware writes C(cmdline.txt) anew with each kernel, its drop-in
    C(/etc/default/raspi-extra-cmdline) gets the same words.
  - Which words were put there and which taken away is kept on the board, so that just these can be undone.
options:
  present:
    description: Words that must be there.
    type: list
    elements: str
    default: []
  absent:
    description: Words that contradict them.
    type: list
    elements: str
    default: []
  state:
    description: C(absent) undoes what this module did to the files, and nothing else.
    type: str
    choices: [present, absent]
    default: present
  root:
    description: Folder that stands for C(/).
    type: path
    default: /
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Enable the memory controller at the next boot
  boot_cmdline:
    present: [cgroup_enable=memory]
    absent: [cgroup_disable=memory]
"""
RETURN = r"""
path:
  description: The file that the firmware reads; empty where there is none.
  returned: always
  type: str
pending:
  description: Wanted words that the running kernel was booted without; a reboot is due while there are any.
  returned: always
  type: list
  elements: str
undone:
  description: Words that the running kernel was still booted with although they were taken away; a reboot is due.
  returned: always
  type: list
  elements: str
backup:
  description: Copy of the file as it was before its first change; empty where nothing was changed.
  returned: always
  type: str
"""

BOOT_PATHS = ("boot/firmware/cmdline.txt", "boot/cmdline.txt")
"""Since Raspberry Pi OS bookworm, and before."""
RASPI_FIRMWARE_HOOK = "etc/kernel/postinst.d/z50-raspi-firmware"
RASPI_FIRMWARE_EXTRA = "etc/default/raspi-extra-cmdline"
RECORD = "var/lib/pinch-found/cmdline.json"
"""Words added to and removed from each file, by its path below the root."""
FIRMWARE_FILE = "cmdline.txt"
FAT_MODE = 0o755
"""What FAT shows of any file; where the firmware's file lies on another file system it has the same."""


class Change(NamedTuple):
    """A file that has to change."""

    path: Path
    before: str
    after: str

    def write(self) -> None:
        """Make it."""
        place(self.path, self.after, FAT_MODE if self.path.name == FIRMWARE_FILE else 0o644)


def find(root: Path) -> Path | None:
    """Return the file that the firmware reads below `root`, or None where there is none."""
    return next((root / path for path in BOOT_PATHS if (root / path).is_file()), None)


def read(path: Path) -> str:
    """Return the text of a command line file.

    Raises:
        CmdlineError: it holds bytes that are no text.
    """
    try:
        text = path.read_text("utf-8")
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise CmdlineError("is not text; the FAT partition may be damaged")
    return text


def pending(root: Path, present: Sequence[str]) -> list[str]:
    """Return the words of `present` that the kernel running below `root` was booted without."""
    booted = (root / "proc/cmdline").read_text("utf-8", "replace")
    return [word for word in present if word not in WORD.findall(booted)]


def plan(root: Path, present: Sequence[str], absent: Sequence[str]) -> list[Change]:
    """Return the change of each file below `root` that lacks a word of `present` or has one of `absent`.

    Raises:
        CmdlineError: with the file's path in front.
    """
    firmware = find(root)
    files = [(firmware, True)] if firmware else []
    if firmware and (root / RASPI_FIRMWARE_HOOK).exists():
        files.append((root / RASPI_FIRMWARE_EXTRA, False))
    changes = []
    for path, bootable in files:
        try:
            before = read(path) if bootable or path.exists() else ""
            after = edit(before, present, absent, bootable=bootable)
        except CmdlineError as error:
            raise CmdlineError(f"{path} {error}; nothing was changed, so repair it by hand") from None
        if after != before:
            changes.append(Change(path, before, after))
    return changes


def plan_undo(root: Path) -> list[Change]:
    """Return the change of each file below `root` that still has what was done to it.

    Raises:
        CmdlineError: with the file's path in front.
    """
    changes = []
    for name, done in recorded(root).items():
        path = root / name
        if not path.exists():
            continue
        try:
            before = read(path)
            after = edit(before, done["removed"], done["added"], bootable=path.name == FIRMWARE_FILE)
        except CmdlineError as error:
            raise CmdlineError(f"{path} {error}; nothing was changed, so repair it by hand") from None
        if after != before:
            changes.append(Change(path, before, after))
    return changes


def recorded(root: Path) -> dict[str, dict[str, list[str]]]:
    """Return what was done to each file, by its path below `root`.

    Raises:
        CmdlineError: the record is damaged.
    """
    try:
        done: dict[str, dict[str, list[str]]] = json.loads((root / RECORD).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError:
        raise CmdlineError(
            f"{root / RECORD} is damaged, so what was changed is not known; compare the file with its backup by hand, "
            "remove the record and run again"
        ) from None
    return done


def record(root: Path, changes: Sequence[Change]) -> None:
    """Add `changes` to the record, before they are made: a run that dies between is undone all the same."""
    done = recorded(root)
    for change in changes:
        before, after = WORD.findall(change.before), WORD.findall(change.after)
        entry = done.setdefault(str(change.path.relative_to(root)), {"added": [], "removed": []})
        entry["added"] += [word for word in after if word not in (*before, *entry["added"])]
        entry["removed"] += [word for word in before if word not in (*after, *entry["removed"])]
    place(root / RECORD, json.dumps(done, indent=1) + "\n")


def make(changes: Sequence[Change]) -> str:
    """Write `changes`, each beside a backup of the file as it first was; return the last backup's path."""
    backup = ""
    for change in changes:
        copy = Path(f"{change.path}.before-pinch")
        if change.before:
            backup = str(copy)
            if not copy.exists():
                place(copy, change.before)
        change.write()
    return backup


def undo(root: Path, changes: Sequence[Change]) -> None:
    """Write `changes` that undo what was done, and remove the backups and the record."""
    done = recorded(root)
    for change in changes:
        if change.after.strip():
            change.write()
        else:  # it was made for our words alone
            change.path.unlink()
    for name in done:
        Path(f"{root / name}.before-pinch").unlink(missing_ok=True)
    clear(root / RECORD)


def main() -> None:
    """Edit what needs it."""
    module = AnsibleModule(
        argument_spec={
            "present": {"type": "list", "elements": "str", "default": []},
            "absent": {"type": "list", "elements": "str", "default": []},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    present, undoing = module.params["present"], module.params["state"] == "absent"
    firmware = find(root)
    backup, undone = "", []
    try:
        changes = plan_undo(root) if undoing else plan(root, present, module.params["absent"])
        changed = bool(changes or (undoing and (root / RECORD).exists()))
        if undoing:
            added = {word for done in recorded(root).values() for word in done["added"]}
            undone = [word for word in sorted(added) if not pending(root, [word])]
            if not module.check_mode:
                undo(root, changes)
        elif changes and not module.check_mode:
            record(root, changes)
            backup = make(changes)
    except CmdlineError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(
            msg=f"{error.filename or firmware} cannot be written: {error.strerror}; "
            "remount the boot partition read-write, or free some of it, and run again"
        )
    diff = [
        {"before": before, "after": after, "before_header": str(path), "after_header": str(path)}
        for path, before, after in changes
    ]
    module.exit_json(
        changed=changed,
        path=str(firmware or ""),
        pending=pending(root, present),
        undone=undone,
        backup=backup,
        diff=diff,
    )


if __name__ == "__main__":
    main()
