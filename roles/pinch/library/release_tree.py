#!/usr/bin/python
"""Ansible module: put a release of the service in place on a board."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release_tree
short_description: Put a release of the service in place
description:
  - Unpacks a release beside the others, compiles its bytecode and gives it its name in one step; the link C(current)
    stays. A run that dies before that leaves only a folder C(.partial), which the next run removes.
options:
  home:
    description: Folder that holds C(releases/) and the link C(current).
    type: path
    required: true
  name:
    description: Name of the release.
    type: str
    required: true
  archive:
    description: Archive to unpack where the release is not there yet; removed afterwards.
    type: path
  sha256:
    description: The archive's sum.
    type: str
  keep:
    description: Releases to keep, the current and the one before it among them.
    type: int
    default: 3
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Install the release
  release_tree:
    home: /opt/pinch
    name: 1.0.0-0a1b2c3d
    archive: /var/tmp/pinch-1.0.0-0a1b2c3d.tar.zst
    sha256: "{{ release.sha256 }}"
"""
RETURN = r"""
removed:
  description: Releases and leftovers that were removed.
  returned: always
  type: list
  elements: str
seconds:
  description: Seconds that unpacking and compiling took.
  returned: always
  type: dict
"""


class ReleaseTreeError(Exception):
    """A release that cannot be put in place; the message says what to do."""


def unpack(archive: Path, sha256: str, into: Path) -> None:
    """Unpack a `.tar.zst` archive into the new folder `into`.

    Raises:
        ReleaseTreeError: another sum than expected, or tar fails.
    """
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise ReleaseTreeError(
            f"{archive} has sha256 {found}; expected {sha256}. It was damaged on the way: remove it and run again"
        )
    into.mkdir(parents=True)
    command = ["tar", "--extract", "--zstd", "--no-same-owner", "--file", str(archive), "--directory", str(into)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseTreeError(f"{archive} could not be unpacked: {done.stderr.strip() or done.returncode}")


def compile_bytecode(library: Path) -> None:
    """Compile every module below `library` once, on all processors.

    The release is never edited, so its bytecode need not be compared with its sources at each import. Without the
    columns that tracebacks underline it is smaller, on the card and in memory.

    Raises:
        ReleaseTreeError: a module does not compile, or the disk is full.
    """
    command = [
        sys.executable, "-X", "no_debug_ranges", "-m", "compileall", "-q", "-j", "0",
        "--invalidation-mode", "unchecked-hash", str(library),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseTreeError(f"bytecode of {library} could not be compiled: {(done.stdout + done.stderr).strip()}")


def surplus(releases: Path, name: str, previous: str, keep: int) -> list[Path]:
    """Return leftovers of dead runs and the oldest releases beyond `keep`; those that were never healthy go first."""
    if not releases.is_dir():
        return []
    folders = [path for path in releases.iterdir() if path.is_dir()]
    leftovers = [path for path in folders if path.suffix == ".partial"]
    whole = [path for path in folders if path.suffix != ".partial" and path.name not in {name, previous}]
    generations = releases.parent / "generations"
    whole.sort(key=lambda path: ((generations / f"{path.name}.json").exists(), path.stat().st_mtime), reverse=True)
    held = len({name, previous} - {""})
    return leftovers + whole[max(keep - held, 0) :]


def main() -> None:
    """Install and tidy."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "name": {"type": "str", "required": True},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "keep": {"type": "int", "default": 3},
        },
        supports_check_mode=True,
        required_together=[("archive", "sha256")],
    )
    home, name = Path(module.params["home"]), module.params["name"]
    releases, current = home / "releases", home / "current"
    previous = current.readlink().name if current.is_symlink() else ""
    installed = (releases / name / "release.json").exists()
    if module.check_mode:
        module.exit_json(changed=not installed, removed=[], seconds={})
    seconds: dict[str, float] = {}
    try:
        # Leftovers first: they may hold the space that the new release needs.
        removed = surplus(releases, name, previous, max(module.params["keep"], 1))
        for path in removed:
            shutil.rmtree(path)
        if not installed:
            if not module.params["archive"]:
                raise ReleaseTreeError(
                    f"release {name} is not installed and no archive was given; run the role pinch whole"
                )
            partial = releases / f"{name}.partial"
            started = time.monotonic()
            unpack(Path(module.params["archive"]), module.params["sha256"], partial)
            unpacked = time.monotonic()
            compile_bytecode(partial / "lib")
            # On the card before it gets its name: after a power cut a named release is a whole one.
            os.sync()
            partial.rename(releases / name)
            os.utime(releases / name)
            seconds = {"unpack": round(unpacked - started, 1), "compile": round(time.monotonic() - unpacked, 1)}
        if module.params["archive"]:
            Path(module.params["archive"]).unlink(missing_ok=True)
        os.sync()
    except ReleaseTreeError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or home}: {error.strerror}; free the disk of the board and run again")
    module.exit_json(changed=not installed or bool(removed), removed=[path.name for path in removed], seconds=seconds)


if __name__ == "__main__":
    main()
