#!/usr/bin/python
"""Ansible module: how much the kernel reads ahead of the disk that a board runs from."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dropin import diff
from ansible.module_utils.kernel_values import KernelValueError, KernelValues
from ansible.module_utils.pinch_files import put, read

DOCUMENTATION = r"""
module: disk_readahead
short_description: Set how much the kernel reads ahead of the root disk
description:
  - Writes a udev rule for the disk that holds C(/) and sets the same value in the running kernel. What it was before is
    kept on the board, and C(absent) puts it back.
  - A root that is on no memory card or virtio disk, such as NVMe, USB, LVM or an overlay, is left alone; the answer
    says what it is on.
options:
  kb:
    description: KiB to read ahead, at least a page of the kernel; needed unless C(state) is C(absent).
    type: int
  state:
    description: Whether the value is wanted.
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
- name: Read 32 KiB ahead
  disk_readahead:
    kb: 32
"""
RETURN = r"""
disk:
  description: Name of the disk that holds C(/), such as C(mmcblk0); empty where it is none of the system's own.
  returned: always
  type: str
applies:
  description: Whether the disk is one that the module sets.
  returned: always
  type: bool
"""

RULE = "etc/udev/rules.d/90-pinch-readahead.rules"
RECORD = "var/lib/pinch-found/readahead.json"
CARDS = re.compile(r"mmcblk\d+|vd[a-z]+")
"""Memory cards, and the disk of an emulated board."""


def root_disk(root: Path) -> str:
    """Return the name of the whole disk that holds `/`, empty where no block device does."""
    device = ""
    for line in (read(root / "proc/self/mountinfo") or "").splitlines():
        fields = line.split()
        if fields[4] == "/":
            device = fields[2]
    node = root / "sys/dev/block" / device
    if not device or not node.exists():
        return ""
    place_in_tree = node.resolve()
    return (place_in_tree.parent if (place_in_tree / "partition").exists() else place_in_tree).name


def in_pages(kb: int, page_bytes: int) -> int:
    """Return what the kernel makes of `kb`: whole pages.

    Raises:
        KernelValueError: it is less than a page.
    """
    page_kb = page_bytes // 1024
    if kb < page_kb:
        raise KernelValueError(
            f"{kb} KiB to read ahead is less than a page of this kernel; expected at least {page_kb}"
        )
    return kb // page_kb * page_kb


def rule(disk: str, kb: int) -> str:
    """Return the udev rule that sets the value at each boot."""
    return (
        "# Written by the role readahead of Pinch.\n"
        f'ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="{disk}", ATTR{{queue/read_ahead_kb}}="{kb}"\n'
    )


def settle(root: Path, kb: int | None, page_bytes: int, *, dry: bool) -> dict[str, Any]:
    """Bring the root disk to `kb`, None for what it was. Return the module's answer.

    The order makes any end in the middle harmless: the record first, then the live value, then the
    rule, then what is put back, and the record is cleared last.

    Raises:
        KernelValueError: the kernel does not take it; nothing was changed.
    """
    disk = root_disk(root)
    applies = bool(CARDS.fullmatch(disk))
    name = f"/sys/block/{disk}/queue/read_ahead_kb"
    wanted = {name: str(in_pages(kb, page_bytes))} if applies and kb is not None else {}
    path = root / RULE
    text = rule(disk, int(wanted[name])) if wanted else None
    kernel = KernelValues(root, root / RECORD, [name] if f'KERNEL=="{disk}"' in (read(path) or "") else [])
    change, difference = kernel.change(wanted), diff(path, text)
    gone = kernel.found.keys() - wanted.keys()
    if not dry:
        kernel.write(wanted)
        if difference:
            put(path, text)
        kernel.forget(wanted)
    return {
        "changed": bool(change.write or gone or difference),
        "disk": disk,
        "applies": applies,
        "diff": [difference] if difference else [],
    }


def main() -> None:
    """Set or put back."""
    module = AnsibleModule(
        argument_spec={
            "kb": {"type": "int"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
        required_if=[("state", "present", ["kb"])],
    )
    kb = module.params["kb"] if module.params["state"] == "present" else None
    try:
        answer = settle(Path(module.params["root"]), kb, os.sysconf("SC_PAGE_SIZE"), dry=module.check_mode)
    except KernelValueError as error:
        module.fail_json(msg=f"{error}; nothing was changed, so correct it and run again")
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; repair the disk and run again")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
