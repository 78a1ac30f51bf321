"""Pressure stall information: the signal that says memory is short before it is gone."""

from __future__ import annotations

from pinch.cli.doctor.host import Finding, Host, Status

_ENABLE = "add psi=1 to the kernel's command line and reboot; until then memory.current is watched instead"


def check(host: Host) -> list[Finding]:
    """Read the host's memory pressure; a kernel that has it switched off refuses to say."""
    text = host.read("/proc/pressure/memory")
    if text is None:
        return [Finding("psi", Status.WARN, "the kernel gives no memory pressure", _ENABLE)]
    fields = dict(part.split("=") for line in text.splitlines() if line.startswith("full") for part in line.split()[1:])
    share = float(fields.get("avg60", 0))
    if share >= 1:
        advice = "find what uses the memory (`pinch budget`, `systemd-cgtop -m`), or pin a smaller tier"
        return [
            Finding(
                "psi",
                Status.WARN,
                f"everything stood still {share:.2f} % of the last minute for memory",
                advice,
            )
        ]
    return [Finding("psi", Status.OK, f"available; full avg60 {share:.2f} %")]
