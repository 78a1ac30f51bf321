#!/usr/bin/python
"""Ansible module: a drop-in of systemd-journald, in force and proven by what the daemon says of itself."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.dropin import Pending, assignments, diff, ordered, read_later
from ansible.module_utils.pinch_files import put, read

DOCUMENTATION = r"""
module: journald_dropin
short_description: Put a drop-in of systemd-journald in force
description:
  - Writes or removes one drop-in and restarts systemd-journald where the running one was not started with it. The
    daemon reads its settings at its start and then says, in a message of its own, how much it may keep; that message is
    what the limits are verified by.
options:
  text:
    description: The drop-in.
    type: str
    default: ""
  state:
    description: Whether the drop-in is wanted.
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
- name: Keep at most 8 MB of logs in RAM
  journald_dropin:
    text: |
      [Journal]
      RuntimeMaxUse=8M
"""
RETURN = r"""
storage:
  description: Where logs are kept by all files together, such as C(volatile).
  returned: always
  type: str
limits:
  description: Bytes that the running daemon may keep, by folder.
  returned: always
  type: dict
restarted:
  description: Whether the daemon was restarted.
  returned: always
  type: bool
"""

UNIT = "systemd-journald.service"
DROPIN = "etc/systemd/journald.conf.d/90-pinch.conf"
FOLDERS = tuple(f"{folder}/systemd/journald.conf.d" for folder in ("etc", "run", "usr/local/lib", "usr/lib", "lib"))
MAIN = ("etc/systemd/journald.conf", "usr/lib/systemd/journald.conf")
SECTION = "Journal"
USAGE = "ec387f577b844b8fa948f33cad9a75e6"
"""SD_MESSAGE_JOURNAL_USAGE: written for each journal that the daemon opens."""
LIMITS = {"/run/log/": "RuntimeMaxUse", "/var/log/": "SystemMaxUse"}
UNITS = {"K": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}
LARGEST_PAGE = 64 * 1024

Run = Callable[[Sequence[str]], str]


class JournaldError(ValueError):
    """A journal that does not do what was asked of it."""


def size_bytes(text: str) -> int:
    """Return the bytes of a size such as `8M`.

    Raises:
        JournaldError: it is none.
    """
    number, unit = (text[:-1], UNITS[text[-1]]) if text[-1:] in UNITS else (text, 1)
    if not number.isdigit():
        raise JournaldError(f"{text!r} is no size; expected a whole number with K, M, G or T")
    return int(number) * unit


def rivals(root: Path, settings: Mapping[str, str]) -> Iterator[str]:
    """Yield a sentence for each setting that a drop-in read after ours changes."""
    for file, name, value in read_later(root, FOLDERS, Path(DROPIN).name, SECTION):
        if name in settings and settings[name] != value:
            yield (
                f"{file} sets {name}={value} and is read after our drop-in, which sets {name}={settings[name]}; "
                "remove the line there, or the role's settings with journald_state: absent"
            )


def effective(root: Path) -> dict[str, str]:
    """Return the settings that all files together make: the main one, then the drop-ins by name."""
    main = next((file for file in (root / name for name in MAIN) if file.exists()), None)
    files = [*([main] if main else []), *ordered(root, FOLDERS)]
    return {name: value for file in files for name, value in assignments(read(file) or "", SECTION)}


def usage(run: Run) -> dict[str, int]:
    """Return the bytes that the running daemon said it may keep, by folder; nothing where its message is gone."""
    pid = run(["systemctl", "show", UNIT, "--property=MainPID", "--value"]).strip()
    printed = run(["journalctl", "--boot", "--no-pager", "--output=json", f"MESSAGE_ID={USAGE}", f"_PID={pid}"])
    said = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {each["JOURNAL_PATH"]: int(each["MAX_USE"]) for each in said if each.get("MAX_USE", "").isdigit()}


def contradictions(limits: Mapping[str, int], settings: Mapping[str, str]) -> list[str]:
    """Return a sentence for each limit of the daemon that is not the one of `settings`, whole pages apart."""
    found = []
    for folder, limit in limits.items():
        name = next((name for start, name in LIMITS.items() if folder.startswith(start)), "")
        if name in settings and not 0 <= limit - size_bytes(settings[name]) < LARGEST_PAGE:
            found.append(
                f"systemd-journald keeps up to {limit} bytes in {folder}; {name}={settings[name]} was asked for"
            )
    if limits and settings.get("Storage") == "persistent" and not any(each.startswith("/var/log/") for each in limits):
        found.append(f"systemd-journald keeps logs in {', '.join(limits)} alone; Storage=persistent was asked for")
    return found


def settle(root: Path, text: str | None, run: Run, *, dry: bool) -> dict[str, Any]:
    """Bring the daemon to the drop-in `text`, None for none of ours. Return the module's answer.

    Raises:
        JournaldError: with a sentence.
    """
    settings = dict(assignments(text or "", SECTION))
    if problems := [*rivals(root, settings)]:
        raise JournaldError("; ".join(problems))
    dropin, pending = root / DROPIN, Pending(root, "journald")
    difference = diff(dropin, text)
    limits = usage(run)
    due = bool(difference or pending or contradictions(limits, settings))
    if due and not dry:
        with pending.change():
            put(dropin, text)
            run(["systemctl", "restart", UNIT])
            # Moves to the card what was written to RAM before the card was to be used; else it does nothing.
            run(["journalctl", "--flush"])
            limits = usage(run)
            if wrong := contradictions(limits, settings):
                raise JournaldError(f"{'; '.join(wrong)}. Look at `systemd-analyze cat-config systemd/journald.conf`")
    return {
        "changed": due,
        "restarted": due and not dry,
        "storage": effective(root).get("Storage", "auto"),
        "limits": limits,
        "diff": [difference] if difference else [],
    }


def execute(command: Sequence[str]) -> str:
    """Run a command and return what it printed.

    Raises:
        JournaldError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # Some journalctl exit with 1 where nothing matches.
    if done.returncode and "No entries" not in done.stderr and "No journal files" not in done.stderr:
        raise JournaldError(f"{' '.join(command)} failed: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """Put in force."""
    module = AnsibleModule(
        argument_spec={
            "text": {"type": "str", "default": ""},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    text = module.params["text"] if module.params["state"] == "present" else None
    try:
        answer = settle(Path(module.params["root"]), text, execute, dry=module.check_mode)
    except JournaldError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename} cannot be written: {error.strerror}; repair the disk and run again")
    module.exit_json(**answer)


if __name__ == "__main__":
    main()
