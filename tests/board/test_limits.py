"""The unit's limits, as the kernel has them."""

from __future__ import annotations

from pinch.tiers import MEBIBYTE

from tests.appliance import Board
from tests.report import Figures


def test_kernel_holds_the_limits_of_the_tier_or_the_inventory(board: Board, figures: Figures) -> None:
    figures.add("tier", board.tier.name)
    for file, wanted in board.wanted_limits.items():
        found = board.limit(file)
        figures.add(file, "max" if found is None else found // MEBIBYTE, "MB", f"= {wanted // MEBIBYTE} MB")
        assert found == wanted, f"{board.group}/{file}"


def test_no_parent_limits_the_unit_further(board: Board) -> None:
    smaller = [
        found
        for found in board.run(
            "cat /sys/fs/cgroup/system.slice/memory.max /sys/fs/cgroup/system.slice/memory.high"
        ).split()
        if found != "max"
    ]
    assert not smaller, "system.slice has limits of its own: the unit's are not what decides"


def test_unit_runs_in_the_group_that_has_the_limits(board: Board) -> None:
    process = board.properties("MainPID")["MainPID"]
    assert process in board.run(f"cat {board.group}/cgroup.procs").split()


def test_unit_stays_the_same_while_it_answers(board: Board) -> None:
    before = board.invocation()
    with board.service() as client:
        client.recall("what holds", mode="keyword")
    assert board.invocation() == before


def test_budget_covers_what_the_service_holds(board: Board, figures: Figures) -> None:
    with board.service() as client:
        budget = client.call("GET", "/v1/budget")
    assert sum(account["limit_bytes"] for account in budget["accounts"]) <= budget["budget_bytes"]
    figures.add(
        "anonymous memory, idle",
        budget["anonymous_bytes"] / MEBIBYTE,
        "MB",
        f"≤ {budget['budget_bytes'] // MEBIBYTE} MB",
    )
    figures.add("unattributed, idle", budget["unattributed_bytes"] / MEBIBYTE, "MB")
    assert budget["anonymous_bytes"] <= budget["budget_bytes"]
    assert budget["cgroup"]["max_bytes"] == board.limit("memory.max")
    assert budget["cgroup"]["high_bytes"] == board.limit("memory.high")


def test_swap_that_the_service_may_use_fits_beside_the_rest(board: Board) -> None:
    """Σ MemoryMax + zram's limit + tmpfs + journal + reserve ≤ MemTotal, with the live numbers."""
    tier = board.tier
    total = int(board.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    # The field of mm_stat is the fourth: memory limit, 0 where there is none.
    zram = sum(
        int(limit) for limit in board.run("awk '{print $4}' /sys/block/zram*/mm_stat 2>/dev/null || true").split()
    )
    host = {name: int(str(tier.host[f"{name}_mb"])) * MEBIBYTE for name in ("tmpfs", "journal", "reserve")}
    unit = board.limit("memory.max")
    others = int(board.variables.get("preflight_other_memory_mb", 0)) * MEBIBYTE
    assert unit is not None
    need = unit + others + zram + sum(host.values())
    assert need <= total, f"{tier.name}: unit {unit}, other services {others}, zram {zram}, {host}"
