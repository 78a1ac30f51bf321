"""The processors that images are made for, as Debian names them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One of Debian's: `elf` is e_machine of its programs (ELF specification), `interpreter` binfmt_misc's for them."""

    elf: bytes
    interpreter: str


ARCHITECTURES = {
    "arm64": Architecture(elf=b"\xb7\x00", interpreter="qemu-aarch64"),
    "armhf": Architecture(elf=b"\x28\x00", interpreter="qemu-arm"),
}
