#!/usr/bin/python
"""Ansible module: words on the kernel's command line of a Raspberry Pi."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: boot_cmdline
short_description: Put words on the kernel's command line of a Raspberry Pi
description:
  - Edits C(cmdline.txt) as a list of words. Words it does not know keep their place; exactly one
    C(root=) must be there before and after; the file is replaced atomically beside a backup.
  - Where Debian's raspi-firmware writes C(cmdline.txt) anew with each kernel, its drop-in
    C(/etc/default/raspi-extra-cmdline) gets the same words.
options:
  present:
    description: Words that must be there.
    type: list
    elements: str
    required: true
  absent:
    description: Words that contradict them.
    type: list
    elements: str
    default: []
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
backup:
  description: Copy of the file as it was; empty where nothing was changed.
  returned: always
  type: str
"""

BOOT_PATHS = ("boot/firmware/cmdline.txt", "boot/cmdline.txt")
"""Since Raspberry Pi OS bookworm, and before."""
RASPI_FIRMWARE_HOOK = "etc/kernel/postinst.d/z50-raspi-firmware"
RASPI_FIRMWARE_EXTRA = "etc/default/raspi-extra-cmdline"
LONGEST = 4096
"""Bytes; the kernel cuts an arm64 command line there (COMMAND_LINE_SIZE is 2048 plus the device tree's)."""
WORD = re.compile(r'(?:[^\s"]|"[^"]*"?)+')


class CmdlineError(ValueError):
    """A command line that cannot be edited safely."""


def edit(text: str, present: Sequence[str], absent: Sequence[str] = (), *, bootable: bool = True) -> str:
    """Return the command line `text` with the words `present` and without the words `absent`.

    Words keep their order; missing ones are appended. A text that needs no change is returned as it
    is. `bootable` says that the line must name one root, as the firmware's own file does.

    Raises:
        CmdlineError: not one line, or not exactly one `root=`.
    """
    lines = [line for line in text.splitlines() if line.strip()]
    if bootable and len(lines) != 1:
        raise CmdlineError(f"has {len(lines)} lines; expected one")
    words = [word for line in lines for word in WORD.findall(line)]
    roots = [word for word in words if word.startswith("root=")]
    if bootable and len(roots) != 1:
        raise CmdlineError(f"names {len(roots)} roots ({' '.join(roots) or 'none'}); expected exactly one root=")
    kept = [word for word in words if word not in absent]
    wanted = [word for word in present if word not in kept]
    if kept == words and not wanted:
        return text
    edited = " ".join([*kept, *wanted]) + "\n"
    if len(edited) > LONGEST:
        raise CmdlineError(f"would be {len(edited)} bytes long; the kernel reads {LONGEST}")
    return edited


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


def replace(path: Path, text: str) -> None:
    """Write `text` to `path` so that a power cut leaves either the old file or the new one."""
    descriptor, name = tempfile.mkstemp(prefix=".pinch-", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o755 if path.name == "cmdline.txt" else 0o644)
        temporary.replace(path)
    except BaseException:
        temporary.unlink()
        raise
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def pending(root: Path, present: Sequence[str]) -> list[str]:
    """Return the words of `present` that the kernel running below `root` was booted without."""
    booted = (root / "proc/cmdline").read_text("utf-8", "replace")
    return [word for word in present if word not in WORD.findall(booted)]


def plan(root: Path, present: Sequence[str], absent: Sequence[str]) -> list[tuple[Path, str, str]]:
    """Return (file, text before, text after) for each file below `root` that has to change.

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
            changes.append((path, before, after))
    return changes


def main() -> None:
    """Edit what needs it."""
    module = AnsibleModule(
        argument_spec={
            "present": {"type": "list", "elements": "str", "required": True},
            "absent": {"type": "list", "elements": "str", "default": []},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    root = Path(module.params["root"])
    firmware = find(root)
    backup = ""
    try:
        changes = plan(root, module.params["present"], module.params["absent"])
        for path, before, after in [] if module.check_mode else changes:
            if before:
                backup = f"{path}.before-pinch"
                shutil.copyfile(path, backup)
            replace(path, after)
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
        changed=bool(changes),
        path=str(firmware or ""),
        pending=pending(root, module.params["present"]),
        backup=backup,
        diff=diff,
    )


if __name__ == "__main__":
    main()
