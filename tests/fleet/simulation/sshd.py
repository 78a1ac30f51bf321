"""The ssh server of simulated boards: this machine's, or Debian's, unpacked beside it and never installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from tests.cache import cache_folder

PACKAGES = ("openssh-server", "libwrap0")
"""What has the server and the one library of it that a machine without it lacks."""


class SshdError(RuntimeError):
    """There is no ssh server to be had."""


def sshd_tree() -> Path | None:
    """Return a folder with `usr/sbin/sshd`, to be laid over this machine's files; None where it has one itself.

    An installed package would start a server on this machine, so it is only unpacked, once, into the cache.

    Raises:
        SshdError: it can neither be found nor fetched.
    """
    if Path("/usr/sbin/sshd").exists():
        return None
    tree = cache_folder("sshd") / "tree"
    if not tree.exists():
        with tempfile.TemporaryDirectory(dir=tree.parent) as folder:
            _unpack(Path(folder))
            (Path(folder) / "tree").replace(tree)
    return tree


def make_key(folder: Path, name: str) -> Path:
    """Make an ssh key pair without a passphrase and return the private half's path."""
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "simulated", "-f", key], check=True)
    return key


def _unpack(folder: Path) -> None:
    if not shutil.which("apt-get"):
        raise SshdError("simulated boards need an ssh server: install openssh-server")
    done = subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SshdError(f"openssh-server cannot be fetched; run `sudo apt-get update`: {done.stderr.strip()}")
    for package in folder.glob("*.deb"):
        subprocess.run(["dpkg-deb", "-x", package, folder / "whole"], check=True)
    # What lies beside usr, such as lib, would hide this machine's links of these names.
    (folder / "tree").mkdir()
    (folder / "whole" / "usr").rename(folder / "tree" / "usr")
