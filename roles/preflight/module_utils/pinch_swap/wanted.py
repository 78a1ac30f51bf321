"""What is wanted of a board's swap, and the files that make it so at every boot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from . import layout
from .layout import BLOCK, DEFERRED, MARK, MEBIBYTE, RPI_FILE
from .makers import dphys_file, rpi_file
from .state import State

CONDITION = f"ConditionPathExists=!/{DEFERRED}\n"


class Wish(NamedTuple):
    """How a board is to swap."""

    mechanism: str
    size_mb: int = 0
    limit_mb: int = 0
    """RAM that what is swapped out may take: zram's limit, zswap's pool; 0 where the mechanism takes none."""
    file: str = ""
    """The swap file; empty where the mechanism has none or chooses its own."""
    algorithm: str = ""
    """Compression; empty takes the kernel's default."""
    ours: bool = True
    """Whether our files say so; False gives the board back to its own configuration."""
    adopted: bool = False
    """Whether the file is the owner's, from `/etc/fstab`, and is left as it is."""


class Link(NamedTuple):
    """A symbolic link in the place of a file."""

    target: str


def percent_of(wish: Wish, memory_bytes: int) -> int:
    """Return the part of the RAM that zswap's pool may take, in percent and rounded down to keep the bound."""
    return max(1, wish.limit_mb * MEBIBYTE * 100 // memory_bytes) if memory_bytes else 1


def wanted_files(wish: Wish, state: State, root: Path) -> dict[str, str | Link]:
    """Return text or link by path for every file that has to be there; ours that are missing here have to go."""
    if not wish.ours:
        masked = state.record is not None and state.record.dphys_masked
        return dphys_own(root) | ({layout.OUR_DPHYS_MASK: Link("/dev/null")} if masked else {})
    files: dict[str, str | Link] = {layout.OUR_ZSWAP: zswap_lines(wish, state.memory_bytes)}
    if wish.mechanism in {"zram", "rpi-swap"}:
        files[layout.OUR_ZRAM_SETUP] = (
            f"{MARK}\n# Debian bookworm's zram-generator knows no limit, and rpi-swap sets none.\n[Unit]\n{CONDITION}\n"
            f"[Service]\nExecStartPost=/bin/sh -c 'echo {wish.limit_mb}M > /sys/block/zram0/mem_limit'\n"
        )
        files[layout.OUR_ZRAM_SWAP] = f"{MARK}\n[Unit]\n{CONDITION}"
    zram = zram_lines(wish, state)
    if zram:
        files[layout.OUR_ZRAM] = zram
    if wish.mechanism == "rpi-swap" or "rpi-swap" in state.tools:
        files[layout.OUR_RPI] = rpi_lines(wish, dphys_file(root) if wish.mechanism == "dphys" else wish.file)
    if "dphys" in state.tools:
        files |= _dphys(wish, root)
    if wish.mechanism in {"file", "zswap"} and not wish.adopted:
        unit = layout.unit_of(wish.file)
        files[f"{layout.SYSTEM}/{unit}"] = (
            f"{MARK}\n[Unit]\nDescription=Swap file of the Pinch appliance\n"
            # Without its file, as after a run that died, the unit is passed over and does not fail.
            f"{CONDITION}ConditionPathExists={wish.file}\n\n"
            f"[Swap]\nWhat={wish.file}\nPriority=10\n\n[Install]\nWantedBy=swap.target\n"
        )
        files[f"{layout.WANTS}/{unit}"] = Link(f"../{unit}")
    return files


def zram_lines(wish: Wish, state: State) -> str:
    """Return our drop-in for zram-generator, empty where none is needed."""
    algorithm = f"compression-algorithm = {wish.algorithm}\n" if wish.algorithm else ""
    if wish.mechanism == "zram":
        # The first two take back what rpi-swap's package says to keep zram-generator still.
        return (
            f"{MARK}\n[zram0]\nhost-memory-limit = none\nfs-type = swap\n"
            f"zram-size = {wish.size_mb}\nswap-priority = 100\n{algorithm}"
        )
    if wish.mechanism == "rpi-swap":
        return f"{MARK}\n[zram0]\n{algorithm}" if algorithm else ""
    if "zram-generator" in state.tools:
        return (
            f"{MARK}\n# The board swaps by {wish.mechanism}; a device of size 0 is not made.\n[zram0]\nzram-size = 0\n"
        )
    return ""


def zswap_lines(wish: Wish, memory_bytes: int) -> str:
    """Return our lines for systemd-tmpfiles, which leaves out what the running kernel does not have."""
    values = zswap_values(wish, memory_bytes)
    lines = "".join(f"w /{layout.ZSWAP}/{name} - - - - {value}\n" for name, value in values.items())
    return f"{MARK}\n{lines}"


def zswap_values(wish: Wish, memory_bytes: int) -> dict[str, str]:
    """Return zswap's parameters by name."""
    if wish.mechanism != "zswap":
        return {"enabled": "N"}
    compressor = {"compressor": wish.algorithm} if wish.algorithm else {}
    return {**compressor, "max_pool_percent": str(percent_of(wish, memory_bytes)), "enabled": "Y"}


def rpi_lines(wish: Wish, taken: str) -> str:
    """Return our drop-in for rpi-swap; `taken` is the file that somebody else swaps to, empty where none does."""
    if wish.mechanism != "rpi-swap":
        # Switched off, it removes its file at each boot.
        elsewhere = f"\n[File]\nPath={RPI_FILE}.rpi-swap\n" if taken == RPI_FILE else ""
        return f"{MARK}\n[Main]\nMechanism=none\n{elsewhere}"
    size = f"FixedSizeMiB={wish.size_mb}\n"
    return f"{MARK}\n[Main]\nMechanism=zram+file\n\n[File]\n{size}\n[Zram]\n{size}"


def swap_file_of(mechanism: str, file: str, root: Path) -> str:
    """Return the file that a mechanism swaps to on the board below `root`, empty where it has none.

    Args:
        mechanism: one of `MECHANISMS`.
        file: the operator's choice, which vendors' tools do not ask for.
        root: folder that stands for `/`.
    """
    if mechanism in {"file", "zswap"}:
        return file
    return {"dphys": dphys_file, "rpi-swap": rpi_file}.get(mechanism, lambda _: "")(root)


def _dphys(wish: Wish, root: Path) -> dict[str, str | Link]:
    files = dphys_own(root)
    if wish.mechanism != "dphys":
        return {**files, layout.OUR_DPHYS_MASK: Link("/dev/null")}
    block = f"CONF_SWAPSIZE={wish.size_mb}\nCONF_MAXSWAP={wish.size_mb}\nCONF_MAXDISK_PCT=50\n"
    own = files.get(layout.DPHYS_CONF, "")
    files[layout.DPHYS_CONF] = f"{own}{BLOCK[0]}{block}{BLOCK[1]}"
    files[layout.OUR_DPHYS_UNIT] = f"{MARK}\n[Unit]\n{CONDITION}"
    unit = next((folder for folder in layout.UNIT_FOLDERS if (root / folder / layout.DPHYS_UNIT).exists()), "")
    if unit:
        files[dphys_wants()] = Link(f"/{unit}/{layout.DPHYS_UNIT}")
    return files


def dphys_own(root: Path) -> dict[str, str | Link]:
    """Return the configuration of dphys-swapfile as its owner has it; empty where there is none."""
    file = root / layout.DPHYS_CONF
    return {layout.DPHYS_CONF: without_block(file.read_text("utf-8"))} if file.exists() else {}


def dphys_wants() -> str:
    """Return the link that starts dphys-swapfile at boot."""
    return f"{layout.SYSTEM}/multi-user.target.wants/{layout.DPHYS_UNIT}"


def without_block(text: str) -> str:
    """Return a file's text without what we put at its end."""
    before, begin, rest = text.partition(BLOCK[0])
    return before + rest.partition(BLOCK[1])[2] if begin else text


def current_files(paths: Mapping[str, object], root: Path) -> dict[str, str | Link | None]:
    """Return what is at each of `paths` now; None where there is nothing."""
    found: dict[str, str | Link | None] = {}
    for path in paths:
        file = root / path
        if file.is_symlink():
            found[path] = Link(str(file.readlink()))
        else:
            found[path] = file.read_text("utf-8", "surrogateescape") if file.is_file() else None
    return found
