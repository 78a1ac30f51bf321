"""The target: which Python and which processor a release is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from .errors import ReleaseError

ELF_MAGIC = b"\x7fELF"
ELF_BITS = {1: 32, 2: 64}
"""Width of a program by the ELF header's class byte."""


class Architecture(NamedTuple):
    """A processor, as each of those who have to know it calls it."""

    machine: str
    """What the kernel and wheels call it."""
    elf_machine: int
    """`e_machine`, from the ELF specification's register of machines."""
    bits: int
    wheels: bool
    """Whether all of the service's dependencies have wheels for it."""


ARCHITECTURES = {
    "arm64": Architecture("aarch64", 183, 64, wheels=True),
    "armhf": Architecture("armv7l", 40, 32, wheels=False),
    "amd64": Architecture("x86_64", 62, 64, wheels=True),
}
"""By Debian's name. Boards are Arm; a release for the controller's own processor serves to try one out."""


@dataclass(frozen=True)
class Target:
    """A board's interpreter and architecture."""

    python: str
    """Version such as `3.13`."""
    architecture: str = "arm64"
    """Debian's name."""

    def __post_init__(self) -> None:
        if self.architecture not in ARCHITECTURES:
            raise ReleaseError(f"architecture is {self.architecture!r}; expected one of {', '.join(ARCHITECTURES)}")

    def __str__(self) -> str:
        return f"{self.python}-{self.architecture}"

    @property
    def processor(self) -> Architecture:
        """The architecture's other names."""
        return ARCHITECTURES[self.architecture]

    @property
    def platform(self) -> str:
        """Platform tag that the resolver takes: glibc 2.28 is older than any supported system's."""
        return f"{self.processor.machine}-manylinux_2_28"

    def check(self, root: Path) -> int:
        """Return how many native libraries lie below `root`, all of them for this target.

        A wheel's file name does not prove what is inside it: one release of sqlite-vec carried a
        32-bit library in its aarch64 wheel.

        Raises:
            ReleaseError: a library is for another machine or another Python.
        """
        count = 0
        processor, tag = self.processor, "cpython-" + self.python.replace(".", "")
        for path in sorted(root.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                head = file.read(20)
            if not head.startswith(ELF_MAGIC):
                continue
            count += 1
            bits, machine = ELF_BITS.get(head[4], 0), int.from_bytes(head[18:20], "little")
            if (bits, machine) != (processor.bits, processor.elf_machine):
                raise ReleaseError(
                    f"{path.relative_to(root)} is a {bits}-bit ELF file for machine {machine}; expected "
                    f"{processor.bits}-bit {processor.machine} ({processor.elf_machine}). "
                    "Pin a release of that package whose wheel is right."
                )
            if ".cpython-" in path.name and tag not in path.name:
                raise ReleaseError(
                    f"{path.relative_to(root)} is built for another Python; expected {self.python}. "
                    "Delete the cached wheels and build again."
                )
        return count
