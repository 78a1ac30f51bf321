#!/usr/bin/python
"""Ansible module: remove units, files and a user that a role made, in one remote call."""

from __future__ import annotations

import glob
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: absent_parts
short_description: Remove units, files and a user in one remote call
description:
  - Stops and disables units, removes files and folders, and then the user that owned them. What is gone already is
    left alone, so a run that was cut is finished by the next.
options:
  units:
    description: Units to stop and disable.
    type: list
    elements: str
    default: []
  paths:
    description: Files, links and folders; patterns of the shell are read.
    type: list
    elements: str
    default: []
  user:
    description: User to remove, with its group of the same name.
    type: str
    default: ""
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Remove the models
  absent_parts:
    paths:
      - /var/lib/pinch-models
"""
RETURN = r"""
removed:
  description: What was there and is gone.
  returned: always
  type: list
  elements: str
"""


def found_paths(patterns: Iterable[str]) -> list[Path]:
    """Return what the patterns match, links whose target is gone among it."""
    return [Path(name) for pattern in patterns for name in sorted(glob.glob(pattern))]  # noqa: PTH207 (dangling links)


def remove(path: Path) -> None:
    """Remove a file, a link or a whole folder; a link's target stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def known(user: str) -> bool:
    """Whether there is such a user."""
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def loaded(unit: str) -> bool:
    """Whether systemd has a file for the unit."""
    command = ["systemctl", "show", unit, "--property", "LoadState", "--value"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "loaded"


def call(*command: str) -> None:
    """Run a command.

    Raises:
        OSError: it failed, in its own words.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(0, (done.stderr or done.stdout).strip(), " ".join(command))


def main() -> None:
    """Look, and remove what is there."""
    module = AnsibleModule(
        argument_spec={
            "units": {"type": "list", "elements": "str", "default": []},
            "paths": {"type": "list", "elements": "str", "default": []},
            "user": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    units = [unit for unit in module.params["units"] if loaded(unit)]
    paths, user = found_paths(module.params["paths"]), module.params["user"]
    users = [user] if user and known(user) else []
    removed = [*units, *map(str, paths), *users]
    if module.check_mode or not removed:
        module.exit_json(changed=bool(removed), removed=removed)
    try:
        if units:
            call("systemctl", "disable", "--now", *units)
        for path in paths:
            remove(path)
        if units:
            call("systemctl", "daemon-reload")
            subprocess.run(["systemctl", "reset-failed", *units], capture_output=True, check=False)
        for name in users:
            call("userdel", name)
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; repair that and run again")
    module.exit_json(changed=True, removed=removed)


if __name__ == "__main__":
    main()
