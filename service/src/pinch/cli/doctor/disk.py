"""The disk under the store: there, writable, and with room."""

from __future__ import annotations

from pinch.cli.doctor.host import Finding, Host, Status
from pinch.cli.text import size
from pinch.tiers import MEBIBYTE

_FAIL_BYTES = 64 * MEBIBYTE
"""SQLite needs room for its log and for a checkpoint; below this, writes are about to fail."""
_WARN_BYTES = 512 * MEBIBYTE


def check(host: Host) -> list[Finding]:
    """Look at the file system of the state folder."""
    folder = host.path(host.settings.state_dir)
    exists = folder.is_dir()
    parent = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    try:
        volume = host.volume(parent)
    except OSError as error:
        return [
            Finding(
                "disk",
                Status.WARN,
                f"{folder} cannot be examined: {error.strerror}",
                "run `sudo pinch doctor`",
            )
        ]
    if volume.read_only:
        advice = "look at `dmesg`: a card that fails is mounted read-only; save a snapshot and replace it"
        return [Finding("disk", Status.FAIL, f"the file system of {folder} is read-only", advice)]
    found = f"{size(volume.free_bytes)} of {size(volume.total_bytes)} free for {folder}"
    if volume.free_bytes < _WARN_BYTES:
        status = Status.FAIL if volume.free_bytes < _FAIL_BYTES else Status.WARN
        return [Finding("disk", status, found, "free some space, or move state_dir to a larger disk")]
    if not exists:
        return [Finding("disk", Status.WARN, f"{folder} does not exist yet; {found}", "the first start makes it")]
    return [Finding("disk", Status.OK, found)]
