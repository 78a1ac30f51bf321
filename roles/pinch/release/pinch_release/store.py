"""The store of built releases: made once for each recipe, shared by every run on this controller."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from .archive import write_archive
from .errors import ReleaseError
from .recipe import BUILDER, Recipe
from .trim import load_rules, trim
from .wheels import install_wheels

KEEP = 24
"""Releases kept in the cache, three times what a fleet of every kind takes; older ones go when a new one is built."""
SHARED = "/usr/lib/python3/dist-packages"
"""Where Debian keeps the Python packages of the distribution."""


@dataclass(frozen=True)
class Release:
    """A built release, as Ansible reads it."""

    name: str
    version: str
    flavour: str
    archive: str
    sha256: str
    archive_bytes: int
    tree_bytes: int
    """Size of the unpacked tree without bytecode."""


def obtain(recipe: Recipe, cache: Path) -> tuple[Release, bool]:
    """Return the release of `recipe` from `cache`, and whether it had to be built.

    A build that dies leaves only a scratch folder, which the next build removes. Two runs at once
    wait for each other.

    Raises:
        ReleaseError: see the parts of the builder.
    """
    folder = cache / recipe.digest
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / "lock"):
            manifest = folder / "release.json"
            if manifest.exists():
                return Release(**json.loads(manifest.read_text("utf-8"))), False
            for leftover in cache.glob("partial-*"):
                shutil.rmtree(leftover)
            with tempfile.TemporaryDirectory(prefix="partial-", dir=cache) as scratch:
                release = _build(recipe, Path(scratch), folder)
            _forget_oldest(cache)
            return release, True
    except OSError as error:
        raise ReleaseError(
            f"the release cache {cache} cannot be used: {error}; free the disk or set PINCH_CACHE"
        ) from None


def lay_tree(recipe: Recipe, tree: Path) -> None:
    """Lay out the release of `recipe` in the new folder `tree`: `lib/` with service and wheels if any, `bin/pinch`.

    Raises:
        ReleaseError: the wheels cannot be had, or one is not for the target.
    """
    library = tree / "lib"
    library.mkdir(parents=True)
    if recipe.lock:
        install_wheels(recipe.lock, recipe.target, library)
        trim(library, load_rules())
        recipe.target.check(library)
    for name, source in recipe.sources():
        (library / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, library / name)
    _describe(recipe, library)
    launcher = tree / "bin" / "pinch"
    launcher.parent.mkdir()
    text = (BUILDER / "launcher.py").read_text("utf-8")
    launcher.write_text(text if recipe.lock else text.replace('SHARED = ""', f'SHARED = "{SHARED}"'), "utf-8")
    launcher.chmod(0o755)


def _build(recipe: Recipe, scratch: Path, folder: Path) -> Release:
    tree = scratch / "tree"
    lay_tree(recipe, tree)
    name, version = recipe.name, recipe.distribution[1]
    target = asdict(recipe.target)
    card = {"name": name, "version": version, "flavour": recipe.flavour, **target}
    (tree / "release.json").write_text(json.dumps(card) + "\n", "utf-8")
    finished = scratch / "finished"
    finished.mkdir()
    archive = finished / f"{name}.tar.zst"
    write_archive(tree, archive)
    release = Release(
        name=name,
        version=version,
        flavour=recipe.flavour,
        archive=str(folder / archive.name),
        sha256=hashlib.sha256(archive.read_bytes()).hexdigest(),
        archive_bytes=archive.stat().st_size,
        tree_bytes=sum(path.stat().st_size for path in tree.rglob("*") if path.is_file()),
    )
    (finished / "release.json").write_text(json.dumps(asdict(release), indent=1) + "\n", "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    finished.rename(folder)
    return release


def _describe(recipe: Recipe, library: Path) -> None:
    name, version = recipe.distribution
    metadata = library / f"{name}-{version}.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n", "utf-8")


def _forget_oldest(cache: Path) -> None:
    built = sorted(cache.glob("*/release.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for manifest in built[KEEP:]:
        shutil.rmtree(manifest.parent)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
