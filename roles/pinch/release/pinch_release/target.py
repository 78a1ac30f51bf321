"""The target: which Python and which processor a release is for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .errors import ReleaseError

ELF_MAGIC = b"\x7fELF"
ELF_MACHINES = {"aarch64": 183, "x86_64": 62}
"""`e_machine` by architecture, from the ELF specification's register of machines."""
ELFCLASS64 = 2


@dataclass(frozen=True)
class Target:
    """A board's interpreter and architecture, as wheels name them."""

    python: str
    """Version such as `3.13`."""
    machine: str = "aarch64"
    """Architecture; boards are aarch64, and a release for the controller's own serves to try one out."""

    @property
    def platform(self) -> str:
        """Platform tag that the resolver takes: glibc 2.28 is older than any supported system's."""
        return f"{self.machine}-manylinux_2_28"

    def check(self, root: Path) -> int:
        """Return how many native libraries lie below `root`, all of them for this target.

        A wheel's file name does not prove what is inside it: one release of sqlite-vec carried a
        32-bit library in its aarch64 wheel.

        Raises:
            ReleaseError: a library is for another machine or another Python.
        """
        count = 0
        tag = "cpython-" + self.python.replace(".", "")
        for path in sorted(root.rglob("*")):
            if path.is_symlink() or not path.is_file():
                continue
            with path.open("rb") as file:
                head = file.read(20)
            if not head.startswith(ELF_MAGIC):
                continue
            count += 1
            machine = int.from_bytes(head[18:20], "little")
            if head[4] != ELFCLASS64 or machine != ELF_MACHINES[self.machine]:
                raise ReleaseError(
                    f"{path.relative_to(root)} is an ELF file of class {head[4]} for machine {machine}; expected "
                    f"64-bit {self.machine} ({ELF_MACHINES[self.machine]}). "
                    "Pin a release of that package whose wheel is right."
                )
            if ".cpython-" in path.name and tag not in path.name:
                raise ReleaseError(
                    f"{path.relative_to(root)} is built for another Python; expected {self.python}. "
                    "Delete the cached wheels and build again."
                )
        return count
