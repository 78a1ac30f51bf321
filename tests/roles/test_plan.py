"""What preflight plans for a board, and what it refuses before anything is changed."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
import yaml
from pinch_plan.plan import plan_board
from pinch_plan.toml import to_toml
from pinch_plan.variables import unknown_variables
from pinch_swap.state import State, facts

from tests.roles.sources import ROLES

MIB = 1024 * 1024
NOW = 1_790_000_000
ZERO_2_W, PI_1GB, PI_4GB = 430 * MIB, 921 * MIB, 3790 * MIB
TABLE = yaml.safe_load((ROLES / "preflight" / "vars" / "main.yml").read_text("utf-8"))
PACKAGES = TABLE["__preflight_packages"]


def a_board(memory: int = PI_4GB, **changes: Any) -> dict[str, Any]:
    """Describe a supported board with `changes`."""
    board: dict[str, Any] = {
        "memory_bytes": memory,
        "available_bytes": memory // 2,
        "machine": "aarch64",
        "architecture": "arm64",
        "userland_bits": 64,
        "system": {
            "id": "debian",
            "version_id": "13",
            "pretty_name": "Debian GNU/Linux 13 (trixie)",
            "raspberry_pi_os": "no",
        },
        "python": "3.13",
        "systemd": 257,
        "cgroup": {"unified": True, "memory": True, "psi": True},
        "boot": {
            "path": "/boot/firmware/cmdline.txt",
            "text": "root=LABEL=ROOT rw\n",
            "read_only": False,
            "free_bytes": 100 * MIB,
            "booted": "root=LABEL=ROOT rw",
        },
        "swap": facts(State()),
        "tmpfs_bytes": 2 * MIB,
        "free_bytes": {"/opt": 2000 * MIB, "/var": 2000 * MIB},
        "clock": NOW,
        "packages": {name: True for names in PACKAGES.values() for name in names},
        "root": True,
    }
    return {**board, **changes}


def wishes(**changes: Any) -> dict[str, Any]:
    """Return what the variables say by default, with `changes`."""
    swap = {"mechanism": "zram", "size_mb": 0, "limit_mb": 0, "file": "/var/swap.pinch"}
    swap |= {"algorithm": "", **changes.pop("swap", {})}
    defaults: dict[str, Any] = {
        "tier": "auto",
        "on_misfit": "refuse",
        "limits": {"high": 0, "max": 0, "swap": 0},
        "settings": {},
        "other_memory_mb": 0,
        "tmpfs_mb": 0,
        "journal_mb": 0,
        "clock_skew_s": 86400,
        "now": NOW,
        "systems": TABLE["__preflight_systems"],
        "refused": TABLE["__preflight_refused"],
        "packages": PACKAGES,
        "packages_source": "controller",
        "psi": True,
        "disk_mb": TABLE["__preflight_disk_mb"],
        "swap": swap,
    }
    return {**defaults, **changes}


@pytest.mark.parametrize(
    ("memory", "tier", "nominal", "flavour"),
    [(ZERO_2_W, "minimal", 512, "minimal"), (PI_1GB, "light", 1024, "semantic"), (PI_4GB, "full", 4096, "semantic")],
)
def test_every_board_fits_its_own_tier(memory: int, tier: str, nominal: int, flavour: str) -> None:
    plan = plan_board(a_board(memory), wishes())
    assert plan["problems"] == []
    assert (plan["tier"], plan["nominal_mb"], plan["flavour"]) == (tier, nominal, flavour)
    assert sum(plan["budget_mb"].values()) + plan["left_mb"] == plan["memory_mb"]
    assert plan["left_mb"] >= 0


@pytest.mark.parametrize(
    ("board", "wish", "said"),
    [
        (
            a_board(ZERO_2_W),
            {"tier": "full"},
            "zram 107 + tmpfs 128 + journal 32 + host 300 = 687 MB",
        ),
        (a_board(190 * MIB), {}, "tier minimal needs 50 MB for the service"),
        (a_board(), {"tier": "huge"}, "tier is 'huge'; expected auto, minimal, light, full"),
        (a_board(ZERO_2_W), {"other_memory_mb": 200}, "does not add up"),
        (a_board(ZERO_2_W), {"limits": {"high": 0, "max": 300, "swap": 0}}, "pinch.service 300"),
        (a_board(systemd=0), {}, "was not started by systemd"),
        (a_board(cgroup={"unified": False, "memory": False, "psi": False}), {}, "old cgroup hierarchy"),
        (a_board(root=False), {}, "without root rights"),
        (a_board(clock=0), {}, "the board's clock is 1790000000 s away"),
        (
            a_board(packages={"python3": True}),
            {"packages_source": "none"},
            "sudo apt install zstd libstdc++6 systemd-zram-generator` on it, or set packages_source",
        ),
        (a_board(free_bytes={"/opt": 50 * MIB, "/var": 900 * MIB}), {}, "/opt has 50 MB free; expected 400 MB"),
        (a_board(), {"settings": {"listn": "x"}}, "pinch_settings: unknown key listn; did you mean listen?"),
        (a_board(), {"settings": {"memory": {"readers": "two"}}}, "memory.readers is 'two'; expected a whole number"),
        (a_board(), {"settings": {"tier": "full"}}, "pinch_settings holds tier"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(board: dict[str, Any], wish: dict[str, Any], said: str) -> None:
    problems = plan_board(board, wishes(**wish))["problems"]
    assert any(said in problem for problem in problems), problems


def test_packages_that_somebody_brings_are_no_problem() -> None:
    for source in ("controller", "board"):
        plan = plan_board(a_board(packages={"python3": True}), wishes(packages_source=source))
        assert (plan["problems"], plan["missing_packages"]) == ([], ["zstd", "libstdc++6", "systemd-zram-generator"])
    assert plan_board(a_board(), wishes())["missing_packages"] == []


def test_a_tier_that_does_not_fit_is_stepped_down_where_that_is_allowed() -> None:
    plan = plan_board(a_board(ZERO_2_W), wishes(tier="full", on_misfit="step_down"))
    assert (plan["problems"], plan["tier"]) == ([], "minimal")


def test_without_swap_the_service_gets_none() -> None:
    plan = plan_board(a_board(), wishes(swap={"mechanism": "none"}))
    assert plan["limits"]["swap_max_mb"] == 0
    assert plan["budget_mb"]["zram"] == 0


def test_a_lower_hard_limit_lowers_the_soft_one() -> None:
    plan = plan_board(a_board(), wishes(limits={"high": 0, "max": 60, "swap": 0}))
    assert plan["limits"] == {"high_mb": 60, "max_mb": 60, "swap_max_mb": 64}


def test_an_unknown_variable_is_named_with_the_nearest_known_one() -> None:
    names = ["swap_mecanism", "swap_size_mb", "pinch_tier", "preflight_plan", "ansible_user", "swapfile"]
    said = unknown_variables(names, ["swap", "pinch", "preflight"], ["preflight_plan"])
    assert said == ["variable swap_mecanism is not known; did you mean swap_mechanism?"]


def test_settings_survive_the_way_through_toml() -> None:
    settings = {
        "listen": "127.0.0.1:1",
        "gateway": {
            "allow_plaintext": True,
            "max_connections": 5,
            "allowed_hosts": ['a"b', "c\\d", "tab\there", "né\x7f"],
        },
        "log_level": "debug",
    }
    assert tomllib.loads(to_toml(settings)) == settings
