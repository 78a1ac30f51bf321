"""Tiers: which board gets what, and when it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from pinch.app import choose_tier
from pinch.settings import Settings
from pinch.tiers import MEBIBYTE, Machine, TierError, fits, load_tiers, this_machine

GIBIBYTE = 1024 * MEBIBYTE
TABLE = load_tiers()


@pytest.mark.parametrize(
    ("board", "total_mb", "machine", "bits", "tier"),
    [
        ("Pi Zero 2 W", 417, "aarch64", 64, "minimal"),
        ("Pi Zero 2 W with little for the GPU", 498, "aarch64", 64, "minimal"),
        ("Pi 3 of 1 GB", 906, "aarch64", 64, "light"),
        ("Pi 5 of 2 GB", 1984, "aarch64", 64, "light"),
        ("3 GB", 2900, "aarch64", 64, "light"),
        ("Pi 4 of 4 GB that reports 3.7 GiB", 3788, "aarch64", 64, "full"),
        ("Pi 5 of 16 GB", 16_080, "aarch64", 64, "full"),
        ("Pi 4 under a 32-bit kernel", 3788, "armv7l", 32, "minimal"),
        ("Pi 4, 64-bit kernel in 32-bit personality", 3788, "armv8l", 32, "minimal"),
        ("Pi 4, 64-bit kernel and 32-bit userland", 3788, "aarch64", 32, "minimal"),
        ("Pi Zero", 430, "armv6l", 32, "minimal"),
        ("server of 512 MB", 480, "x86_64", 64, "minimal"),
        ("server of 2 GB", 1990, "x86_64", 64, "light"),
        ("server of 24 GB", 24_000, "x86_64", 64, "full"),
    ],
)
def test_a_board_gets_its_tier(board: str, total_mb: int, machine: str, bits: int, tier: str) -> None:
    found = TABLE.detect(Machine(total_mb * MEBIBYTE, machine, bits))
    assert found.name == tier, board


@pytest.mark.parametrize("name", ["minimal", "light", "full"])
def test_the_accounts_of_a_tier_fit_its_budget_and_the_budget_its_limits(name: str) -> None:
    tier = TABLE.named(name)
    assert tier.accounts_total <= tier.budget_mb * MEBIBYTE
    assert tier.budget_mb < tier.memory_high_mb < tier.memory_max_mb


def test_a_tier_that_does_not_exist_is_refused() -> None:
    with pytest.raises(TierError, match="tier is 'huge'; expected auto, minimal, light, full"):
        TABLE.named("huge")


def test_a_tier_too_large_for_the_machine_says_what_it_needs() -> None:
    reason = fits(TABLE.named("full"), Machine(400 * MEBIBYTE, "aarch64"))
    assert reason == "tier full needs 120 MB for the service and 300 MB for the host, and this machine has 400 MB"


def test_a_model_is_not_promised_to_32_bit_arm() -> None:
    assert "32-bit Arm" in str(fits(TABLE.named("light"), Machine(4 * GIBIBYTE, "armv7l", 32)))


def test_accounts_beyond_the_budget_of_a_tier_are_named() -> None:
    tier = TABLE.named("minimal")._replace(accounts={"runtime": 40_000, "sqlite": 4096})
    assert "runtime 40000 KiB + sqlite 4096 KiB" in str(fits(tier, Machine(GIBIBYTE, "aarch64")))


def test_what_does_not_fit_is_refused_or_stepped_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:         330000 kB\nMemFree:          100 kB\n", "ascii")
    monkeypatch.setattr("pinch.app.this_machine", lambda: this_machine(meminfo))
    with pytest.raises(TierError, match=r"tier full needs 120 MB .* PINCH_TIER to a smaller tier"):
        choose_tier(Settings(tier="full"), TABLE)
    assert choose_tier(Settings(tier="full", on_misfit="step_down"), TABLE).name == "light"
    small = Settings(tier="light", budget_mb=40, on_misfit="step_down")
    assert choose_tier(small, TABLE).name == "minimal", "the budget counts as the memory does"
    meminfo.write_text("MemTotal:         100000 kB\n", "ascii")
    with pytest.raises(TierError, match="tier minimal needs"):
        choose_tier(Settings(tier="full", on_misfit="step_down"), TABLE)
