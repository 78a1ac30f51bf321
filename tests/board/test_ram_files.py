"""Files that are RAM: logs below /run, /tmp and the other tmpfs, within what the memory sum counts for them."""

from __future__ import annotations

import json

import pytest
from pinch.tiers import MEBIBYTE

from tests.appliance import Board
from tests.report import Figures

USAGE = "ec387f577b844b8fa948f33cad9a75e6"
"""The message in which systemd-journald says how much it may keep."""
FILES = 8
"""journald keeps its limit in so many files: what is in use may be one of them above it until it turns to the next."""


def test_logs_in_ram_have_the_tiers_limit_in_the_running_daemon(board: Board, figures: Figures) -> None:
    if board.variables.get("journald_state", "present") == "absent":
        pytest.skip("the inventory leaves the journal as it is")
    wanted = _runtime_bytes(board)
    printed = board.run("systemd-analyze cat-config systemd/journald.conf")
    said = [line.partition("=")[2] for line in printed.splitlines() if line.startswith("RuntimeMaxUse=")]
    assert said[-1] == f"{wanted // MEBIBYTE}M", "another file has the last word; see systemd-analyze cat-config"
    pid = board.properties("MainPID", unit="systemd-journald.service")["MainPID"]
    lines = board.run(f"journalctl -b --no-pager -o json MESSAGE_ID={USAGE} _PID={pid}").splitlines()
    limits = {entry["JOURNAL_PATH"]: int(entry["MAX_USE"]) for entry in map(json.loads, lines)}
    for folder, limit in limits.items():
        figures.add(f"limit of {folder.rpartition('/')[0]}", limit / MEBIBYTE, "MB")
        if folder.startswith("/run/"):
            assert limit == wanted


def test_logs_do_not_take_more_ram_than_that(board: Board, figures: Figures) -> None:
    if board.variables.get("journald_state", "present") == "absent":
        pytest.skip("the inventory leaves the journal as it is")
    used = int(board.run("du -sk /run/log/journal 2>/dev/null | cut -f1").strip() or 0) * 1024
    wanted = _runtime_bytes(board)
    figures.add("logs in RAM", used / MEBIBYTE, "MB", f"≤ {wanted // MEBIBYTE} MB and a file")
    assert used <= wanted + wanted // FILES


def test_logs_that_should_outlast_a_boot_are_on_the_card(board: Board) -> None:
    if board.variables.get("journald_storage") != "persistent":
        pytest.skip("journald_storage is not persistent")
    assert board.run("ls /var/log/journal/*/system.journal")
    assert board.attempt("ls /run/log/journal/*/system.journal").rc != 0


def test_a_tmp_of_ram_has_the_tiers_size(board: Board, figures: Figures) -> None:
    kind = board.run("stat --file-system --format=%T /tmp")
    if kind != "tmpfs" or board.variables.get("tmp_state", "present") == "absent":
        pytest.skip(f"/tmp is {kind}, or the inventory leaves it as it is")
    wanted = (int(board.variables.get("tmp_size_mb", 0)) or int(str(board.tier.host["tmp_mb"]))) * MEBIBYTE
    blocks, size = board.run("stat --file-system --format='%b %S' /tmp").split()
    figures.add("/tmp", int(blocks) * int(size) / MEBIBYTE, "MB", f"= {wanted // MEBIBYTE} MB")
    assert int(blocks) * int(size) == wanted
    # Of what is mounted systemd shows the kernel's words, which say the size in another unit: the files decide at boot.
    written = board.run("systemctl cat tmp.mount | grep '^Options=' | tail -1").removeprefix("Options=")
    assert f"size={wanted // MEBIBYTE}M" in written.split(",")
    assert {"nosuid", "nodev"} <= set(board.run("findmnt --noheadings --output OPTIONS /tmp").split(","))


def test_files_in_ram_fit_into_what_the_memory_sum_counts_for_them(board: Board, figures: Figures) -> None:
    """What /tmp may hold, and what /run and /dev/shm do hold, logs among it."""
    host = {name: int(str(board.tier.host[f"{name}_mb"])) * MEBIBYTE for name in ("tmpfs", "journal")}
    rows = [line.split() for line in board.run("df --block-size=1 --type=tmpfs --output=target,size,used").splitlines()]
    bounded = board.variables.get("tmp_state", "present") == "present"
    held = sum(int(size if target == "/tmp" and bounded else used) for target, size, used in rows[1:])
    figures.add("files in RAM at most", held / MEBIBYTE, "MB", f"≤ {sum(host.values()) // MEBIBYTE} MB")
    assert held <= sum(host.values())


def _runtime_bytes(board: Board) -> int:
    wanted = int(board.variables.get("journald_runtime_max_mb", 0)) or int(str(board.tier.host["journal_mb"]))
    return wanted * MEBIBYTE
