"""What the board under test is."""

from __future__ import annotations

import pytest
from pinch.tiers import Machine

from tests.appliance import Board
from tests.board.test_service import OWN_IMAGE
from tests.report import Figures


def test_the_board_runs_in_the_tier_that_its_memory_and_programs_allow(board: Board, figures: Figures) -> None:
    total = int(board.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) * 1024
    kernel, machine = board.run("uname -rm").split()
    bits = int(board.run("getconf LONG_BIT"))
    figures.add("system", board.run(". /etc/os-release; echo $PRETTY_NAME, $(dpkg --print-architecture)"))
    figures.add("kernel", f"{kernel} on {machine}")
    figures.add("page size", int(board.run("getconf PAGESIZE")), "B")
    figures.add("memory", total / 2**20, "MB")
    figures.add("tier", board.tier.name)
    if board.variables.get("pinch_tier", "auto") == "auto":
        wanted = board.tiers.detect(Machine(total, machine, bits))
        assert board.tier == wanted


def test_nothing_was_compiled_on_the_board(board: Board) -> None:
    if board.attempt(f"test -e {OWN_IMAGE}").rc:
        pytest.skip("this card was not made by image/build: what else is installed is its owner's choice")
    assert board.run("command -v cc gcc c++ g++ clang rustc cargo make pip pip3; true") == ""
