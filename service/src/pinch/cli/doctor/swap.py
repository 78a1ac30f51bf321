"""Swap: which mechanism, how large, and never two at once."""

from __future__ import annotations

from attrs import frozen

from pinch.cli.doctor.host import Finding, Host, Status
from pinch.cli.text import size
from pinch.tiers import KIBIBYTE

_MECHANISMS = {
    "rpi-swap": ("/etc/rpi/swap.conf",),
    "dphys-swapfile": ("/usr/sbin/dphys-swapfile", "/sbin/dphys-swapfile"),
    "zram-tools": ("/usr/sbin/zramswap",),
    "zram-generator": ("/etc/systemd/zram-generator.conf", "/usr/lib/systemd/zram-generator.conf"),
}
"""What sets swap up, and a file that says it is installed and configured."""
_SWITCHED_OFF = {
    "rpi-swap": ("/etc/rpi/swap.conf.d/90-pinch.conf", "Mechanism=none"),
    "zram-generator": ("/etc/systemd/zram-generator.conf.d/50-pinch.conf", "zram-size = 0"),
}
"""Where the role swap switches a tool off that stays installed, and by which words."""
_DPHYS_UNIT = "/etc/systemd/system/dphys-swapfile.service"
_ONE = "keep one of them: remove the other's package and reboot (the role swap does)"


@frozen
class Area:
    """A line of `/proc/swaps`."""

    name: str
    kind: str
    length: int
    """Bytes."""


def check(host: Host) -> list[Finding]:
    """Compare what is active with what is installed."""
    areas = _areas(host.read("/proc/swaps") or "")
    mechanisms = [
        name
        for name, files in _MECHANISMS.items()
        if any(host.path(file).exists() for file in files) and not _switched_off(host, name)
    ]
    if "rpi-swap" in mechanisms and "zram-generator" in mechanisms:
        # rpi-swap drives zram-generator; the two are one.
        mechanisms.remove("zram-generator")
    if len(mechanisms) > 1:
        return [Finding("swap", Status.FAIL, f"{' and '.join(mechanisms)} are both set up", _ONE)]
    kinds = sorted({area.kind for area in areas})
    if len(kinds) > 1:
        names = " and ".join(f"{area.name} ({size(area.length)})" for area in areas)
        return [Finding("swap", Status.WARN, f"two kinds are active: {names}", _ONE)]
    if not areas:
        return [_none(host)]
    total = sum(area.length for area in areas)
    made = f", set up by {mechanisms[0]}" if mechanisms else ""
    if kinds == ["zram"]:
        return [_zram(host, areas, total, made)]
    return [Finding("swap", Status.OK, f"{kinds[0]}, {size(total)}{made}")]


def _switched_off(host: Host, name: str) -> bool:
    if name == "dphys-swapfile":
        link = host.path(_DPHYS_UNIT)
        return link.is_symlink() and str(link.readlink()) == "/dev/null"
    file, words = _SWITCHED_OFF.get(name, ("", ""))
    return bool(file) and words in (host.read(file) or "")


def _none(host: Host) -> Finding:
    if host.tier.below_mb is None:
        return Finding("swap", Status.OK, f"none; tier {host.tier.name} does without")
    advice = "set up zram (the role swap does): MemoryHigh without swap can bring the unit to a standstill"
    return Finding("swap", Status.WARN, f"none, on a board of tier {host.tier.name}", advice)


def _zram(host: Host, areas: list[Area], total: int, made: str) -> Finding:
    if total > host.machine.mem_total:
        found = f"zram of {size(total)} on {size(host.machine.mem_total)} of RAM{made}"
        return Finding(
            "swap", Status.WARN, found, "make it at most as large as the RAM; a full one can freeze the board"
        )
    if any(_limit(host, area) == 0 for area in areas):
        found = f"zram, {size(total)}{made}, without a limit on the RAM it takes"
        return Finding(
            "swap",
            Status.WARN,
            found,
            "set mem_limit (the role swap does): zram counts in no unit's MemoryMax",
        )
    return Finding("swap", Status.OK, f"zram, {size(total)}{made}")


def _limit(host: Host, area: Area) -> int | None:
    # mem_limit itself can only be written; mm_stat shows it as the fourth number.
    numbers = (host.read(f"/sys/block/{area.name.rpartition('/')[2]}/mm_stat") or "").split()
    return int(numbers[3]) if len(numbers) > 3 else None


def _areas(text: str) -> list[Area]:
    areas = []
    for line in text.splitlines()[1:]:
        name, kind, kilobytes = line.split()[:3]
        is_zram = name.rpartition("/")[2].startswith("zram")
        areas.append(Area(name, "zram" if is_zram else kind, int(kilobytes) * KIBIBYTE))
    return areas
