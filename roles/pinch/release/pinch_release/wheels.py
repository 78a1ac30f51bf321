"""Wheels: resolve a lock file for a board into a folder, on the controller."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from .errors import ReleaseError
from .target import Target

SOURCE_ONLY = ("sdnotify",)
"""Packages of the lock that exist as source alone. Pure Python; the controller's locked setuptools builds them."""


def install_wheels(lock: Path, target: Target, into: Path) -> None:
    """Install what `lock` pins, hash by hash and for `target`, into the folder `into`.

    Raises:
        ReleaseError: no resolver, no wheel for the target, a hash that differs, no network or a full disk.
    """
    command = [
        _uv(), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--no-build-isolation",
        "--system-certs",  # as pip, apt and git: a network's own authority stands in the machine's store
        "--python", sys.executable, "--link-mode", "copy",
        "--python-version", target.python, "--python-platform", target.platform,
        "--only-binary", ":all:", *(part for name in SOURCE_ONLY for part in ("--no-binary", name)),
        "--target", str(into), "--requirements", str(lock),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(
            f"the wheels of {lock.name} for Python {target.python} on {target.architecture} could not be installed; "
            f"check network, disk space and the lock file. The resolver says: {_gist(done.stderr)}"
        )


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    found = str(beside) if beside.exists() else shutil.which("uv")
    if not found:
        raise ReleaseError(
            "uv was not found beside this Python nor on PATH; run `make .venv` and use its ansible-playbook"
        )
    return found


def _gist(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip()) or "nothing"
