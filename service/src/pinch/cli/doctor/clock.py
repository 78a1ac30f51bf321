"""The clock: a board without a battery starts in the past, and times of memories depend on it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from pinch.cli.doctor.host import Finding, Host, Status

_EARLIEST_YEAR = 2025
"""This service did not exist before."""
_LATEST_YEAR = 2100
_SYNCHRONISED = "/run/systemd/timesync/synchronized"
_ADVICE = "connect to a network with NTP (`timedatectl set-ntp true`), or set it with `timedatectl set-time`"


def check(host: Host) -> list[Finding]:
    """Compare the clock with the calendar, with the store's files and with NTP."""
    now = host.now.astimezone(UTC)
    shown = now.strftime("%Y-%m-%d %H:%M UTC")
    if not _EARLIEST_YEAR <= now.year < _LATEST_YEAR:
        return [Finding("clock", Status.FAIL, f"it is {shown} here, which cannot be", _ADVICE)]
    newest = _newest(host)
    if newest is not None and newest - now > timedelta(days=1):
        found = f"it is {shown} here, but the store was written on {newest:%Y-%m-%d}: the clock went back"
        return [Finding("clock", Status.WARN, found, _ADVICE)]
    synchronised = host.path(_SYNCHRONISED).exists() or host.clock_synchronised()
    if synchronised is None:
        return [
            Finding(
                "clock",
                Status.WARN,
                f"{shown}; whether NTP keeps it cannot be told here",
                "compare it yourself",
            )
        ]
    if not synchronised:
        return [Finding("clock", Status.WARN, f"{shown}, kept by no NTP: after a power cut it may be wrong", _ADVICE)]
    return [Finding("clock", Status.OK, f"{shown}, kept by NTP")]


def _newest(host: Host) -> datetime | None:
    try:
        times = [path.stat().st_mtime for path in host.path(host.settings.state_dir).iterdir()]
    except OSError:
        return None
    return datetime.fromtimestamp(max(times), UTC) if times else None
