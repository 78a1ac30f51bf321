"""Swap of a board: what is in use, what is wanted, and what stands against the change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pinch.tiers import MEBIBYTE, Tier


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


def swap_problems(board: Mapping[str, Any], swap: Mapping[str, Any]) -> Iterator[str]:
    """Say what stands against the change from the swap in use to the wanted one."""
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
