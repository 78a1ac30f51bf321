"""An image built once and kept by the hash of what it is made from.

Half an image is never taken for a whole one: it is made in a folder of another name and renamed when all of it is
there. Of two builders of the same image one waits for the other.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from . import bootstrap, disk, finish, host
from .chroot import Chroot
from .definition import Definition, Toolbox, load_definition, load_toolbox
from .derivation import definition_files
from .failure import ImageError

HERE = Path(__file__).resolve().parent.parent
# What decides the content of an image, beside the definition itself.
BUILDER = (
    *("architecture.py", "bootstrap.py", "build.py", "chroot.py", "definition.py", "derivation.py", "disk.py"),
    *("finish.py", "table.py"),
)
# Folders of a build while it runs.
TREE, TOOLBOX = "tree", "toolbox"
# Tree, archives, disk and toolbox of one build, and some room.
NEEDED_BYTES = 4 * 2**30


def image_key(definition: Path, toolbox: Path) -> str:
    """Return the content hash of an image: its definition's files, its toolbox and the code that makes it."""
    digest = hashlib.sha256()
    for path in (*definition_files(definition), toolbox, *(Path(__file__).parent / name for name in BUILDER)):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def image_folder(name: str) -> Path:
    """Return where the image of that name is or will be; its files are there only when it is complete."""
    return host.cache_dir() / "image" / image_key(_definition_file(name), HERE / "toolbox.toml")


def archives_folder(name: str) -> Path:
    """Return where the packages of the last build of that image are kept, so that the next downloads what is new."""
    return host.cache_dir() / "image" / "archives" / name


def ensure_image(name: str, rebuild: bool = False) -> Path:
    """Return the folder of the finished image, building it first if it is not there. Raises ImageError."""
    folder = image_folder(name)
    if (folder / disk.MANIFEST).exists() and not rebuild:
        return folder
    definition, toolbox = load_definition(_definition_file(name)), load_toolbox(HERE / "toolbox.toml")
    host.need_root()
    host.need_tools("mmdebstrap", "apt-get", "dpkg")
    host.need_interpreter(definition.architecture)
    host.need_space(folder.parent, NEEDED_BYTES)
    with _locked(folder.with_suffix(".lock")):
        if (folder / disk.MANIFEST).exists() and not rebuild:
            return folder
        partial = folder.with_suffix(".partial")
        # Left by a builder that was killed: it is gone, for we hold its lock.
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        try:
            _build(definition, toolbox, folder.name, partial)
        except OSError as error:
            raise ImageError(f"Building the image failed: {error}; see {partial / 'build.log'}.") from error
        finally:
            # Of a build that failed only the log is kept: the rest is a gigabyte.
            for name_of_part in (TREE, TOOLBOX):
                shutil.rmtree(partial / name_of_part, ignore_errors=True)
        # A rebuilt image replaces one that boards may be running on: their open file stays theirs.
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    return folder


def _build(definition: Definition, toolbox: Toolbox, key: str, work: Path) -> None:
    started = time.monotonic()
    tree, log = work / TREE, work / "build.log"
    native = host.native_architecture()
    kept = archives_folder(definition.name)
    kept.mkdir(parents=True, exist_ok=True)
    chroot = Chroot(tree, work / TOOLBOX, native, log)
    _step("toolbox", lambda: bootstrap.make_toolbox(definition, toolbox, native, chroot.toolbox, log))
    _step("packages", lambda: bootstrap.download_packages(definition, tree, kept, log))
    used = {path.name for path in (tree / bootstrap.ARCHIVES).glob("*.deb")}
    chroot.open_for_native()
    _step("unpack", lambda: bootstrap.unpack(chroot, definition))
    _step("configure", lambda: bootstrap.configure(chroot, toolbox))
    programs = chroot.native_programs(but=toolbox.emulated)
    _step("files", lambda: finish.write_files(chroot, definition))
    _step("accounts", lambda: finish.make_accounts(chroot, definition, programs))
    _step("units", lambda: finish.set_units(chroot, definition, programs))
    _step("deferred", lambda: finish.do_deferred(chroot, toolbox, programs))
    finish.clean(chroot)
    _step("check", lambda: finish.check(chroot, definition, programs))
    chroot.close_for_native()
    finish.mark_updated(tree)
    packages = bootstrap.package_versions(tree)
    _step("firmware", lambda: disk.write_firmware(chroot, definition, key, work))
    _step("disk", lambda: disk.write_disk(chroot, definition, key, work))
    for archive in kept.glob("*.deb"):
        if archive.name not in used:
            archive.unlink()
    disk.write_manifest(work, definition, key, packages, time.monotonic() - started)


def _step(name: str, work: Callable[[], None]) -> None:
    started = time.monotonic()
    work()
    sys.stderr.write(f"image: {name} {time.monotonic() - started:.1f} s\n")
    sys.stderr.flush()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.stderr.write(f"image: another builder is at it, waiting for it ({path})\n")
            fcntl.flock(file, fcntl.LOCK_EX)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _definition_file(name: str) -> Path:
    path = HERE / f"{name}.toml"
    known = sorted(other.stem for other in HERE.glob("*.toml") if other.stem not in {"toolbox", "boards"})
    if name not in known:
        raise ImageError(f"There is no image {name!r}; known: {', '.join(known)}.")
    return path
