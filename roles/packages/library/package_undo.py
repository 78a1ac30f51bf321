#!/usr/bin/python
"""Ansible module: take the packages away again that the role brought."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_files import clear

DOCUMENTATION = r"""
module: package_undo
short_description: Take the packages away again that the role brought
description:
  - Purges the packages that were not on the board before, save those that others need by now, and the record of them.
options: {}
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Take the packages away
  package_undo:
"""
RETURN = r"""
removed:
  description: Packages that were purged.
  returned: always
  type: list
  elements: str
kept:
  description: Packages that stay because others, which came since, need them.
  returned: always
  type: list
  elements: str
"""

RECORD = Path("/var/lib/pinch-found/packages.json")
ENVIRONMENT = {
    # dpkg refuses to work without a path to its helpers, and its words are read.
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}


def brought(record: Path = RECORD) -> list[str]:
    """Return the names in the record that are installed; none where there is no record."""
    try:
        names = json.loads(record.read_text("utf-8"))
    except FileNotFoundError:
        return []
    if not names:  # asked for no name, dpkg-query lists every package
        return []
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return sorted({line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")})


def removable(names: list[str]) -> list[str]:
    """Return those of `names` that can go without breaking a package that is none of them."""
    left = list(names)
    while left:
        done = subprocess.run(
            ["dpkg", "--no-act", "--purge", *left], env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        # dpkg: dependency problems prevent removal of NAME:
        stuck = [
            line.split()[-1].rstrip(":").partition(":")[0] for line in done.stderr.splitlines() if "prevent" in line
        ]
        if not done.returncode or not stuck:
            break
        left = [name for name in left if name not in stuck]
    return left


def main() -> None:
    """Purge and forget."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        names = brought()
    except (OSError, ValueError) as error:
        module.fail_json(msg=f"{RECORD} cannot be read: {error}; purge the packages by hand and remove it")
    going = removable(names)
    known = RECORD.exists()
    if going and not module.check_mode:
        done = subprocess.run(["dpkg", "--purge", *going], env=ENVIRONMENT, capture_output=True, text=True, check=False)
        if done.returncode:
            module.fail_json(
                msg=f"dpkg could not remove {', '.join(going)}: {done.stderr.strip()}; repair it and run again"
            )
    if known and not module.check_mode:
        clear(RECORD)
    module.exit_json(changed=known, removed=going, kept=[name for name in names if name not in going])


if __name__ == "__main__":
    main()
