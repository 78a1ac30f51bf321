"""The kernel's command line: whether the words that a board needs could be put there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pinch_cmdline import WORD, CmdlineError, edit

MEMORY = "cgroup_enable=memory"
"""Undoes the `cgroup_disable=memory` of a Raspberry Pi's device tree."""
ROOM_BYTES = 64 * 1024
"""Free on the boot partition for the new file and the backup of the old one, each a cluster of FAT at most."""


def boot_problems(board: Mapping[str, Any], *, psi: bool) -> Iterator[str]:
    """Say what keeps words that the running kernel lacks off the command line of `board`.

    Args:
        board: what the module preflight_board returned.
        psi: whether figures of memory pressure are wanted.
    """
    boot, live = board["boot"], board["cgroup"]
    words = [*([] if live["memory"] else [MEMORY]), *(["psi=1"] if psi and not live["psi"] else [])]
    if not words:
        return
    lost = "the kernel runs without the memory controller, so limits would be ignored, and "
    if not live["memory"] and MEMORY in WORD.findall(boot["booted"]):
        yield f"{lost}it was booted with {MEMORY} already; install a kernel that has CONFIG_MEMCG"
    if not boot["path"]:
        if not live["memory"]:
            yield (
                f"{lost}neither /boot/firmware/cmdline.txt nor /boot/cmdline.txt exists; add {MEMORY} to the command "
                "line where the boot loader of this board keeps it, reboot, and run again"
            )
        return
    try:
        changed = edit(boot["text"], words, ["cgroup_disable=memory", "psi=0"]) != boot["text"]
    except CmdlineError as error:
        yield f"{boot['path']} {error}; it has to get {' '.join(words)}, so repair it by hand and run again"
        return
    if changed and boot["read_only"]:
        yield (
            f"{boot['path']} lies on a file system that is mounted read-only, and has to get {' '.join(words)}; "
            "run `sudo mount -o remount,rw` with its folder, or check the card where that fails"
        )
    elif changed and boot["free_bytes"] < ROOM_BYTES:
        yield (
            f"the file system of {boot['path']} has {boot['free_bytes'] // 1024} KiB free; expected "
            f"{ROOM_BYTES // 1024} KiB. Remove old kernels from it"
        )
