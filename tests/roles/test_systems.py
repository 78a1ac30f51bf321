"""Which systems and boards the roles take, what each gets, and why the others are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch_plan.plan import plan_board
from pinch_plan.systems import known_system
from pinch_release.recipe import Recipe

from tests.roles.sources import REPOSITORY
from tests.roles.test_plan import MIB, PI_4GB, TABLE, ZERO_2_W, a_board, wishes

SYSTEMS: list[dict[str, Any]] = TABLE["__preflight_systems"]
REFUSED: list[dict[str, Any]] = TABLE["__preflight_refused"]
KERNELS = {"arm64": ["aarch64"], "armhf": ["armv7l", "armv8l", "aarch64"]}
SYSTEMD = {"3.11": 252, "3.12": 255, "3.13": 257}


def running(row: dict[str, Any], memory: int = PI_4GB, **changes: Any) -> dict[str, Any]:
    """Describe a board that runs the system of a row of the table."""
    system = {
        "id": row["id"],
        "version_id": row["version"],
        "pretty_name": row["name"],
        "raspberry_pi_os": "yes" if row["raspberry_pi_os"] else "no",
    }
    described: dict[str, Any] = {
        "system": system,
        "architecture": row["architecture"],
        "machine": KERNELS[row["architecture"]][0],
        "userland_bits": 64 if row["architecture"] == "arm64" else 32,
        "python": row["python"],
        "systemd": SYSTEMD[row["python"]],
        **changes,
    }
    return a_board(memory, **described)


def other(**changes: Any) -> dict[str, Any]:
    """Describe a board that runs something that is not in the table."""
    row = {"id": "debian", "version": "13", "name": "Debian", "raspberry_pi_os": False, "architecture": "arm64"}
    return running({**row, "python": "3.13", **changes})


BOARDS = [(row, kernel, memory) for row in SYSTEMS for kernel in KERNELS[row["architecture"]]
          for memory in (ZERO_2_W, 921 * MIB, 1900 * MIB, PI_4GB, 7900 * MIB)]  # fmt: skip


@pytest.mark.parametrize(
    ("row", "kernel", "memory"),
    BOARDS,
    ids=[f"{row['name']}, {kernel}, {memory // MIB} MB" for row, kernel, memory in BOARDS],
)
def test_every_board_with_every_system_gets_a_release_that_is_made(
    row: dict[str, Any], kernel: str, memory: int
) -> None:
    plan = plan_board(running(row, memory, machine=kernel, packages={"python3": True}), wishes())
    assert plan["problems"] == []
    recipe = Recipe.named(REPOSITORY / "service", plan["release"])
    assert (recipe.target.python, recipe.target.architecture) == (row["python"], row["architecture"])
    assert (recipe.lock is None) is (row["release"] == "distribution")
    assert ("python3-aiohttp" in plan["missing_packages"]) is (row["release"] == "distribution")
    if row["architecture"] == "armhf":
        assert (plan["tier"], plan["model"]) == ("minimal", "")


def test_a_raspberry_pi_is_told_from_a_plain_debian_on_the_same_board() -> None:
    for row in SYSTEMS:
        found = known_system(running(row), SYSTEMS)
        assert found is not None
        assert found["name"] == row["name"]


@pytest.mark.parametrize("tier", ["light", "full"])
def test_a_tier_with_a_model_is_refused_on_32_bits_and_not_left_out_in_silence(tier: str) -> None:
    (row,) = [row for row in SYSTEMS if row["id"] == "raspbian"]
    (problem,) = plan_board(running(row, machine="aarch64"), wishes(tier=tier))["problems"]
    assert "needs ONNX Runtime, which does not exist for 32-bit Arm" in problem


@pytest.mark.parametrize(
    ("board", "said"),
    [
        (other(version="11", name="Debian GNU/Linux 11 (bullseye)"), "bullseye has Python 3.9 and systemd 247"),
        (other(id="raspbian", version="11", architecture="armhf"), "Write a card with trixie"),
        (other(id="raspbian", version="12", architecture="armhf"), "too old for the service: aiohttp 3.8"),
        (other(version="12", architecture="armhf"), "too old for the service: aiohttp 3.8"),
        (other(id="ubuntu", version="22.04"), "Ubuntu 22.04 has Python 3.10"),
        (other(id="ubuntu", version="24.04", architecture="armhf"), "expected one of: Raspberry Pi OS trixie, 64-bit"),
        (other(id="ubuntu", version="25.10"), "Ubuntu 24.04 arm64. Write a card with one of them"),
        (other(id="fedora", version="42", name="Fedora Linux 42"), "runs Fedora Linux 42 for arm64 on aarch64"),
        (other(id="debian", version=""), "expected one of"),
        (a_board(machine="x86_64", architecture="amd64"), "boards are Arm ones"),
        (a_board(machine="armv6l", architecture="armhf", userland_bits=32), "older than ARMv7"),
        (a_board(architecture="arm64", userland_bits=32), "for arm64 on aarch64 with 32-bit programs"),
        (a_board(architecture=""), "for an unknown architecture"),
        (a_board(python="3.11"), "is Python 3.11; expected 3.13"),
        (a_board(systemd=249), "runs systemd 249; expected 252 or later"),
        (a_board(systemd=0), "was not started by systemd"),
    ],
)
def test_what_is_not_supported_is_refused_with_the_reason(board: dict[str, Any], said: str) -> None:
    problems = plan_board(board, wishes())["problems"]
    assert [problem for problem in problems if said in problem], problems


@settings(deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "id": st.sampled_from(["debian", "raspbian", "ubuntu", "fedora", ""]),
            "version_id": st.sampled_from(["11", "12", "13", "14", "22.04", "24.04", ""]),
            "raspberry_pi_os": st.sampled_from(["yes", "no"]),
        }
    ),
    st.sampled_from(["aarch64", "armv7l", "armv8l", "armv6l", "x86_64", "i686", "riscv64"]),
    st.sampled_from(["arm64", "armhf", "armel", "amd64", "i386", ""]),
    st.sampled_from([32, 64]),
    st.sampled_from(["3.9", "3.11", "3.12", "3.13", "3.14"]),
)
def test_no_board_is_taken_that_is_not_in_the_table(
    system: dict[str, str], machine: str, architecture: str, bits: int, python: str
) -> None:
    board = a_board(
        system={**system, "pretty_name": "x"},
        machine=machine,
        architecture=architecture,
        userland_bits=bits,
        python=python,
    )
    plan = plan_board(board, wishes())
    listed = any(
        (row["id"], row["version"], row["architecture"], row["python"])
        == (system["id"], system["version_id"], architecture, python)
        for row in SYSTEMS
    )
    right = machine in KERNELS.get(architecture, []) and bits == {"arm64": 64, "armhf": 32}.get(architecture)
    assert (plan["problems"] == []) is (listed and right), plan["problems"]


def test_the_readme_lists_the_systems_as_the_roles_know_them() -> None:
    runs = {"wheels": "every tier", "distribution": "minimal"}
    rows = [f"| {row['name']} | {row['python']} | {runs[row['release']]} | {row['proof']} |" for row in SYSTEMS]
    lines = (REPOSITORY / "README.md").read_text("utf-8").splitlines()
    assert [line for line in lines if line in rows] == rows


def test_every_refusal_says_what_to_do() -> None:
    assert all(row["reason"].split(". ")[-1].startswith(("Use", "Write", "To try")) for row in REFUSED)
