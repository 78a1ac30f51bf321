"""Swap of a board: mechanism, sizes and limits, and what stands against them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pinch.tiers import MEBIBYTE, Tier
from pinch_swap.problems import swap_refusals
from pinch_swap.state import State, from_facts
from pinch_swap.wanted import Wish

ON_CARD = ("file", "zswap", "dphys", "rpi-swap")
IN_RAM = ("zram", "zswap", "rpi-swap")


def plan_swap(board: Mapping[str, Any], tier: Tier, wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return mechanism and sizes of the swap to set up; 0 in a wish stands for the tier's share of RAM.

    `extra_mb` is what the card has to hold more than now, `limit_mb` the RAM that what is swapped out may take.
    """
    state = from_facts(board["swap"])
    memory_mb = board["memory_bytes"] // MEBIBYTE
    host = {key: int(str(tier.host[key])) for key in ("zram_percent", "zram_limit_percent")}
    mechanism = wishes["mechanism"]
    adopted = mechanism == "file" and ("fstab", wishes["file"]) in state.others
    share = memory_mb * host["zram_percent"] // 100
    size = wishes["size_mb"] or (_size_on_card(share, state) if mechanism in ON_CARD else share)
    limit = wishes["limit_mb"] or min(memory_mb * host["zram_limit_percent"] // 100, size)
    if adopted:
        size = sum(area.size_bytes for area in state.areas if area.path == wishes["file"]) // MEBIBYTE
    held = state.file.size_bytes if state.file.swap_page_bytes else 0
    return {
        "mechanism": mechanism,
        "size_mb": 0 if mechanism == "none" else size,
        "limit_mb": limit if mechanism in IN_RAM else 0,
        "file": wishes["file"] if mechanism in {"file", "zswap"} else "",
        "algorithm": wishes["algorithm"] if mechanism in IN_RAM else "",
        "adopted": adopted,
        "in_use": board["swap"]["in_use"],
        "extra_mb": max(0, size - held // MEBIBYTE) if mechanism in ON_CARD and not adopted else 0,
    }


def swap_problems(board: Mapping[str, Any], swap: Mapping[str, Any], wishes: Mapping[str, Any]) -> Iterator[str]:
    """Say what stands against the wanted swap."""
    below = [f"swap_{name} is {wishes[name]}" for name in ("size_mb", "limit_mb") if wishes[name] < 0]
    yield from (f"{said}; expected 0, which takes the tier's share, or more" for said in below)
    if swap["adopted"] and wishes["size_mb"] not in {0, swap["size_mb"]}:
        yield (
            f"swap_file is {swap['file']}, which /etc/fstab of the board swaps to with {swap['size_mb']} MB, and "
            f"swap_size_mb is {wishes['size_mb']}; leave swap_size_mb 0 to keep the file, or take its line out of "
            "/etc/fstab, run `sudo swapoff -a`, and run again"
        )
    if not below:
        names = ("mechanism", "size_mb", "limit_mb", "file", "algorithm", "adopted")
        yield from swap_refusals(from_facts(board["swap"]), Wish(**{name: swap[name] for name in names}))


def _size_on_card(share: int, state: State) -> int:
    """Return the MB of a file that takes the tier's share, but at most half of what is free for it.

    A file that is there keeps its size while that is not far off, or each change of what is free would remake it.
    """
    held = state.file.size_bytes if state.file.swap_page_bytes else 0
    chosen = min(share, (state.file.free_bytes + held) // MEBIBYTE // 2)
    held_mb = held // MEBIBYTE
    return held_mb if chosen <= 2 * held_mb and held_mb <= share else chosen
