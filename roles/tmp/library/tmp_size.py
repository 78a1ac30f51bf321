#!/usr/bin/python
"""Ansible module: the size of a /tmp that is RAM."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dropin import Pending, assignments, diff, ordered, read_later
from ansible.module_utils.pinch_files import put, read

DOCUMENTATION = r"""
module: tmp_size
short_description: Bound the RAM that files in /tmp take
description:
  - Where C(/tmp) is a tmpfs that systemd mounts, a drop-in for C(tmp.mount) gives it a size and keeps its other
    options; the live mount gets the same size at once where what is in use fits. A C(/tmp) on disk is left alone, and
    so are C(/run) and C(/dev/shm), whose use is returned.
options:
  size_mb:
    description: Size in MB; needed unless C(state) is C(absent).
    type: int
  state:
    description: Whether the size is wanted; C(absent) brings back the vendor's.
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
- name: Let files in /tmp take 24 MB of RAM
  tmp_size:
    size_mb: 24
"""
RETURN = r"""
kind:
  description: What C(/tmp) is, C(tmpfs) or C(disk).
  returned: always
  type: str
size_bytes:
  description: Size of the live tmpfs, 0 where it is on disk.
  returned: always
  type: int
used_bytes:
  description: What files in it take.
  returned: always
  type: int
others_bytes:
  description: What files on all other tmpfs take.
  returned: always
  type: int
reboot_required:
  description: Whether the size waits for the next boot, because what is in use would not fit.
  returned: always
  type: bool
"""

UNIT = "tmp.mount"
TMP = f"/{UNIT.removesuffix('.mount')}"
"""systemd names a mount by its place."""
DROPIN = "etc/systemd/system/tmp.mount.d/90-pinch.conf"
PARENTS = (
    "etc/systemd/system",
    "run/systemd/system",
    "run/systemd/generator",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
)
FOLDERS = tuple(f"{parent}/{UNIT}.d" for parent in PARENTS)
MEBIBYTE = 1024 * 1024
SPARE = 8
"""One part in so many of the size stays free when a tmpfs in use is made smaller."""
HEADER = "# Written by the role tmp of Pinch: the vendor's options with another size.\n"

Run = Callable[[Sequence[str]], str]


class Use(NamedTuple):
    """Size of a file system and what its files take, bytes."""

    size: int
    used: int


Measure = Callable[[str], Use]


class TmpError(ValueError):
    """A /tmp that cannot be bounded."""


def tmpfs_points(mounts: str) -> list[str]:
    """Return where tmpfs is mounted and not mounted over, from the text of `/proc/mounts`."""
    top = {}
    for line in mounts.splitlines():
        _, point, kind, *_ = line.split()
        top[point.encode().decode("unicode_escape")] = kind
    return [point for point, kind in top.items() if kind == "tmpfs"]


def with_size(options: str, size_mb: int) -> str:
    """Return the mount options with the size replaced; all others keep their place."""
    kept = [option for option in options.split(",") if option and not option.startswith("size=")]
    return ",".join([*kept, f"size={size_mb}M"])


def vendor_options(root: Path, fragment: Path) -> str:
    """Return the options of `tmp.mount` without our drop-in: of its file and of the drop-ins read before ours.

    Raises:
        TmpError: a drop-in that is read after ours sets them.
    """
    later = [
        (file, value)
        for file, name, value in read_later(root, FOLDERS, Path(DROPIN).name, "Mount")
        if name == "Options"
    ]
    if later:
        file, value = later[-1]
        raise TmpError(
            f"{file} sets Options={value} and is read after our drop-in; remove that line, or set tmp_state: absent"
        )
    before = [file for file in ordered(root, FOLDERS) if file.name < Path(DROPIN).name]
    said = [
        value
        for file in (fragment, *before)
        for name, value in assignments(read(file) or "", "Mount")
        if name == "Options"
    ]
    return said[-1] if said else ""


def settle(root: Path, size_mb: int | None, run: Run, measure: Measure, *, dry: bool) -> dict[str, Any]:
    """Bring /tmp to a size, None for the vendor's. Return the module's answer.

    Raises:
        TmpError: with a sentence.
    """
    points = tmpfs_points(read(root / "proc/mounts") or "")
    others = sum(measure(point).used for point in points if point != TMP)
    dropin, pending = root / DROPIN, Pending(root, "tmp")
    on_tmpfs = TMP in points
    text = _text(root, size_mb, run) if on_tmpfs and size_mb is not None else None
    difference = diff(dropin, text)
    before = measure(TMP) if on_tmpfs else Use(0, 0)
    wanted = size_mb * MEBIBYTE if text and size_mb is not None else None
    # A mark without a size of ours stands for a vendor's size that was not brought back yet.
    live_due = on_tmpfs and (bool(pending or difference) if wanted is None else before.size != wanted)
    waits = bool(live_due and wanted is not None and before.used > wanted - wanted // SPARE)
    changed = bool(difference) or (live_due and not waits)
    if changed and not dry:
        with pending.change():
            put(dropin, text)
            run(["systemctl", "daemon-reload"])
            if live_due and not waits:
                run(["systemctl", "reload", UNIT])
                _verify(measure(TMP), wanted)
    after = measure(TMP) if on_tmpfs else before
    return {
        "changed": changed,
        "kind": "tmpfs" if on_tmpfs else "disk",
        "size_bytes": after.size,
        "used_bytes": after.used,
        "others_bytes": others,
        "reboot_required": waits,
        "diff": [difference] if difference else [],
    }


def _text(root: Path, size_mb: int, run: Run) -> str:
    fragment = run(["systemctl", "show", UNIT, "--property=FragmentPath", "--value"]).strip()
    if not fragment:
        raise TmpError(
            f"{TMP} is a tmpfs that no unit of systemd describes, so its size cannot be kept over a boot; set it where "
            "it is mounted, or set tmp_state: absent"
        )
    return f"{HEADER}[Mount]\nOptions={with_size(vendor_options(root, root / fragment.lstrip('/')), size_mb)}\n"


def _verify(after: Use, wanted: int | None) -> None:
    if wanted is not None and after.size != wanted:
        raise TmpError(
            f"{TMP} holds {after.size} bytes after it was mounted anew with {wanted}; look at `systemctl status {UNIT}`"
        )


def execute(command: Sequence[str]) -> str:
    """Run a command and return what it printed.

    Raises:
        TmpError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise TmpError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def measured(point: str) -> Use:
    """Return size and use of the file system at `point`; nothing where it cannot be asked."""
    try:
        status = os.statvfs(point)
    except OSError:
        return Use(0, 0)
    return Use(status.f_blocks * status.f_frsize, (status.f_blocks - status.f_bfree) * status.f_frsize)


def main() -> None:
    """Bound it."""
    module = AnsibleModule(
        argument_spec={
            "size_mb": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ["size_mb"])],
    )
    size_mb = module.params["size_mb"] if module.params["state"] == "present" else None
    try:
        answer = settle(Path(module.params["root"]), size_mb, execute, measured, dry=module.check_mode)
    except TmpError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; repair the disk and run again")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
