"""A board goes round through its mechanisms while somebody watches: never two, and each as it was asked for."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from itertools import groupby

import pytest

from tests.appliance import Board
from tests.report import Figures
from tests.swap.conftest import ONBOARD, Played, Watcher, ours
from tests.swapping import read_swap

CIRCUIT = ("zram", "file", "zswap", "none", "zram")
ZRAM, FILE = "/dev/zram0", "/var/swap.pinch"
LIMITED = ("zram", "zswap")
HOG_MB = 220
HOG = "pinch-swap-hog"
FILL_S = 120


@pytest.mark.parametrize("leg", range(len(CIRCUIT)))
def test_each_mechanism_follows_the_one_before(
    leg: int, board: Board, play: Callable[..., Played], watcher: Watcher, figures: Figures
) -> None:
    mechanism = CIRCUIT[leg]
    played = play(swap_mechanism=mechanism)
    swap = read_swap(board)
    figures.add(f"leg {leg} to {mechanism}", played.seconds, "s")
    figures.add(f"leg {leg} swaps to", ", ".join(f"{path} {size} MB" for path, size, _ in swap.areas) or "nothing")
    assert swap.mechanism == mechanism
    assert len(swap.areas) == (mechanism != "none")
    assert (swap.limit_mb < float("inf")) == (mechanism in LIMITED)
    assert play(swap_mechanism=mechanism).changed == 0


def test_never_two_at_once(watcher: Watcher, figures: Figures) -> None:
    seen = watcher.seen()
    figures.add("looks at /proc/swaps", seen["samples"])
    figures.add("longest time between two looks", seen["longest_gap_s"], "s")
    figures.add("swap areas at once, at most", seen["most"], "", "≤ 1")
    assert seen["most"] == 1
    # zswap keeps the file that it found.
    assert [areas for areas, _ in groupby(filter(None, seen["seen"]))] == [[ZRAM], [FILE], [ZRAM]]


def test_what_does_not_fit_waits_and_is_done_by_a_reboot(
    board: Board, play: Callable[..., Played], watcher: Watcher, figures: Figures
) -> None:
    fill(board)
    before = read_swap(board)
    available = int(board.run("awk '/^MemAvailable/ {print $2}' /proc/meminfo")) // 1024
    figures.add("swapped out", before.areas[0][2], "MB")
    figures.add("available", available, "MB")
    assert before.areas[0][2] * 2 > available, "the hog was not swapped out far enough for this test"
    played = play(swap_mechanism="file")
    assert "would not fit in half" in played.printed
    board.run("systemctl daemon-reload && systemctl restart systemd-timesyncd.service")
    assert read_swap(board).areas[0][:2] == before.areas[0][:2], "live swap was touched"
    assert play(swap_mechanism="file").changed == 0
    assert watcher.seen()["most"] == 1
    play(swap_mechanism="file", swap_reboot_ok=True)
    swap = read_swap(board)
    assert (swap.mechanism, len(swap.areas)) == ("file", 1)
    watcher.start()
    assert play(swap_mechanism="file").changed == 0


def test_the_board_is_given_back_as_it_was_found(
    board: Board, play: Callable[..., Played], watcher: Watcher, found: dict[str, str]
) -> None:
    play(swap_state="absent")
    assert read_swap(board).mechanism == "none"
    assert watcher.seen()["most"] == 1
    assert ours(board) == found
    assert play(swap_state="absent").changed == 0


def fill(board: Board) -> None:
    """Put memory of a unit of its own into swap: its process asks the kernel to page it out."""
    script = board.push(ONBOARD / "swapped_out.py")
    board.run(f"systemd-run --quiet --collect --unit={HOG} python3 -I {script} {HOG_MB}")
    enough = (HOG_MB - 20) << 10
    wait = f"until awk 'NR > 1 {{sum += $4}} END {{exit sum < {enough}}}' /proc/swaps; do sleep 1; done"
    board.run(f"timeout {FILL_S} sh -c {shlex.quote(wait)}")
