"""The whole plan of one board."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from pinch.tiers import MEBIBYTE, TierError, load_tiers

from .boot import boot_problems
from .checks import clock_problems, disk_problems, missing_packages, package_problems, settings_problems
from .memory import choose_tier
from .swap import swap_problems
from .systems import known_system, system_problems


def plan_board(board: Mapping[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the roles will do to `board`, with the reasons against it under `problems`.

    Args:
        board: what the module preflight_board returned.
        wishes: `tier`, `on_misfit`, `limits` (high, max, swap; 0 takes the tier's), `other_memory_mb`, `tmpfs_mb`,
            `journal_mb`, `swap` (mechanism, size_mb, limit_mb, file, algorithm), `systems`, `refused`, `packages`,
            `packages_source`, `psi`, `disk_mb`, `settings`, `now`, `clock_skew_s`.
    """
    problems = [*system_problems(board, wishes), *clock_problems(board, wishes), *settings_problems(wishes["settings"])]
    problems += boot_problems(board, psi=wishes["psi"])
    try:
        tier, draft, misfit = choose_tier(board, wishes)
    except TierError as error:
        return {"problems": [*problems, f"{error}; set pinch_tier to one of them"], "tier": ""}
    system = known_system(board, wishes["systems"])
    bare = system is not None and system["release"] == "distribution"
    flavour = "distribution" if bare else "semantic" if tier.semantic else "minimal"
    swap = draft["swap"]
    missing = missing_packages(board, wishes["packages"], flavour, swap["mechanism"])
    problems += [misfit] if misfit else []
    problems += swap_problems(board, swap, wishes["swap"])
    problems += package_problems(missing, wishes["packages_source"])
    problems += disk_problems(board, wishes["disk_mb"][flavour], swap)
    return {
        "problems": problems,
        "tier": tier.name,
        "nominal_mb": load_tiers().nominal(board["memory_bytes"]),
        "memory_mb": board["memory_bytes"] // MEBIBYTE,
        "flavour": flavour,
        "model": tier.model,
        "release": f"{flavour}-{board['python']}-{board['architecture']}",
        "missing_packages": missing,
        "sysctl_sets": list(_names(tier.host.get("sysctl", []))),
        **draft,
    }


def _names(value: object) -> Iterator[str]:
    yield from (str(part) for part in value) if isinstance(value, list | tuple) else ()
