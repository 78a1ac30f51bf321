"""Running programs inside the image's tree, with native programs standing in for emulated ones.

Every command gets a mount namespace of its own: whatever it mounts vanishes with it, however it ends, and nothing it
does to its mounts reaches the machine. The native programs come from the toolbox, are of the same release as the
image's own, and are bound over them file by file, together with their loader and libraries.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from .failure import ImageError

# From linux/sched.h and linux/mount.h.
CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 0x40000
ELF_MAGIC = b"\x7fELF"
# The machine whose programs stand in for the image's, and where they look for their loader and their libraries. An Arm
# machine's own would lie where the image's do; it runs those fast enough.
STAND_IN, LOADER_DIR, LIBRARY_DIR = "amd64", "usr/lib64", "usr/lib/x86_64-linux-gnu"
# Where the native libraries stand when /usr/lib must not show them; in the tmpfs that is /run.
ASIDE = "run/native"
ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL": "C.UTF-8",
    "HOME": "/root",
    "TERM": "dumb",
    "DEBIAN_FRONTEND": "noninteractive",
    "DEBCONF_NONINTERACTIVE_SEEN": "true",
}


@dataclass(frozen=True)
class Chroot:
    """The image's tree and the toolbox's, both complete enough to run something in them."""

    root: Path
    toolbox: Path
    native: str
    log: Path

    def run(
        self,
        command: Sequence[str],
        programs: Iterable[str] = (),
        idle: Iterable[str] = (),
        aside: bool = False,
    ) -> None:
        """Run `command` in the image's tree with `programs` (paths in the tree) native and `idle` ones doing nothing.

        `aside` keeps the native libraries out of /usr/lib, for a command that copies what it finds there.
        Raises ImageError with the end of the output if the command fails.
        """
        stand_ins = self._stand_ins(programs, idle)
        environment = ENVIRONMENT | ({"LD_LIBRARY_PATH": f"/{ASIDE}"} if aside else {})

        def enter() -> None:
            _own_mounts()
            _kernel_file_systems(self.root)
            if self.native == STAND_IN:
                libraries = ASIDE if aside else LIBRARY_DIR
                (self.root / libraries).mkdir(exist_ok=True)
                _mount(self.toolbox / LIBRARY_DIR, self.root / libraries, None, MS_BIND)
                # The loader lies among the libraries; programs know it by a link elsewhere.
                _mount(Path("tmpfs"), self.root / LOADER_DIR, "tmpfs", 0)
                for link in (self.toolbox / LOADER_DIR).iterdir():
                    (self.root / LOADER_DIR / link.name).symlink_to(f"/{libraries}/{link.name}")
            for source, target in stand_ins:
                _mount(source, target, None, MS_BIND)
            os.chroot(self.root)
            os.chdir("/")

        self._execute(command, enter, environment)

    def run_in_toolbox(self, command: Sequence[str], output: Path | None = None) -> None:
        """Run a native `command` in the toolbox, which sees the image's tree as /mnt.

        With `output`, that folder is /srv and the tree is as it will be on the disk, without kernel file systems in it.
        """

        def enter() -> None:
            _own_mounts()
            _kernel_file_systems(self.toolbox)
            _mount(self.root, self.toolbox / "mnt", None, MS_BIND)
            if output is None:
                _kernel_file_systems(self.toolbox / "mnt")
            else:
                _mount(output, self.toolbox / "srv", None, MS_BIND)
            os.chroot(self.toolbox)
            os.chdir("/")

        self._execute(command, enter, ENVIRONMENT)

    def native_programs(self, but: Iterable[str] = ()) -> list[str]:
        """Return the paths of the image's programs that the toolbox has too, without those named in `but`."""
        left_out = set(but)
        found = []
        for folder in ("usr/bin", "usr/sbin"):
            for program in sorted((self.toolbox / folder).iterdir()):
                path = f"/{folder}/{program.name}"
                if program.name not in left_out and _is_elf(program) and _is_elf(self.root / folder / program.name):
                    found.append(path)
        return found

    def open_for_native(self) -> None:
        """Make the places in the image's tree where the native loader and libraries are bound."""
        if self.native == STAND_IN:
            for folder in (LOADER_DIR, LIBRARY_DIR):
                (self.root / folder).mkdir(parents=True, exist_ok=True)
            link = self.root / "lib64"
            if not link.is_symlink():
                link.symlink_to(LOADER_DIR)

    def close_for_native(self) -> None:
        """Take those places away again; a tree with something left in them is refused."""
        if self.native == STAND_IN:
            (self.root / "lib64").unlink()
            for folder in (LOADER_DIR, LIBRARY_DIR):
                (self.root / folder).rmdir()

    def _stand_ins(self, programs: Iterable[str], idle: Iterable[str]) -> list[tuple[Path, Path]]:
        pairs = []
        if self.native == STAND_IN:
            pairs += [(self.toolbox / path[1:], self.root / path[1:]) for path in programs]
        for path in idle:
            # An empty Python module does nothing, and so does `true`; a shell script would start a shell.
            nothing = Path("/dev/null") if path.endswith(".py") else self.toolbox / "usr/bin/true"
            pairs.append((nothing, self.root / path[1:]))
        return pairs

    def _execute(self, command: Sequence[str], enter: Callable[[], None], environment: Mapping[str, str]) -> None:
        with self.log.open("ab") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            try:
                # Safe here: this program has one thread.
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=environment,
                    preexec_fn=enter,
                    check=False,
                ).returncode
            except subprocess.SubprocessError:
                raise ImageError(
                    "This machine lets even root have no mounts of its own, as in a container without CAP_SYS_ADMIN: "
                    "build the image on the machine itself or in a virtual one."
                ) from None
        if done:
            end = self.log.read_text(encoding="utf-8", errors="replace").splitlines()[-25:]
            sys.stderr.write("\n".join(end) + "\n")
            raise ImageError(
                f"{command[0]} ended with status {done} while the image was made; its last words are above, "
                f"all of them in {self.log}."
            )


def _own_mounts() -> None:
    libc = _libc()
    if libc.unshare(CLONE_NEWNS):
        _give_up("a mount namespace of its own")
    _mount(Path("none"), Path("/"), None, MS_REC | MS_PRIVATE)


def _kernel_file_systems(tree: Path) -> None:
    _mount(Path("proc"), tree / "proc", "proc", 0)
    _mount(Path("/sys"), tree / "sys", None, MS_BIND | MS_REC)
    _mount(Path("/dev"), tree / "dev", None, MS_BIND | MS_REC)
    _mount(Path("tmpfs"), tree / "run", "tmpfs", 0)
    _mount(Path("tmpfs"), tree / "tmp", "tmpfs", 0)


def _mount(source: Path, target: Path, kind: str | None, flags: int) -> None:
    if _libc().mount(str(source).encode(), str(target).encode(), kind and kind.encode(), flags, None):
        _give_up(f"{source} mounted on {target}")


def _give_up(wish: str) -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, f"no {wish}: {os.strerror(number)}")


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == ELF_MAGIC
