"""Root trees of Debian, and programs that run in them: natively, or for 32-bit Arm under qemu's user emulation."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.cache import REPOSITORY, cache_folder, digest

SUITE = "trixie"
"""Main alone: what the roles install is there."""
BINFMT = Path("/proc/sys/fs/binfmt_misc")
RULE = Path("/usr/lib/binfmt.d/qemu-arm.conf")
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
ENTER = """\
set -e
mount --make-rprivate /
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root"
mount -t proc proc "$2/root/proc"
mount --rbind /dev "$2/root/dev"
mount -t tmpfs tmpfs "$2/root/run"
mkdir -p "$2/root/run/systemd/system"
mount --bind "$3" "$2/root$3"
mount --bind "$4" "$2/root$4"
eval "$5"
shift 5
exec chroot "$@"
"""
"""Private mounts vanish with the command. What it writes outside them stays in the upper folder, to be looked at."""


class Tree(NamedTuple):
    """A system of its own: Debian below, what was changed on top."""

    base: Path
    """The cached tree, never written to."""
    folder: Path
    """Holds `upper`, what was changed, and the scratch folder that the tree and this machine both see."""

    @property
    def upper(self) -> Path:
        """Files as far as they are not as in the cached tree."""
        return self.folder / "upper"

    @property
    def scratch(self) -> Path:
        """Folder at the same path inside and outside."""
        return self.folder / "scratch"

    def enter(self, command: Sequence[str], extra: str = "", **environment: str) -> list[str]:
        """Return the command line that runs `command` inside, the checkout at its own path; needs root.

        `extra` is shell that mounts more, in the tree at `$2/root`.
        """
        places = [str(self.base), str(self.folder), str(self.scratch), str(REPOSITORY), extra, f"{self.folder}/root"]
        variables = [f"{name}={value}" for name, value in {**ENVIRONMENT, **environment}.items()]
        unshare = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", ENTER, "sh"]
        return [*unshare, *places, "/usr/bin/env", "-i", *variables, *command]

    def run(self, command: Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        """Run `command` inside and return how it ended."""
        return subprocess.run(
            self.enter(command, **environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    def write(self, path: str, text: str) -> None:
        """Write a file as if the board had always had it."""
        file = self.upper / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")

    def interpreter(self, name: str = "python", extra: str = "") -> Path:
        """Return a program that is the tree's Python to Ansible, which runs its modules by it."""
        program = self.folder / name
        line = shlex.join(self.enter(["/usr/bin/python3"], extra))
        program.write_text(f'#!/bin/sh\nexec {line} "$@"\n', "utf-8")
        program.chmod(0o755)
        return program


def debian(architecture: str, packages: Sequence[str], folder: Path) -> Tree:
    """Return a tree of Debian with `packages`, changes to go below the new folder `folder`; made once and cached."""
    for part in ("upper", "work", "root", "scratch"):
        (folder / part).mkdir(parents=True)
    for path in (folder / "scratch", REPOSITORY):
        (folder / "upper" / path.relative_to("/")).mkdir(parents=True, exist_ok=True)
    # What a booted board's kernel shows; this machine's own may look otherwise.
    groups = folder / "upper/sys/fs/cgroup"
    groups.mkdir(parents=True)
    (groups / "cgroup.controllers").write_text("cpuset cpu io memory pids\n", "ascii")
    return Tree(_cached(architecture, packages), folder)


def _cached(architecture: str, packages: Sequence[str]) -> Path:
    # Without one mmdebstrap takes Debian's own.
    mirror = [url] if (url := os.environ.get("PINCH_DEBIAN_MIRROR")) else []
    key = digest(f"{SUITE} {architecture} {' '.join([*packages, *mirror])}".encode())[:16]
    base = cache_folder("trees") / f"{architecture}-{key}"
    if not base.exists():
        if architecture == "armhf":
            _register()
        with tempfile.TemporaryDirectory(prefix="partial-", dir=base.parent) as scratch:
            command = [
                "unshare",
                "--mount",
                "mmdebstrap",
                "--mode=root",
                "--variant=minbase",
                f"--architectures={architecture}",
            ]
            # mmdebstrap asks a program that Debian 12 does not bring along whether foreign ones run here.
            command += ["--skip=check/qemu", f"--include={','.join(packages)}", SUITE, f"{scratch}/tree", *mirror]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            assert not done.returncode, done.stderr[-2000:]
            shutil.move(f"{scratch}/tree", base)
    return base


def _register() -> None:
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=True)
    if not (BINFMT / "qemu-arm").exists():
        (BINFMT / "register").write_bytes(RULE.read_bytes().strip())
