"""Tier, limits and the memory sum of a board, by the service's own table of tiers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pinch.tiers import MEBIBYTE, Machine, Tier, fits, load_tiers

from .swap import plan_swap


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
        reason += "; pin a smaller pinch_tier, set pinch_on_misfit to step_down, or lower swap_limit_mb"
    return tier, draft, reason


def draft_memory(board: Mapping[str, Any], tier: Tier, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return limits, swap and memory sum of `board` in `tier`."""
    swap = plan_swap(board, tier, wishes["swap"])
    limits = plan_limits(tier, wishes["limits"], swap["mechanism"])
    budget = sum_memory(board, tier, swap, limits["max_mb"], wishes)
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


def sum_memory(
    board: Mapping[str, Any], tier: Tier, swap: Mapping[str, Any], service_mb: int, wishes: Mapping[str, Any]
) -> dict[str, int]:
    """Return the MB of RAM that each part of the board may take at worst.

    Of `wishes` it takes `other_memory_mb`, and `tmpfs_mb` and `journal_mb`, where 0 stands for the tier's.

    What is swapped to RAM stands beside the service's limit, not in it: the kernel charges zram to nobody, and of
    zswap's pool to the service only what the service itself has swapped out.
    """
    host = {key: int(str(tier.host[key])) for key in ("reserve_mb", "tmpfs_mb", "journal_mb")}
    return {
        "pinch.service": service_mb,
        "other services": wishes["other_memory_mb"],
        "zram": int(swap["limit_mb"]),
        "tmpfs": max(wishes["tmpfs_mb"] or host["tmpfs_mb"], board["tmpfs_bytes"] // MEBIBYTE),
        "journal": wishes["journal_mb"] or host["journal_mb"],
        "host": host["reserve_mb"],
    }


def _overflow(board: Mapping[str, Any], draft: Mapping[str, Any]) -> str | None:
    if draft["left_mb"] >= 0:
        return None
    budget = draft["budget_mb"]
    # The sum has one line for what is swapped to RAM; who reads it knows it by its mechanism.
    names = {"zram": draft["swap"]["mechanism"]}
    parts = " + ".join(f"{names.get(what, what)} {size}" for what, size in budget.items() if size)
    return (
        f"the memory of this board does not add up: {parts} = {sum(budget.values())} MB, and it has "
        f"{board['memory_bytes'] // MEBIBYTE} MB"
    )
