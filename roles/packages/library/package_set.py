#!/usr/bin/python
"""Ansible module: install Debian packages, from files that were pushed or by the board's own apt."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_files import place

DOCUMENTATION = r"""
module: package_set
short_description: Install Debian packages, from an archive or by the board's own apt
description:
  - Ends what an interrupted dpkg left undone, installs the packages without recommendations, and looks whether they are
    there. With C(archive) no network is used and nothing but the files in it can be installed.
  - Never removes a package. Files under C(/etc) that somebody has changed stay. The names of packages that were not
    there before are kept on the board.
options:
  names:
    description: Packages that have to be there afterwards.
    type: list
    elements: str
    required: true
  archive:
    description: Tar of package files, which is removed afterwards.
    type: path
  sha256:
    description: The archive's sum.
    type: str
  fetch:
    description: Let the board's own apt fetch packages, where there is no archive.
    type: bool
    default: false
  planned:
    description: Names and versions of what is in the archive, for check mode.
    type: list
    elements: str
    default: []
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Install what was pushed
  package_set:
    names: [zstd]
    archive: /var/tmp/pinch-packages.tar
    sha256: "{{ fetched.sha256 }}"
"""
RETURN = r"""
installed:
  description: Names and versions of what was installed, or in check mode would be.
  returned: always
  type: list
  elements: str
"""

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
    # Ubuntu's needrestart would restart services, and waits for a terminal.
    "NEEDRESTART_SUSPEND": "1",
}
APT = (
    "apt-get", "-qq", "--yes", "--no-install-recommends", "--no-remove", "-o", "DPkg::Lock::Timeout=300",
    "-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold",
)  # fmt: skip


RECORD = Path("/var/lib/pinch-found/packages.json")
"""Names of the packages that this module brought, a list."""


class PackageSetError(Exception):
    """Packages that cannot be installed; the message says what to do."""


def unpack(archive: Path, sha256: str, into: Path) -> list[Path]:
    """Unpack a tar of package files into the folder `into`; return them.

    Raises:
        PackageSetError: another sum than expected.
    """
    with archive.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise PackageSetError(
            f"{archive} has sha256 {found}; expected {sha256}. It was damaged on the way: remove it and run again"
        )
    with tarfile.open(archive) as tar:
        for entry in tar:
            source = tar.extractfile(entry) if entry.isfile() and "/" not in entry.name else None
            if source is None:
                raise PackageSetError(f"{archive} holds {entry.name}; expected package files alone")
            with (into / entry.name).open("wb") as file:
                shutil.copyfileobj(source, file)
    return sorted(into.iterdir())


def missing(names: list[str]) -> list[str]:
    """Return those of `names` that are not installed."""
    command = ["dpkg-query", "--show", "--showformat=${Package} ${db:Status-Status}\n", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    there = {line.split()[0] for line in done.stdout.splitlines() if line.endswith(" installed")}
    return [name for name in names if name not in there]


def remember(titles: list[str], record: Path = RECORD) -> None:
    """Add what is about to come to the record; what is there already only gets another version."""
    names = sorted(title.split()[0].partition(":")[0] for title in titles)
    try:
        known = json.loads(record.read_text("utf-8"))
    except (OSError, ValueError):
        known = []
    brought = sorted({*known, *missing(names)}) if names else known
    if brought == known:
        return
    place(record, json.dumps(brought, indent=1) + "\n")


def repair() -> None:
    """End what an interrupted dpkg left undone.

    Raises:
        PackageSetError: dpkg cannot.
    """
    audit = subprocess.run(["dpkg", "--audit"], capture_output=True, text=True, check=False)
    if audit.stdout.strip() or audit.returncode:
        run(["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"], "an interrupted installation went on")


def install_files(files: list[Path], scratch: Path) -> None:
    """Install package files in the right order, with no list of any source in sight.

    Raises:
        PackageSetError: apt or dpkg fails.
    """
    (scratch / "lists" / "partial").mkdir(parents=True)
    alone = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": f"{scratch}/lists/",
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    options = [part for name, value in alone.items() for part in ("-o", f"{name}={value}")]
    run([*APT, *options, "install", *map(str, files)], "the packages were installed")


def install_by_apt(names: list[str], *, simulate: bool) -> list[str]:
    """Install `names` from the board's own sources; return name and version of all that came.

    Raises:
        PackageSetError: apt fails.
    """
    if not simulate:
        run(["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=300", "update"], "the board's apt fetched its package lists")
    planned = run([*APT, "--simulate", "install", *names], "the board's apt made its plan")
    # Inst name (version archive [architecture])
    lines = (line.split() for line in planned.splitlines() if line.startswith("Inst "))
    titles = [f"{words[1]} {next(word for word in words if word.startswith('('))[1:]}" for words in lines]
    if not simulate:
        remember(titles)
        run([*APT, "install", *names], "the board's apt installed the packages")
    return titles


def run(command: list[str], doing: str) -> str:
    """Run `command`; return its output.

    Raises:
        PackageSetError: it fails; told with what was being done and the program's own words.
    """
    done = subprocess.run(
        command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode:
        words = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith(("E:", "W:", "dpkg: "))]
        said = " ".join(words) or (done.stderr + done.stdout).strip()[-600:] or f"status {done.returncode}"
        full = "No space left" in done.stderr + done.stdout or "enough free space" in done.stderr + done.stdout
        remedy = "free some of the board's disk and run again" if full else "repair that on the board and run again"
        raise PackageSetError(f"{command[0]} failed while {doing}: {said}; {remedy}")
    return done.stdout


def install(names: list[str], archive: Path | None, sha256: str, planned: list[str], *, fetch: bool) -> list[str]:
    """Install; return name and version of what came, nothing where there was only to go on with what was cut.

    Raises:
        PackageSetError: see the parts.
    """
    repair()
    came: list[str] = []
    if archive is None and fetch:
        came = install_by_apt(names, simulate=False)
    elif archive is not None:
        remember(planned)
        # On the card: /tmp may be RAM.
        with tempfile.TemporaryDirectory(prefix="pinch-packages-", dir="/var/tmp") as folder:
            scratch = Path(folder)
            (scratch / "files").mkdir()
            install_files(unpack(archive, sha256, scratch / "files"), scratch)
        archive.unlink()
        came = planned
    if lost := missing(names):
        raise PackageSetError(
            f"after the installation {', '.join(lost)} is still missing; look at `dpkg --audit` on the board"
        )
    os.sync()
    return came


def main() -> None:
    """Install what is missing."""
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "required": True},
            "archive": {"type": "path"},
            "sha256": {"type": "str"},
            "fetch": {"type": "bool", "default": False},
            "planned": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
        required_together=[("archive", "sha256")],
    )
    given = module.params
    names, archive = given["names"], Path(given["archive"]) if given["archive"] else None
    try:
        if not missing(names):
            module.exit_json(changed=False, installed=[])
        if module.check_mode:
            came = install_by_apt(names, simulate=True) if given["fetch"] else given["planned"]
        else:
            came = install(names, archive, given["sha256"] or "", given["planned"], fetch=given["fetch"])
    except PackageSetError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename}: {error.strerror}; free the disk of the board and run again")
    diff = {"before": "", "after": "".join(f"{title}\n" for title in came), "after_header": "packages"}
    module.exit_json(changed=True, installed=came, diff=diff)


if __name__ == "__main__":
    main()
