"""A process that eats memory inside the unit's control group: it dies, and nothing else does."""

from __future__ import annotations

import secrets
import time

from tests.appliance import Board
from tests.budget.scenario import Limits, limited, tier_limits
from tests.report import Figures

BACK_S = 15.0
HOG = "import time; held = bytearray({bytes}); held[::4096] = bytes(1) * len(held[::4096]); time.sleep(60)"
SPACE = "hog"


def test_a_hog_is_killed_and_the_service_is_back_with_nothing_lost(board: Board, figures: Figures) -> None:
    boot = board.run("cat /proc/sys/kernel/random/boot_id")
    texts = {f"The hog must not take this: {secrets.token_hex(8)}" for _ in range(20)}
    with board.service() as client:
        for text in texts:
            client.remember(text, space=SPACE)
    limits = tier_limits(board)
    # Above memory.high the kernel slows a process down so much that it needs minutes to reach memory.max. What is
    # shown here is the last line behind it: without the brake and without swap the hog is there at once.
    with limited(board, Limits(limits.maximum, limits.maximum)):
        kills = _kills(board)
        hog = HOG.format(bytes=2 * limits.maximum)
        # The shell moves itself into the group before it becomes the hog, so that its first byte counts there.
        shell = f'echo 0 > {board.group}/cgroup.procs; exec python3 -c "{hog}"'
        board.run(f"systemd-run --collect --unit=pinch-hog sh -c '{shell}'")
        _wait_for_kill(board, kills)
        seconds = board.wait_ready(BACK_S)
    figures.add("service ready again after the kill", seconds, "s", f"≤ {BACK_S:g} s")
    assert board.attempt("systemctl is-active pinch-hog.service").stdout.strip() != "active"
    assert board.run("cat /proc/sys/kernel/random/boot_id") == boot
    assert board.run("systemctl is-active ssh.service") == "active"
    with board.service() as client:
        found = client.memories(SPACE)
        assert texts <= {memory["text"] for memory in found}
        for memory in found:
            client.call("DELETE", f"/v1/memories/{memory['id']}")


def _kills(board: Board) -> int:
    return int(board.run("awk '/^oom_kill / {print $2}' /sys/fs/cgroup/system.slice/memory.events"))


def _wait_for_kill(board: Board, before: int) -> None:
    deadline = time.monotonic() + 60
    while _kills(board) == before:
        assert time.monotonic() < deadline, "the kernel killed nothing within 60 s"
        time.sleep(0.5)
