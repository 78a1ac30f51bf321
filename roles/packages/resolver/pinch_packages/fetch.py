"""Fetching: from the names of packages that a board lacks to one archive that it can install."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from .board import BoardState
from .cache import PackageCache, forget, sha256_of
from .errors import PackagesError
from .root import AptRoot

FRESH_S = 1800
"""Seconds that package lists are used for without asking again: a hundred boards of one kind ask once."""
KEPT_LISTS = 6
"""Kinds of boards whose package lists are kept."""


class Fetched(NamedTuple):
    """Packages for a board, as Ansible reads them."""

    archive: str
    """Tar of the package files; empty where nothing was to be fetched but the plan."""
    sha256: str
    packages: list[str]
    """Name and version of each, dependencies among them."""
    size_bytes: int
    unanswered: list[str]
    """apt's words about sources that did not answer; what came is from the others."""


def fetch(
    state: BoardState, names: Sequence[str], cache: Path, *, mirror: str | None = None, dry_run: bool = False
) -> Fetched:
    """Return the packages that a board in `state` has to install for `names`.

    Two runs at once wait for each other. Sources that do not answer are left out, and named; the plan is made with the
    lists that there are, so nothing comes from anywhere but the sources given.

    Raises:
        PackagesError: a name is unknown, nothing answers, a file is not what the lists say, or the disk is full.
    """
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock"), tempfile.TemporaryDirectory(prefix="root-", dir=cache) as scratch:
            lists = cache / "lists" / state.archive_digest
            root = AptRoot(Path(scratch), lists, state, mirror)
            return _fetch(root, PackageCache(cache), lists, names, dry_run=dry_run)
    except OSError as error:
        raise PackagesError(
            f"the package cache {cache} cannot be used: {error.strerror}; free the disk or set PINCH_CACHE"
        ) from None


def _fetch(root: AptRoot, cache: PackageCache, lists: Path, names: Sequence[str], *, dry_run: bool) -> Fetched:
    unanswered = [] if _fresh(lists) else _update(root, lists)
    try:
        packages = root.plan(names)
    except PackagesError as error:
        raise PackagesError(_no_plan(names, str(error), unanswered)) from None
    size = sum(package.size_bytes for package in packages)
    titles = [package.title for package in packages]
    if dry_run or not packages:
        return Fetched("", "", titles, size, unanswered)
    missing = cache.lend(packages, root.archives)
    if missing:
        complaint = root.download(names)
        if complaint:
            (lists / "fresh").unlink(missing_ok=True)
            raise PackagesError(
                f"the packages {', '.join(package.title for package in missing)} could not be fetched; check network "
                f"and disk of the controller, and run again. apt says: {complaint}"
            )
        cache.take(missing, root.archives)
    archive = cache.pack(packages)
    return Fetched(str(archive), sha256_of(archive), titles, size, unanswered)


def _update(root: AptRoot, lists: Path) -> list[str]:
    unanswered = root.update()
    if not unanswered:
        (lists / "fresh").touch()
    os.utime(lists)
    forget(lists.parent, KEPT_LISTS)
    return unanswered


def _fresh(lists: Path) -> bool:
    stamp = lists / "fresh"
    return stamp.exists() and 0 <= time.time() - stamp.stat().st_mtime < FRESH_S


def _no_plan(names: Sequence[str], said: str, unanswered: Sequence[str]) -> str:
    wanted = " ".join(names)
    if unanswered:
        return (
            f"the board lacks {wanted}, and sources that its apt names did not answer the controller: "
            f"{'; '.join(unanswered)}. Check the network, name a mirror of Debian in PINCH_DEBIAN_MIRROR or sources "
            "that answer in packages_sources, or set packages_source to board"
        )
    return (
        f"the board lacks {wanted}, and the controller's apt finds no way to install that there: {said}. Run "
        "`sudo apt install` with these names on the board to see more"
    )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
