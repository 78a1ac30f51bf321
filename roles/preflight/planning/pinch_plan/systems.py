"""Systems: which of them the roles know, and what is wrong with a board's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

SYSTEMD = 252
"""Bookworm's. An older one has no `%d` for the credentials that hand over the tokens (250), and is tried nowhere."""
BITS = {"arm64": 64, "armhf": 32}
"""Width of a pointer by Debian's name of an architecture."""
MACHINES = {"arm64": ("aarch64",), "armhf": ("armv7l", "armv8l", "aarch64")}
"""What `uname -m` says under the kernels that run programs of an architecture."""


def known_system(board: Mapping[str, Any], systems: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the row of the table `systems` that describes what `board` runs, or None where none does.

    A 64-bit kernel under 32-bit programs is what Raspberry Pi OS puts on a Pi 4: dpkg knows what programs are.
    """
    rows = [row for row in systems if _same(row, board) and row["architecture"] == board["architecture"]]
    vendors = [row for row in rows if row["raspberry_pi_os"] == (board["system"]["raspberry_pi_os"] == "yes")]
    return next(iter(vendors or rows), None)


def system_problems(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with the system that the board runs."""
    system = board["system"]
    what = (
        f"this board runs {system['pretty_name']} for {board['architecture'] or 'an unknown architecture'} on "
        f"{board['machine']} with {board['userland_bits']}-bit programs"
    )
    row = known_system(board, wishes["systems"])
    if (reason := _refusal(board, wishes["refused"])) is not None:
        yield f"{what}; {reason}"
    elif row is None or not _fits(row["architecture"], board):
        names = ", ".join(known["name"] for known in wishes["systems"])
        yield f"{what}; expected one of: {names}. Write a card with one of them"
    elif board["python"] != row["python"]:
        yield (
            f"the board's /usr/bin/python3 is Python {board['python']}; expected {row['python']}, "
            f"which comes with {row['name']}. Give the package python3 its link /usr/bin/python3 back"
        )
    if not board["systemd"]:
        yield f"{what} and was not started by systemd; expected a booted system, not a container or a chroot"
    elif board["systemd"] < SYSTEMD:
        yield f"the board runs systemd {board['systemd']}; expected {SYSTEMD} or later. Write a card with trixie"
    if not board["cgroup"]["unified"]:
        yield (
            "the board uses the old cgroup hierarchy, under which the limits have no effect; remove "
            "systemd.unified_cgroup_hierarchy=0 from the kernel's command line and reboot"
        )
    if not board["root"]:
        yield "the board was reached without root rights; run with become: true and a user that may use sudo"


def _refusal(board: Mapping[str, Any], refused: Sequence[Mapping[str, Any]]) -> str | None:
    for row in refused:
        machines = tuple(row.get("machines", ()))
        if machines and not str(board["machine"]).startswith(machines):
            continue
        if "id" in row and not _same(row, board):
            continue
        if row.get("architecture", board["architecture"]) == board["architecture"]:
            return str(row["reason"])
    return None


def _fits(architecture: str, board: Mapping[str, Any]) -> bool:
    return board["userland_bits"] == BITS[architecture] and board["machine"] in MACHINES[architecture]


def _same(row: Mapping[str, Any], board: Mapping[str, Any]) -> bool:
    system = board["system"]
    return (row["id"], str(row["version"])) == (system["id"], system["version_id"])
