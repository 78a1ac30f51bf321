#!/usr/bin/python
"""Ansible module: what a board's apt knows, so that the controller can work out packages for it."""

from __future__ import annotations

import base64
import json
import subprocess
import zlib
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: package_state
short_description: Read what a board's apt knows
description:
  - Reads dpkg's status file, apt's lists of sources, its pins, and the keys that sign the sources. Changes nothing.
options:
  root:
    description: Folder that stands for C(/).
    type: path
    default: /
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Read what the board's apt knows
  package_state:
"""
RETURN = r"""
state:
  description: Debian's name of the architecture, and the files, packed with zlib and base64.
  returned: always
  type: dict
"""

SOURCES = ("etc/apt/sources.list", "etc/apt/sources.list.d/*.list", "etc/apt/sources.list.d/*.sources")
PREFERENCES = ("etc/apt/preferences", "etc/apt/preferences.d/*")
TRUSTED = ("etc/apt/trusted.gpg", "etc/apt/trusted.gpg.d/*.gpg", "etc/apt/trusted.gpg.d/*.asc")
KEYRINGS = ("usr/share/keyrings/*", "etc/apt/keyrings/*")
"""Of these only what a source names; folders of keys that nobody uses may be large."""


def files(root: Path, patterns: tuple[str, ...]) -> list[Path]:
    """Return the files below `root` that match, sorted."""
    found = [path for pattern in patterns for path in root.glob(pattern)]
    return sorted(path for path in found if path.is_file())


def texts(root: Path, patterns: tuple[str, ...]) -> dict[str, str]:
    """Return the text of each file that matches, by its path on the board."""
    return {f"/{path.relative_to(root)}": path.read_text("utf-8", "replace") for path in files(root, patterns)}


def read_state(root: Path, architecture: str) -> dict[str, Any]:
    """Return the packed state of the system below `root`."""
    sources = texts(root, SOURCES)
    named = "\n".join(sources.values())
    keys = files(root, TRUSTED) + [path for path in files(root, KEYRINGS) if f"/{path.relative_to(root)}" in named]
    return {
        "architecture": architecture,
        "status": pack((root / "var/lib/dpkg/status").read_bytes()),
        "sources": pack(json.dumps(sources).encode()),
        "preferences": pack(json.dumps(texts(root, PREFERENCES)).encode()),
        "keyrings": pack(
            json.dumps(
                {f"/{path.relative_to(root)}": base64.b64encode(path.read_bytes()).decode() for path in keys}
            ).encode()
        ),
    }


def pack(data: bytes) -> str:
    """Return `data` compressed, as text."""
    return base64.b64encode(zlib.compress(data, 6)).decode()


def main() -> None:
    """Read and return."""
    module = AnsibleModule(argument_spec={"root": {"type": "path", "default": "/"}}, supports_check_mode=True)
    try:
        shown = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True, check=True)
        state = read_state(Path(module.params["root"]), shown.stdout.strip())
    except (OSError, subprocess.CalledProcessError) as error:
        module.fail_json(
            msg=f"what dpkg and apt of the board know cannot be read: {error}; expected a Debian system, so repair its "
            "packages with `sudo apt --fix-broken install`"
        )
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
