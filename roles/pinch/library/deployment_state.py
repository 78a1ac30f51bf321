#!/usr/bin/python
"""Ansible module: which releases a board has, and which deployment its service runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: deployment_state
short_description: Read which releases a board has and what its service runs
options:
  home:
    description: Folder that holds C(releases/) and the link C(current).
    type: path
    required: true
  launcher:
    description: Link on the search path that starts the command line.
    type: path
    required: true
  unit:
    description: The service's unit.
    type: str
    required: true
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Read what is deployed
  deployment_state:
    home: /opt/pinch
    launcher: /usr/local/bin/pinch
    unit: pinch.service
"""
RETURN = r"""
state:
  description: >-
    C(releases), names of whole releases; C(current), the one that the link names; C(launcher), where the
    launcher points; C(unit), whether systemd has a file for the unit; C(active); C(deployment), the value of
    DEPLOYMENT in the running process; C(memory_max), bytes, 0 where the kernel sets no limit.
  returned: always
  type: dict
"""


def releases(home: Path) -> list[str]:
    """Return the names of the releases below `home` that were unpacked and compiled to the end."""
    folder = home / "releases"
    if not folder.is_dir():
        return []
    whole = (path for path in folder.iterdir() if path.suffix != ".partial" and (path / "release.json").exists())
    return sorted(path.name for path in whole)


def link(path: Path) -> str:
    """Return where a link points, empty where it does not exist or is none."""
    return str(path.readlink()) if path.is_symlink() else ""


def properties(unit: str) -> dict[str, str]:
    """Return what systemd says about `unit`."""
    names = "LoadState,ActiveState,MainPID,ControlGroup"
    done = subprocess.run(["systemctl", "show", unit, "--property", names], capture_output=True, text=True, check=False)
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def environment(pid: int) -> dict[str, str]:
    """Return the environment that process `pid` was started with; none where there is no such process."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes() if pid else b""
    except OSError:
        return {}
    pairs = (part.decode("utf-8", "replace").partition("=") for part in raw.split(b"\0"))
    return {name: value for name, separator, value in pairs if separator}


def memory_max(control_group: str) -> int:
    """Return the hard limit in bytes that the kernel enforces on a control group, 0 where it enforces none."""
    path = Path("/sys/fs/cgroup") / control_group.lstrip("/") / "memory.max"
    try:
        text = path.read_text("ascii").strip() if control_group else "max"
    except OSError:
        return 0
    return 0 if text == "max" else int(text)


def main() -> None:
    """Read and return."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "launcher": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    home = Path(module.params["home"])
    shown = properties(module.params["unit"])
    state = {
        "releases": releases(home),
        "current": Path(link(home / "current")).name,
        "launcher": link(Path(module.params["launcher"])),
        "unit": shown.get("LoadState") == "loaded",
        "active": shown.get("ActiveState") == "active",
        "deployment": environment(int(shown.get("MainPID") or 0)).get("DEPLOYMENT", ""),
        "memory_max": memory_max(shown.get("ControlGroup", "")),
    }
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
