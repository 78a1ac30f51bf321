"""The cache on the controller: package files by their hash, and the archives that went to boards."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from .errors import PackagesError
from .root import Package

KEPT_PACKAGES = 400
KEPT_ARCHIVES = 24
"""What the cache keeps of each at most; what was not used for longest goes first."""


class PackageCache:
    """A folder of package files and archives."""

    def __init__(self, folder: Path) -> None:
        """Keep both below `folder`, which is made."""
        self._packages = folder / "packages"
        self._archives = folder / "archives"
        for part in (self._packages, self._archives):
            part.mkdir(parents=True, exist_ok=True)

    def lend(self, packages: Sequence[Package], place: Path) -> list[Package]:
        """Link what is here of `packages` into the folder `place`, each looked at again; return what is missing."""
        missing = []
        for package in packages:
            kept = self._packages / package.sha256
            if kept.exists() and sha256_of(kept) == package.sha256:
                os.utime(kept)
                (place / package.file).unlink(missing_ok=True)
                os.link(kept, place / package.file)
            else:
                kept.unlink(missing_ok=True)
                missing.append(package)
        return missing

    def take(self, packages: Sequence[Package], place: Path) -> None:
        """Take freshly fetched `packages` in from the folder `place`.

        Raises:
            PackagesError: one of them is not there, or is not what the signed lists say.
        """
        for package in packages:
            fresh = place / package.file
            found = sha256_of(fresh) if fresh.exists() else "none"
            if found != package.sha256:
                raise PackagesError(
                    f"{package.file} came with sha256 {found}; the signed package lists say {package.sha256}. A proxy "
                    "or a mirror has altered it: try again, or name another in PINCH_DEBIAN_MIRROR"
                )
            fresh.replace(self._packages / package.sha256)
        forget(self._packages, KEPT_PACKAGES)

    def pack(self, packages: Sequence[Package]) -> Path:
        """Return one tar of `packages`, which have to be here; the same packages make the same bytes."""
        digest = hashlib.sha256("\n".join(f"{package.sha256} {package.file}" for package in packages).encode())
        archive = self._archives / f"{digest.hexdigest()}.tar"
        if archive.exists():
            os.utime(archive)
            return archive
        partial = archive.with_suffix(".partial")
        with tarfile.open(partial, "w", format=tarfile.GNU_FORMAT) as tar:
            for package in packages:
                entry = tarfile.TarInfo(package.file)
                entry.size = package.size_bytes
                with (self._packages / package.sha256).open("rb") as file:
                    tar.addfile(entry, file)
        partial.replace(archive)
        forget(self._archives, KEPT_ARCHIVES)
        return archive


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def forget(folder: Path, keep: int) -> None:
    """Remove all but the `keep` entries of `folder` that were used last."""
    entries = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in entries[keep:]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
