"""What this machine must have before an image can be built or booted on it, checked before anything is done."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .architecture import ARCHITECTURES
from .failure import ImageError

BINFMT = Path("/proc/sys/fs/binfmt_misc")
RULES = (Path("/usr/lib/binfmt.d"), Path("/usr/share/qemu/binfmt.d"))
INSTALL = "`apt-get install` what image/apt-packages.txt lists"
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def cache_dir() -> Path:
    """Return the folder that heavy things are kept in, outside the checkout."""
    return Path(os.environ.get("PINCH_CACHE") or Path.home() / ".cache" / "pinch")


def need_root() -> None:
    """Raise ImageError unless we are root."""
    if os.geteuid():
        raise ImageError(
            "Building the image needs root, for its file owners and mounts, and this is an ordinary user: "
            "`make image-base` builds it through sudo."
        )


def give_back(paths: Iterable[Path]) -> None:
    """Give what root made in the cache to the owner of the cache, who then reads, locks and removes it without root."""
    if os.geteuid() or not cache_dir().exists():
        return
    owner = cache_dir().stat()
    for path in paths:
        with suppress(FileNotFoundError):
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


def need_tools(*names: str) -> None:
    """Raise ImageError unless every named program is installed."""
    if missing := [name for name in names if not shutil.which(name)]:
        raise ImageError(f"{', '.join(missing)} not found on this machine: {INSTALL}.")


def need_space(folder: Path, needed_bytes: int) -> None:
    """Raise ImageError unless the file system that holds `folder` has that many bytes free."""
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < needed_bytes:
        raise ImageError(
            f"{folder} has {free >> 20} MB free and {needed_bytes >> 20} MB are needed: "
            "free some, or set PINCH_CACHE to a folder on another disk."
        )


def native_architecture() -> str:
    """Return Debian's name for this machine's processor. Raises ImageError for one we have no tools for."""
    machine = platform.machine()
    if machine not in MACHINES:
        raise ImageError(f"This machine is {machine}; images are built on {' or '.join(MACHINES)}.")
    return MACHINES[machine]


def need_interpreter(architecture: str) -> None:
    """See that this machine runs programs of that architecture, registering qemu's interpreter if need be.

    Raises ImageError.
    """
    name = ARCHITECTURES[architecture].interpreter
    if native_architecture() == architecture or _registered(name):
        return
    if not (BINFMT / "register").exists():
        subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", str(BINFMT)], check=False, capture_output=True)
    rule = next((path for folder in RULES if (path := folder / f"{name}.conf").exists()), None)
    if rule and not _registered(name):
        try:
            (BINFMT / "register").write_bytes(rule.read_bytes().strip())
        except OSError as error:
            raise ImageError(
                f"This kernel took no interpreter for {architecture} programs ({error.strerror}): load binfmt_misc, or "
                "build where /proc/sys/fs/binfmt_misc can be written."
            ) from None
    if not _registered(name):
        raise ImageError(
            f"This machine cannot run {architecture} programs, qemu's user emulation is not set up: {INSTALL}."
        )


def _registered(name: str) -> bool:
    rule = BINFMT / name
    # F: the interpreter was opened when it was registered, so it is there inside a chroot too.
    return rule.exists() and "F" in next(
        (line for line in rule.read_text(encoding="ascii").splitlines() if line.startswith("flags:")), ""
    )
