"""The memory controller and the limits of the service's own unit, as the kernel has them."""

from __future__ import annotations

from pinch.cli.doctor.host import UNIT, Finding, Host, Status
from pinch.tiers import MEBIBYTE

CONTROLLERS = "/sys/fs/cgroup/cgroup.controllers"
UNIT_FOLDER = f"/sys/fs/cgroup/system.slice/{UNIT}"
_ENABLE = "add cgroup_enable=memory to the kernel's command line (the role memory_cgroup does) and reboot"


def check(host: Host) -> list[Finding]:
    """Look at the controller, then at the unit."""
    # /proc/cgroups does not tell: kernels without the first version's code leave memory out there.
    controllers = host.read(CONTROLLERS)
    if controllers is None or "memory" not in controllers.split():
        found = "no cgroup v2 here" if controllers is None else "the kernel's memory controller is off"
        # Where no unit runs the service, nobody was promised a limit.
        status = Status.FAIL if host.unit_installed else Status.WARN
        return [Finding("cgroup", status, f"{found}: MemoryMax is silently ignored", _ENABLE)]
    return [Finding("cgroup", Status.OK, "cgroup v2 with the memory controller"), *_unit(host)]


def _unit(host: Host) -> list[Finding]:
    limits = {name: host.read(f"{UNIT_FOLDER}/memory.{name}") for name in ("high", "max")}
    if limits["max"] is None:
        if not host.unit_installed:
            return [
                Finding(
                    "limits",
                    Status.WARN,
                    f"{UNIT} is not installed: no limit is enforced here",
                    "run site.yml",
                )
            ]
        advice = f"run `systemctl start {UNIT}`, then `journalctl -u {UNIT}` if it stays down"
        return [Finding("limits", Status.WARN, f"{UNIT} is not running, so its limits cannot be read", advice)]
    expected = {"high": host.tier.memory_high_mb, "max": host.tier.memory_max_mb}
    for name, text in limits.items():
        label = f"Memory{name.capitalize()}"
        value = (text or "max").strip()
        if value == "max":
            advice = f"restore {label} with the role pinch (`ansible-playbook site.yml --tags pinch`)"
            return [Finding("limits", Status.FAIL, f"{UNIT} has no {label}: nothing bounds it", advice)]
        if int(value) != expected[name] * MEBIBYTE:
            found = f"{label} is {int(value) // MEBIBYTE} MB; tier {host.tier.name} says {expected[name]} MB"
            return [
                Finding(
                    "limits",
                    Status.WARN,
                    found,
                    "run the role pinch again, or keep it if you set it yourself",
                )
            ]
    found = f"MemoryHigh {expected['high']} MB, MemoryMax {expected['max']} MB, as tier {host.tier.name} says"
    return [Finding("limits", Status.OK, found), *_killed(host)]


def _killed(host: Host) -> list[Finding]:
    events = dict(line.split() for line in (host.read(f"{UNIT_FOLDER}/memory.events") or "").splitlines())
    kills = int(events.get("oom_kill", 0))
    if not kills:
        return []
    advice = f"look at `journalctl -u {UNIT}` and `pinch budget`; a smaller tier may be due"
    return [
        Finding(
            "kills",
            Status.WARN,
            f"the kernel killed in {UNIT} for memory {kills} times since it started",
            advice,
        )
    ]
