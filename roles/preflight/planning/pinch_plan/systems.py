"""Systems: which of them the roles know, and what is wrong with a board's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def system_problems(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[str]:
    """Say what is wrong with the system that the board runs."""
    system = board["system"]
    what = f"this board runs {system['pretty_name']} on {board['machine']} with {board['userland_bits']}-bit programs"
    matches = [s for s in wishes["systems"] if s["id"] == system["id"] and str(s["version"]) == system["version_id"]]
    if board["machine"] != "aarch64" or board["userland_bits"] != 64 or not matches:
        names = ", ".join(s["name"] for s in wishes["systems"])
        yield f"{what}; expected one of: {names}"
    elif board["python"] != str(matches[0]["python"]):
        yield (
            f"the board's /usr/bin/python3 is Python {board['python']}; expected {matches[0]['python']}, "
            f"which comes with {matches[0]['name']}"
        )
    if not board["systemd"]:
        yield f"{what} and was not started by systemd; expected a booted system, not a container or a chroot"
    if not board["cgroup"]["unified"]:
        yield (
            "the board uses the old cgroup hierarchy, under which the limits have no effect; remove "
            "systemd.unified_cgroup_hierarchy=0 from the kernel's command line and reboot"
        )
    if not board["root"]:
        yield "the board was reached without root rights; run with become: true and a user that may use sudo"
