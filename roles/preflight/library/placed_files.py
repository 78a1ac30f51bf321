#!/usr/bin/python
"""Ansible module: several text files of a role, put in place in one remote call."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_files import place

DOCUMENTATION = r"""
module: placed_files
short_description: Put text files in place in one remote call
description:
  - Writes files that belong to root, each in one step, and makes their folders. A template task costs about six
    trips to a board and each file of a loop as many again; this costs one for all files of a role.
options:
  files:
    description: Text by path.
    type: dict
    required: true
  mode:
    description: Permissions of the files.
    type: str
    default: "0644"
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Write the settings
  placed_files:
    files:
      /etc/pinch/pinch.toml: "{{ lookup('ansible.builtin.template', 'pinch.toml.j2') }}"
"""
RETURN = r"""
written:
  description: Paths that were changed.
  returned: always
  type: list
  elements: str
"""


def current(path: Path) -> tuple[str | None, tuple[int, int, int] | None]:
    """Return a file's text and its (mode, owner, group); None where there is no file."""
    try:
        status = path.stat()
        return path.read_text("utf-8", "surrogateescape"), (status.st_mode & 0o7777, status.st_uid, status.st_gid)
    except FileNotFoundError:
        return None, None


def changes(files: dict[str, str], mode: int, owner: tuple[int, int]) -> list[dict[str, Any]]:
    """Return what differs from `files`, as Ansible's diffs."""
    found = []
    for name, wanted in files.items():
        text, status = current(Path(name))
        if text != wanted or status != (mode, *owner):
            found.append({"before": text or "", "after": wanted, "before_header": name, "after_header": name})
    return found


def main() -> None:
    """Write what differs."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "dict", "required": True},
            "mode": {"type": "str", "default": "0644"},
        },
        supports_check_mode=True,
    )
    files = {str(name): str(text) for name, text in module.params["files"].items()}
    mode, owner = int(module.params["mode"], 8), (0, 0)
    try:
        diff = changes(files, mode, owner)
        for change in [] if module.check_mode else diff:
            place(Path(change["after_header"]), change["after"], mode, owner)
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; repair the disk and run again")
    module.exit_json(changed=bool(diff), written=[change["after_header"] for change in diff], diff=diff)


if __name__ == "__main__":
    main()
