"""The plan for a board: its tier, its limits, the sum of its memory, and why it would not work.

Runs on the controller. Tiers and settings are the service's own modules, so that Ansible and the
service cannot disagree about a board.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "service" / "src"))

from pinch.settings import SettingsError, load_settings
from pinch.tiers import MEBIBYTE, Machine, Tier, TierError, fits, load_tiers

OWNED_SETTINGS = {
    "tier": "set pinch_tier",
    "on_misfit": "set pinch_on_misfit",
    "state_dir": "it is /var/lib/pinch",
    "tokens_file": "it is /etc/pinch/tokens, handed over by systemd",
    "model_dir": "the role models installs the tier's model",
}
"""Settings that the roles decide, and what to do instead of setting them."""
OLDEST_SANE_CLOCK = 1_735_689_600
"""2025-01-01 UTC: no board can have been provisioned with this software earlier."""


def plan_board(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the roles will do to `board`, with the reasons against it under `problems`.

    Args:
        board: what the module preflight_board returned.
        wishes: `tier`, `on_misfit`, `limits` (high, max, swap; 0 takes the tier's), `other_memory_mb`, `swap`
            (mechanism, size_mb, limit_mb, file), `systems`, `packages`, `disk_mb`, `settings`, `now`, `clock_skew_s`.
    """
    problems = [*_system(board, wishes), *_clock(board, wishes), *_settings(wishes["settings"])]
    try:
        tier, draft, misfit = choose_tier(board, wishes)
    except TierError as error:
        return {"problems": [*problems, f"{error}; set pinch_tier to one of them"], "tier": ""}
    flavour = "semantic" if tier.semantic else "minimal"
    swap = draft["swap"]
    problems += [misfit] if misfit else []
    problems += [*_swap(board, swap), *_packages(board, wishes["packages"], flavour, swap["mechanism"])]
    problems += _disk(board, wishes["disk_mb"][flavour], swap)
    return {
        "problems": problems,
        "tier": tier.name,
        "nominal_mb": load_tiers().nominal(board["memory_bytes"]),
        "memory_mb": board["memory_bytes"] // MEBIBYTE,
        "flavour": flavour,
        "model": tier.model,
        "python": board["python"],
        "sysctl_sets": list(_names(tier.host.get("sysctl", []))),
        **draft,
    }


def choose_tier(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> tuple[Tier, dict[str, Any], str | None]:
    """Return the tier for `board`, its limits, swap and memory sum, and the reason where it does not fit.

    Raises:
        TierError: there is no tier of that name.
    """
    table = load_tiers()
    machine = Machine(board["memory_bytes"], board["machine"], board["userland_bits"])
    tier = table.detect(machine) if wishes["tier"] == "auto" else table.named(wishes["tier"])
    while True:
        draft = draft_memory(board, tier, wishes)
        reason = fits(tier, machine) or _overflow(board, draft)
        smaller = table.smaller(tier)
        if not reason or wishes["on_misfit"] != "step_down" or smaller is None:
            break
        tier = smaller
    if reason:
        reason += "; pin a smaller pinch_tier, set pinch_on_misfit to step_down, or lower swap_zram_limit_mb"
    return tier, draft, reason


def draft_memory(board: Mapping[str, Any], tier: Tier, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits, swap and memory sum of `board` in `tier`."""
    swap = plan_swap(board, tier, wishes["swap"])
    limits = plan_limits(tier, wishes["limits"], swap["mechanism"])
    budget = sum_memory(board, tier, swap, limits["max_mb"], wishes["other_memory_mb"])
    left = board["memory_bytes"] // MEBIBYTE - sum(budget.values())
    return {"swap": swap, "limits": limits, "budget_mb": budget, "left_mb": left}


def plan_limits(tier: Tier, wishes: Mapping[str, int], mechanism: str) -> dict[str, int]:
    """Return the unit's limits in MB; 0 in a wish stands for the tier's."""
    highest = wishes["max"] or tier.memory_max_mb
    return {
        "high_mb": wishes["high"] or min(tier.memory_high_mb, highest),
        "max_mb": highest,
        "swap_max_mb": 0 if mechanism == "none" else wishes["swap"] or tier.memory_swap_max_mb,
    }


def plan_swap(board: Mapping[str, Any], tier: Tier, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return mechanism and sizes of the swap to set up; 0 in a wish stands for the tier's share of RAM."""
    memory_mb = board["memory_bytes"] // MEBIBYTE
    host = {key: int(str(tier.host[key])) for key in ("zram_percent", "zram_limit_percent")}
    mechanism = wishes["mechanism"]
    size = wishes["size_mb"] or memory_mb * host["zram_percent"] // 100
    limit = wishes["limit_mb"] or memory_mb * host["zram_limit_percent"] // 100
    swap = {
        "mechanism": mechanism,
        "size_mb": 0 if mechanism == "none" else size,
        "limit_mb": min(limit, size) if mechanism == "zram" else 0,
        "file": wishes["file"],
        "in_use": swap_in_use(board["swap"]),
    }
    return {**swap, "settled": swap_settled(board["swap"], swap)}


def swap_settled(live: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Say whether a board swaps as planned: by that mechanism alone, in that size and under that limit."""
    if wanted["mechanism"] == "none":
        return not live["areas"]
    if swap_in_use(live) != [wanted["mechanism"]] or len(live["areas"]) != 1:
        return False
    area = live["areas"][0]
    # An area is one page shorter than its device or file: the header. Pages are 4 to 64 KiB.
    short = wanted["size_mb"] * MEBIBYTE - area["size_bytes"]
    return bool(0 <= short <= 64 * 1024 and area["limit_bytes"] == wanted["limit_mb"] * MEBIBYTE)


def swap_in_use(swap: Mapping[str, Any]) -> list[str]:
    """Return the mechanisms that swap on a board right now, judged by what is there and not by the system's name."""
    kinds = sorted({str(area["kind"]) for area in swap["areas"]})
    if swap["rpi_swap"] and kinds:
        return ["rpi-swap"]
    return ["dphys" if kind == "file" and swap["dphys"] else kind for kind in kinds]


def sum_memory(
    board: Mapping[str, Any], tier: Tier, swap: Mapping[str, Any], service_mb: int, other_mb: int
) -> dict[str, int]:
    """Return the MB of RAM that each part of the board may take at worst.

    zram stands beside the service's limit, not in it: the kernel charges its pages to nobody.
    """
    host = {key: int(str(tier.host[key])) for key in ("reserve_mb", "tmpfs_mb", "journal_mb")}
    return {
        "pinch.service": service_mb,
        "other services": other_mb,
        "zram": int(swap["limit_mb"]),
        "tmpfs": max(host["tmpfs_mb"], board["tmpfs_bytes"] // MEBIBYTE),
        "journal": host["journal_mb"],
        "host": host["reserve_mb"],
    }


def to_toml(settings: Mapping[str, Any]) -> str:
    """Write `settings` as TOML: plain values, lists of them, and one level of sections."""
    flat = [f"{key} = {_toml(value)}" for key, value in settings.items() if not isinstance(value, Mapping)]
    blocks = ["\n".join(flat)] if flat else []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            blocks.append("\n".join([f"[{key}]", *(f"{name} = {_toml(inner)}" for name, inner in value.items())]))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    escapes = {'"': '\\"', "\\": "\\\\"}
    text = "".join(escapes.get(c, c) if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in str(value))
    return f'"{text}"'


def _names(value: object) -> Iterator[str]:
    yield from (str(part) for part in value) if isinstance(value, list | tuple) else ()


def _overflow(board: Mapping[str, Any], draft: Mapping[str, Any]) -> str | None:
    if draft["left_mb"] >= 0:
        return None
    budget = draft["budget_mb"]
    parts = " + ".join(f"{what} {size}" for what, size in budget.items() if size)
    return (
        f"the memory of this board does not add up: {parts} = {sum(budget.values())} MB, and it has "
        f"{board['memory_bytes'] // MEBIBYTE} MB"
    )


def _system(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[str]:
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


def _clock(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[str]:
    skew = abs(board["clock"] - int(wishes["now"]))
    if board["clock"] < OLDEST_SANE_CLOCK or skew > wishes["clock_skew_s"]:
        yield (
            f"the board's clock is {skew} s away from the controller's; expected at most {wishes['clock_skew_s']} s. "
            "Set it with `sudo timedatectl set-time` or give the board a time server"
        )


def _settings(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, instead in OWNED_SETTINGS.items():
        if name in settings:
            yield f"pinch_settings holds {name}, which the roles decide: {instead}"
    with tempfile.NamedTemporaryFile("w", suffix=".toml", encoding="utf-8") as file:
        file.write(to_toml(settings))
        file.flush()
        try:
            load_settings({}, Path(file.name))
        except SettingsError as error:
            yield f"pinch_settings: {str(error).removeprefix(f'{file.name}: ')}"


def _swap(board: Mapping[str, Any], swap: Mapping[str, Any]) -> Iterator[str]:
    in_use, wanted = swap["in_use"], swap["mechanism"]
    if len(in_use) > 1:
        areas = ", ".join(area["path"] for area in board["swap"]["areas"])
        yield f"the board swaps by {' and '.join(in_use)} at once ({areas}); leave one of them and run again"
    foreign = [mechanism for mechanism in in_use if mechanism not in {"zram", "file", wanted}]
    remedies = {
        "rpi-swap": "purge the package rpi-swap and reboot",
        "dphys": "purge the package dphys-swapfile and reboot",
        "partition": "take the partition out of /etc/fstab and run `sudo swapoff -a`",
    }
    for mechanism in foreign:
        remedy = remedies.get(mechanism, "stop it")
        yield f"the board swaps by {mechanism}, and swap_mechanism asks for {wanted}; {remedy}"
    for area in board["swap"]["areas"]:
        if "file" in in_use and area["kind"] == "file" and area["path"] != swap["file"]:
            yield (
                f"the board swaps to the file {area['path']}, which these roles did not make; "
                "stop and remove it, then run again"
            )
    swapped = sum(area["used_bytes"] for area in board["swap"]["areas"])
    if in_use and in_use != [wanted] and swapped > board["available_bytes"] // 2:
        yield (
            f"{swapped // MEBIBYTE} MB are swapped out by {in_use[0]} and would not fit in half of the "
            f"{board['available_bytes'] // MEBIBYTE} MB available; reboot the board and run again"
        )


def _packages(
    board: Mapping[str, Any], packages: Mapping[str, list[str]], flavour: str, mechanism: str
) -> Iterator[str]:
    needed = [name for part in ("base", flavour, mechanism) for name in packages.get(part, [])]
    missing = [name for name in needed if not board["packages"].get(name)]
    if missing:
        yield f"the board lacks Debian packages; run `sudo apt install {' '.join(missing)}` on it"


def _disk(board: Mapping[str, Any], need_mb: int, swap: Mapping[str, Any]) -> Iterator[str]:
    areas = {area["path"]: area["size_bytes"] for area in board["swap"]["areas"]}
    extra_mb = swap["size_mb"] if swap["mechanism"] == "file" and swap["file"] not in areas else 0
    for path, free in board["free_bytes"].items():
        need = need_mb + (extra_mb if path == "/var" else 0)
        if free < need * MEBIBYTE:
            part = f", {extra_mb} MB of them for the swap file" if need > need_mb else ""
            yield f"{path} has {free // MEBIBYTE} MB free; expected {need} MB{part}. Free some, or use a larger card"


class FilterModule:
    """Ansible's way to find the filters."""

    def filters(self) -> dict[str, Any]:
        """Return the filters by name."""
        return {
            "preflight_plan": plan_board,
            "preflight_swap_settled": swap_settled,
            "to_pinch_toml": to_toml,
        }
