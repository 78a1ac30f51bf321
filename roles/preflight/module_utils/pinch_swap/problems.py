"""What stands against a change of swap, in sentences a person can act on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .layout import MEBIBYTE
from .state import Area, State
from .wanted import Wish

FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "f2fs")
"""Where the kernel swaps to a file that is simply allocated."""
SMALLEST_MB = 16
"""A smaller area helps nobody."""
MAKERS = {
    "pinch": "the swap file of these roles",
    "zram-generator": "zram-generator",
    "rpi-swap": "rpi-swap",
    "dphys": "dphys-swapfile",
    "zram-tools": "zram-tools",
    "fstab": "/etc/fstab",
    "unit": "a unit of its own",
    "unknown": "hand, or a program these roles do not know",
}
REMEDIES = {
    "pinch": "run `sudo swapoff {what}`",
    "zram-generator": "remove it from the configuration and reboot",
    "rpi-swap": "put `[Main]` and `Mechanism=none` into /etc/rpi/swap.conf.d/99-none.conf and reboot",
    "dphys": "run `sudo systemctl disable --now dphys-swapfile.service`",
    "zram-tools": "run `sudo systemctl disable --now zramswap.service`",
    "fstab": "take the line out of /etc/fstab and run `sudo swapoff -a`",
    "unit": "run `sudo systemctl disable --now {what}`",
    "unknown": "stop what makes it and run `sudo swapoff {what}`",
}


def swap_refusals(state: State, wish: Wish) -> Iterator[str]:
    """Say what makes the wish impossible on a board in `state`; nothing must be changed then."""
    if not wish.ours:
        return
    yield from _two(state)
    yield from _others(state, wish)
    yield from _tools(state, wish)
    if wish.mechanism in {"file", "zswap"} and not wish.adopted:
        yield from _path(state, wish)
    if state.file.path and not wish.adopted:
        yield from _room(state, wish)
    if wish.mechanism != "none" and not wish.adopted and wish.size_mb < SMALLEST_MB:
        yield (
            f"swap of {wish.size_mb} MB was asked for, or is half of what is free; expected {SMALLEST_MB} MB at least. "
            "Raise swap_size_mb, free some of the card, or set swap_mechanism to zram or none"
        )
    if wish.limit_mb > wish.size_mb and wish.mechanism in {"zram", "zswap", "rpi-swap"}:
        yield (
            f"swap_limit_mb is {wish.limit_mb}, more than the {wish.size_mb} MB of swap it bounds; "
            "lower it, raise swap_size_mb, or leave it 0"
        )


def _two(state: State) -> Iterator[str]:
    if len(state.areas) > 1:
        names = " and ".join(f"{area.path} (by {MAKERS[area.maker]})" for area in state.areas)
        ways = "; or ".join(f"to leave {area.path}, {_remedy(area.maker, area.path)}" for area in state.areas)
        yield f"the board swaps to {names} at once; keep one of them and run again: {ways}"


def _others(state: State, wish: Wish) -> Iterator[str]:
    adopted = wish.file if wish.adopted else ""
    named = set()
    for area in state.areas if len(state.areas) == 1 else ():
        if not area.mechanism and area.path != adopted:
            named.add(area.maker)
            yield (
                f"the board swaps to {area.path}, set up by {MAKERS[area.maker]} and not by these roles, and "
                f"swap_mechanism asks for {wish.mechanism}; {_remedy(area.maker, area.path)}{_keep(area)}, "
                "then run again"
            )
    for maker, what in state.others:
        if maker not in named and what != adopted:
            yield (
                f"at its next boot the board would also swap by {MAKERS[maker]} ({what}); "
                f"{_remedy(maker, what)}, then run again"
            )


def _keep(area: Area) -> str:
    keeps = area.maker == "fstab" and area.kind == "file"
    return f", or set swap_mechanism to file and swap_file to {area.path} to keep it as it is" if keeps else ""


def _tools(state: State, wish: Wish) -> Iterator[str]:
    if wish.mechanism == "rpi-swap" and "rpi-swap" not in state.tools:
        yield (
            "swap_mechanism is rpi-swap, and this board has no rpi-swap; it comes with Raspberry Pi OS trixie, "
            "so set swap_mechanism to zram, zswap or file elsewhere"
        )
    if wish.mechanism == "dphys" and "dphys" not in state.tools:
        yield (
            "swap_mechanism is dphys, and this board has no dphys-swapfile; run `sudo apt install dphys-swapfile` on "
            "it, or set swap_mechanism to file, which needs no package"
        )
    if wish.mechanism == "zswap" and not state.zswap.present:
        yield (
            "swap_mechanism is zswap, and the kernel of this board was built without it (no /sys/module/zswap); "
            "set swap_mechanism to zram or file"
        )


def _path(state: State, wish: Wish) -> Iterator[str]:
    file = state.file
    if not re.fullmatch(r"(/[A-Za-z0-9][A-Za-z0-9._-]*)+", wish.file):
        yield (
            f"swap_file is {wish.file}; expected a full path of letters, digits, dots, dashes and underscores, "
            "such as /var/swap.pinch"
        )
        return
    if not file.folder:
        yield f"swap_file is {wish.file}, and that folder does not exist; make it or choose another"
    if file.filesystem and file.filesystem not in FILESYSTEMS:
        yield (
            f"swap_file is {wish.file}, which lies on {file.filesystem}; expected one of {', '.join(FILESYSTEMS)}, "
            "so choose a path on the card"
        )
    if file.exists and not file.swap_page_bytes:
        yield f"swap_file is {wish.file}, and what is there is no swap file; it is left alone, so choose another path"


def _room(state: State, wish: Wish) -> Iterator[str]:
    file = state.file
    room_mb = (file.free_bytes + (file.size_bytes if file.swap_page_bytes else 0)) // MEBIBYTE
    if wish.size_mb > room_mb // 2:
        yield (
            f"the swap file would take {wish.size_mb} MB of the {room_mb} MB free for it at {file.path}; expected half "
            "of that at most. Lower swap_size_mb, free some, or use a larger card"
        )


def _remedy(maker: str, what: str) -> str:
    return REMEDIES[maker].format(what=what)
