"""Logs: what they may take, who wins over whom, and that the running daemon has what the file says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.roles.sources import ROLES, load

module = load("journald/library/journald_dropin.py")

RASPBERRY = "usr/lib/systemd/journald.conf.d/40-rpi-volatile-storage.conf"
DROPIN = "etc/systemd/journald.conf.d/90-pinch.conf"
RAM, CARD = "/run/log/journal/0123", "/var/log/journal/0123"
MIB = 1024 * 1024


def render(storage: str = "keep", runtime_mb: int = 8) -> str:
    """Render the drop-in as Ansible does."""
    template = (ROLES / "journald" / "templates" / "pinch.conf.j2").read_text("utf-8")
    environment = jinja2.Environment(trim_blocks=True, autoescape=False)
    return environment.from_string(template).render(
        ansible_managed="managed",
        journald_storage=storage,
        __journald_runtime_mb=runtime_mb,
        journald_system_max_mb=64,
        journald_system_keep_free_mb=256,
        journald_sync_interval_s=300,
    )


class Daemon:
    """systemd-journald of a tree: reads its files at a start, and then says what it may keep."""

    def __init__(self, root: Path, *, talks: bool = True) -> None:
        self.root = root
        self.talks = talks
        self.starts = 0
        self.said: dict[str, int] = {}
        self.start()

    def start(self) -> None:
        """Read the settings; the defaults are a tenth of some memory and of some card."""
        self.starts += 1
        settings = module.effective(self.root)
        sizes = {RAM: settings.get("RuntimeMaxUse", "40M"), CARD: settings.get("SystemMaxUse", "400M")}
        folder = RAM if settings.get("Storage") == "volatile" else CARD
        self.said = {folder: module.size_bytes(sizes[folder])}

    def run(self, command: Sequence[str]) -> str:
        """Answer as systemctl and journalctl would."""
        if command[:2] == ["systemctl", "restart"]:
            self.start()
        if command[:2] == ["systemctl", "show"]:
            return f"{100 + self.starts}\n"
        if command[0] == "journalctl" and f"_PID={100 + self.starts}" in command and self.talks:
            return "".join(json.dumps({"JOURNAL_PATH": p, "MAX_USE": str(u)}) + "\n" for p, u in self.said.items())
        return ""


def raspberry(root: Path) -> Path:
    """Make a tree with the file of Raspberry Pi OS that keeps logs in RAM."""
    (root / RASPBERRY).parent.mkdir(parents=True)
    (root / RASPBERRY).write_text("[Journal]\nStorage=volatile\n", "utf-8")
    return root


def settle(daemon: Daemon, text: str | None, *, dry: bool = False) -> dict[str, Any]:
    """Run the module's work on a tree."""
    answer: dict[str, Any] = module.settle(daemon.root, text, daemon.run, dry=dry)
    return answer


def test_logs_in_ram_get_the_tiers_limit_at_once_and_the_second_run_changes_nothing(tmp_path: Path) -> None:
    daemon = Daemon(raspberry(tmp_path))
    first = settle(daemon, render())
    assert (first["changed"], first["storage"], first["limits"]) == (True, "volatile", {RAM: 8 * MIB})
    second = settle(daemon, render())
    assert (second["changed"], second["restarted"], daemon.starts) == (False, False, 2)


def test_logs_on_the_card_win_over_the_file_of_raspberry_pi_os(tmp_path: Path) -> None:
    daemon = Daemon(raspberry(tmp_path))
    answer = settle(daemon, render("persistent"))
    assert (answer["storage"], answer["limits"]) == ("persistent", {CARD: 64 * MIB})


def test_a_daemon_that_still_keeps_logs_in_ram_is_found_out(tmp_path: Path) -> None:
    daemon = Daemon(raspberry(tmp_path))
    daemon.start = lambda: None  # type: ignore[method-assign]
    with pytest.raises(module.JournaldError, match="Storage=persistent was asked for"):
        settle(daemon, render("persistent"))


def test_a_drop_in_that_is_read_later_and_says_otherwise_is_named(tmp_path: Path) -> None:
    daemon = Daemon(tmp_path)
    later = tmp_path / "etc/systemd/journald.conf.d/99-mine.conf"
    later.parent.mkdir(parents=True)
    later.write_text("[Journal]\nRuntimeMaxUse=64M\n", "utf-8")
    with pytest.raises(module.JournaldError, match=r"99-mine\.conf sets RuntimeMaxUse=64M and is read after ours?"):
        settle(daemon, render())
    assert not (tmp_path / DROPIN).exists()


def test_a_daemon_that_was_not_started_since_the_file_came_is_started(tmp_path: Path) -> None:
    daemon = Daemon(raspberry(tmp_path))
    (tmp_path / DROPIN).parent.mkdir(parents=True)
    (tmp_path / DROPIN).write_text(render(), "utf-8")
    assert settle(daemon, render())["restarted"]
    assert daemon.said == {RAM: 8 * MIB}


def test_a_daemon_whose_message_is_gone_is_left_running(tmp_path: Path) -> None:
    """A small journal loses its oldest messages; that is no reason to restart it at each run."""
    daemon = Daemon(raspberry(tmp_path), talks=False)
    assert settle(daemon, render())["restarted"]
    assert not settle(daemon, render())["changed"]


@pytest.mark.parametrize("text", [render(), None])
def test_a_run_that_died_before_the_restart_is_repaired_by_the_next(tmp_path: Path, text: str | None) -> None:
    daemon = Daemon(raspberry(tmp_path), talks=False)
    if text is None:
        settle(daemon, render())
    starts = daemon.starts

    def die(command: Sequence[str]) -> str:
        if "restart" in command:
            raise KeyboardInterrupt
        return daemon.run(command)

    with pytest.raises(KeyboardInterrupt):
        module.settle(tmp_path, text, die, dry=False)
    assert settle(daemon, text)["restarted"]
    assert daemon.starts == starts + 1
    assert not settle(daemon, text)["changed"]


def test_check_mode_says_what_would_change_and_touches_nothing(tmp_path: Path) -> None:
    daemon = Daemon(raspberry(tmp_path))
    answer = settle(daemon, render(), dry=True)
    assert (answer["changed"], answer["restarted"], daemon.starts) == (True, False, 1)
    assert not (tmp_path / DROPIN).exists()


def test_taking_it_back_leaves_the_system_as_it_was(tmp_path: Path) -> None:
    daemon = Daemon(raspberry(tmp_path))
    before = dict(daemon.said)
    settle(daemon, render("persistent"))
    assert settle(daemon, None)["changed"]
    assert daemon.said == before
    assert not (tmp_path / DROPIN).exists()
    assert not settle(daemon, None)["changed"]


def test_the_main_file_has_the_least_to_say(tmp_path: Path) -> None:
    (raspberry(tmp_path) / "etc/systemd").mkdir(parents=True)
    (tmp_path / "etc/systemd/journald.conf").write_text("[Journal]\nStorage=persistent\n#Seal=yes\nSeal=no\n", "utf-8")
    assert module.effective(tmp_path) == {"Storage": "volatile", "Seal": "no"}


@given(st.integers(0, 10**6), st.sampled_from(["", "K", "M", "G", "T"]))
def test_sizes_are_read_as_systemd_reads_them(number: int, unit: str) -> None:
    assert module.size_bytes(f"{number}{unit}") == number * 1024 ** " KMGT".index(unit or " ")


@pytest.mark.parametrize("text", ["", "M", "8 M", "-1M", "1.5G", "10%"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(module.JournaldError, match="is no size"):
        module.size_bytes(text)


@pytest.mark.parametrize("storage", ["keep", "auto", "volatile", "persistent"])
def test_storage_is_written_only_where_somebody_decided_it(storage: str) -> None:
    settings = dict(module.assignments(render(storage), "Journal"))
    assert settings.get("Storage", "keep") == storage
    assert (settings["RuntimeMaxUse"], settings["SystemMaxUse"]) == ("8M", "64M")
