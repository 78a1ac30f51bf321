"""QEMU's command line for a board."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from .boards import Board
from .definition import ACCOUNT_NAME
from .failure import ImageError

# QEMU's program and machine for an image's architecture. Debian's kernel for armhf cannot reach what lies above 4 GiB.
MACHINES = {"arm64": ("qemu-system-aarch64", "virt"), "armhf": ("qemu-system-arm", "virt,highmem=off")}
# Nor has it a driver for QEMU's configuration device, by which systemd finds its credentials elsewhere; systemd before
# release 253, on the other hand, takes none with newlines from the kernel's command line.
CREDENTIALS_ON_COMMAND_LINE = frozenset({"armhf"})
CREDENTIAL = "tmpfiles.extra"
# Bytes of translated code that QEMU keeps, in MiB: with less it translates the same code again and again.
TRANSLATION_MB = 512
# sun_path in unix(7), less its final NUL.
SOCKET_PATH_BYTES = 107
# The generator and the first modules left out serve a virtual socket, a screen and a radio that no emulated board has,
# the others the crypto instructions that no Pi before the fifth has; checking a signature is slow in emulation.
ABSENT = "drm,cfg80211,rfkill,aes_ce_blk,ghash_ce,polyval_ce,sha1_ce,sha2_ce,sha256_arm64,crct10dif_ce"
# What only the emulation needs, between a board's boot arguments and those of its card. psi=0: a Pi's kernel has
# pressure stall information built in and off, Debian's has it on; the psi=1 of a card comes later and wins.
KERNEL_ARGUMENTS = ("psi=0", "net.ifnames=0", "systemd.ssh_auto=no", f"module_blacklist={ABSENT}")


@dataclass(frozen=True)
class Wiring:
    """What one run of a board is connected to; `port` is where its ssh is reached on loopback."""

    architecture: str
    kernel: Path
    initramfs: Path
    disk: Path
    firmware: Path
    credentials: Path
    serial: Path
    qmp: Path
    port: int
    offline: bool


def command_line(board: Board, wiring: Wiring, processors: int) -> list[str]:
    """Return the command that runs the board in the foreground, on at most `processors`: those of this machine.

    Whoever runs it adds the kernel's command line.

    Each page that a board's kernel takes from a process stops all its processors at once. Where two of them share one
    of this machine's, that takes so long that the board stands still for want of memory in a way that no Pi does.

    The disks are `writeback`: what the board flushes is on this machine's disk when it is told so, what it does not
    flush may be lost when QEMU is killed, as it may with a card. Raises ImageError for a path QEMU cannot be given.
    """
    for path in (wiring.disk, wiring.firmware, wiring.credentials, wiring.serial, wiring.qmp):
        if "," in str(path):
            raise ImageError(f"QEMU takes no path with a comma, and this is one: {path}; choose another --state.")
    if len(str(wiring.qmp).encode()) > SOCKET_PATH_BYTES:
        raise ImageError(
            f"A socket's path has at most {SOCKET_PATH_BYTES} bytes: {wiring.qmp}; choose a shorter --state."
        )
    network = f"user,id=net,restrict={'on' if wiring.offline else 'off'},hostfwd=tcp:127.0.0.1:{wiring.port}-:22"
    disk = f"if=none,id=card,file={wiring.disk},format=qcow2,cache=writeback,discard=unmap"
    firmware = f"if=none,id=firmware,file={wiring.firmware},format=raw,cache=writeback"
    handed_over = f"name=opt/io.systemd.credentials/{CREDENTIAL},file={wiring.credentials}"
    program, machine = MACHINES[wiring.architecture]
    return [
        program,
        "-nodefaults",
        *("-M", machine, "-cpu", board.cpu, "-smp", str(min(board.cpus, processors)), "-m", str(board.memory_mb)),
        *("-accel", f"tcg,thread=multi,tb-size={TRANSLATION_MB}"),
        *("-kernel", str(wiring.kernel), "-initrd", str(wiring.initramfs)),
        *("-drive", disk, "-device", "virtio-blk-pci,drive=card"),
        *("-drive", firmware, "-device", "virtio-blk-pci,drive=firmware"),
        # No boot ROM: the kernel is handed over.
        *("-netdev", network, "-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci"),
        *([] if wiring.architecture in CREDENTIALS_ON_COMMAND_LINE else ["-fw_cfg", handed_over]),
        *("-display", "none", "-serial", f"file:{wiring.serial}"),
        *("-qmp", f"unix:{wiring.qmp},server=on,wait=off"),
    ]


def credential_words(architecture: str, credential: str) -> list[str]:
    """Return the words of the kernel's command line that hand the credential over, if nothing else does."""
    if architecture not in CREDENTIALS_ON_COMMAND_LINE:
        return []
    return [f"systemd.set_credential_binary={CREDENTIAL}:{base64.b64encode(credential.encode()).decode()}"]


def key_credential(user: str, public_key: str) -> str:
    """Return the tmpfiles.d lines that put the key into the user's home at every boot.

    They reach systemd as a credential, so one and the same disk is entered by whoever boots it and holds nobody's key.
    """
    if not ACCOUNT_NAME.fullmatch(user):
        raise ImageError(f"{user!r} is no account name; expected one such as 'pi'.")
    home = f"/home/{user}/.ssh"
    key = public_key.strip().replace("%", "%%")
    return f"d {home} 0700 {user} {user} -\nf+ {home}/authorized_keys 0600 {user} {user} - {key}\n"
