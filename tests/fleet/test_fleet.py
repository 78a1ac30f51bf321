"""The playbooks of a fleet against simulated boards: over real ssh, some of the boards in trouble."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest
import yaml

from tests.cache import REPOSITORY
from tests.fleet.hundred import SUITE
from tests.fleet.simulation.boards import SimulatedBoard
from tests.fleet.simulation.world import World, simulated

BOARDS = [
    SimulatedBoard("attic", 430),
    SimulatedBoard("barn", 3790),
    SimulatedBoard("cellar", 3790, "refuses"),
    SimulatedBoard("den", 921, "hangs"),
    SimulatedBoard("eaves", 430),
    SimulatedBoard("foyer", 921, "idle"),
]
SSH_ARGS = "-o ControlMaster=auto -o ControlPersist=20s -o PreferredAuthentications=publickey -o ConnectTimeout=5"
"""As in ansible.cfg, but patient for five seconds and not for a minute."""


class Ran(NamedTuple):
    """A playbook that ran."""

    status: int
    said: str

    def recap(self) -> dict[str, dict[str, int]]:
        """Return the counts of each host."""
        lines = self.said.partition("PLAY RECAP")[2].splitlines()
        counts = (re.fullmatch(r"(\S+)\s+: (.*)", line.strip()) for line in lines)
        return {
            found[1]: {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", found[2])}
            for found in counts
            if found
        }


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with simulated(BOARDS) as world:
        yield world


@pytest.fixture
def inventory(world: World, tmp_path: Path) -> Path:
    """All boards; the eaves are said to serve more than fits."""
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(world.inventory(eaves={"preflight_other_memory_mb": 300})), "utf-8")
    return file


def play(playbook: Path, inventory: Path, *words: str, **extra: Any) -> Ran:
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"),
        "ANSIBLE_SSH_ARGS": SSH_ARGS,
        "ANSIBLE_CALLBACK_PLUGINS": str(REPOSITORY / "ansible" / "callback_plugins"),
        "NO_COLOR": "1",
    }
    command = ["ansible-playbook", "-i", str(inventory), str(playbook), "-e", json.dumps(extra), *words]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    return Ran(done.returncode, done.stdout + done.stderr)


def on(world: World, board: str, command: str) -> str:
    """Run a command on a board over ssh of our own and return what it prints."""
    address, port = world.listening[board]
    options = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "ControlPath=none"]
    login = ["ssh", *options, "-i", str(world.key), "-p", str(port), f"root@{address}", command]
    return subprocess.run(login, capture_output=True, text=True, check=True).stdout


def test_preflight_shows_every_board_fails_some_and_changes_none(world: World, inventory: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        on(world, "attic", "touch /etc/of-no-use")
    before = on(world, "attic", "find / -xdev /tmp /run -type f | sort")
    ran = play(REPOSITORY / "ansible" / "preflight.yml", inventory, fleet_report=str(tmp_path))
    rows = {row["host"]: row for row in json.loads((tmp_path / "preflight.json").read_text("utf-8"))["hosts"]}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "attic": "fits",
        "barn": "fits",
        "cellar": "not reached",
        "den": "not reached",
        "eaves": "refused",
        "foyer": "fits",
    }
    assert (rows["attic"]["tier"], rows["attic"]["memory_mb"], rows["attic"]["nominal_mb"]) == ("minimal", 430, 512)
    assert sum(rows["attic"]["budget_mb"].values()) + rows["attic"]["left_mb"] == 430
    assert "does not add up" in rows["eaves"]["reason"]
    assert "Connection refused" in rows["cellar"]["reason"]
    shown = ran.said.index("6 hosts: 3 fit, 1 refused, 2 not reached")
    assert shown < ran.said.index("Fail the boards")
    assert ran.status == 2
    recap = ran.recap()
    assert {name for name, counts in recap.items() if counts["failed"]} == {"cellar", "den", "eaves"}
    assert not any(counts["changed"] for counts in recap.values())
    assert on(world, "attic", "find / -xdev /tmp /run -type f | sort") == before
    assert "| attic | minimal | 430 | 512 |" in (tmp_path / "preflight.md").read_text("utf-8")


def test_preflight_ends_well_where_all_fit(inventory: Path) -> None:
    ran = play(REPOSITORY / "ansible" / "preflight.yml", inventory, "--limit", "attic,barn", "--check")
    assert ran.status == 0
    assert "2 hosts: 2 fit, 0 refused, 0 not reached" in ran.said


def test_verify_writes_one_report_of_all_boards(world: World, inventory: Path, tmp_path: Path) -> None:
    wanted = {"verify_suites": SUITE, "verify_reports": str(tmp_path), "verify_parallel": 3}
    ran = play(REPOSITORY / "ansible" / "verify.yml", inventory, "--limit", "!foyer", **wanted)
    (folder,) = tmp_path.glob("*-fleet")
    text = (folder / "report.md").read_text("utf-8")
    assert "1 failed, 0 given up, 2 not reached, 2 passed." in text
    listed = [line.split(" | ")[:2] for line in text.partition("## Boards")[2].splitlines() if line.startswith("| ")]
    assert [name.strip("| ") for name, _ in listed[1:6]] == ["eaves", "cellar", "den", "attic", "barn"]
    assert "memory.max: 50 MB (= 50 MB)" in text
    assert "Debian GNU/Linux 13 (trixie)" in text
    suites = {str(suite.get("name")): suite for suite in ElementTree.parse(folder / "junit.xml").iter("testsuite")}
    assert {name: suite.get("errors") for name, suite in suites.items() if suite.get("errors") != "0"} == {
        "cellar": "1",
        "den": "1",
    }
    assert (folder / "report.html").stat().st_size < 100_000
    assert ran.status == 2
    assert "3 OF 5 HOSTS FAILED" in ran.said
    assert "den failed at Fail the boards that did not pass: not reached" in ran.said
    assert str(folder / "report.html") in ran.said
    assert {name for name, counts in ran.recap().items() if counts["failed"]} == {"cellar", "den", "eaves"}


def test_verify_gives_up_on_a_board_that_never_gets_ready(inventory: Path, tmp_path: Path) -> None:
    wanted = {"verify_suites": SUITE, "verify_reports": str(tmp_path), "verify_limit_s": 5}
    ran = play(REPOSITORY / "ansible" / "verify.yml", inventory, "--limit", "foyer", **wanted)
    assert ran.status == 2
    assert "given up: the tests were not done after 5 s" in ran.said


def test_verify_ends_well_where_all_pass_and_leaves_no_secret_behind(inventory: Path, tmp_path: Path) -> None:
    secret = "sk-not-to-be-found"
    wanted = {"verify_suites": SUITE, "verify_reports": str(tmp_path), "pinch_provider_key": secret}
    ran = play(REPOSITORY / "ansible" / "verify.yml", inventory, "--limit", "attic", **wanted)
    assert ran.status == 0, ran.said
    files = [file for file in tmp_path.rglob("*") if file.is_file() and file != inventory]
    assert files
    assert not [file for file in files if secret in file.read_text("utf-8", "replace")]


def test_verify_stops_at_once_where_the_suite_is_misspelt(inventory: Path) -> None:
    ran = play(REPOSITORY / "ansible" / "verify.yml", inventory, "--limit", "attic", verify_suites="tests/bord")
    assert ran.status == 2
    assert "verify_suites names tests/bord" in ran.said


def test_a_board_that_dies_in_the_middle_holds_no_other_up(tmp_path: Path) -> None:
    """A playbook of the shape of site.yml: a play over pinch whose roles come one after the other."""
    cut = "test $(hostname) != barn || { echo 1 >/run/power; sleep 60; }"
    tasks = [
        {"name": name, "ansible.builtin.raw": command, "changed_when": False}
        for name, command in (("Begin", "true"), ("Change the board", cut), ("Go on", "hostname"))
    ]
    playbook = tmp_path / "site.yml"
    play_of_site = {"name": "Provision", "hosts": "pinch", "gather_facts": False, "become": True, "tasks": tasks}
    playbook.write_text(yaml.safe_dump([play_of_site]), "utf-8")
    with simulated([SimulatedBoard("attic"), SimulatedBoard("barn"), SimulatedBoard("eaves")]) as world:
        inventory = tmp_path / "mine.json"
        more = {"ansible_ssh_retries": 0}
        inventory.write_text(json.dumps(world.inventory(attic=more, barn=more, eaves=more)), "utf-8")
        ran = play(playbook, inventory)
    recap = ran.recap()
    assert {name: counts["ok"] for name, counts in recap.items()} == {"attic": 3, "barn": 1, "eaves": 3}
    assert recap["barn"]["unreachable"] == 1
    assert ran.status == 4
    end = ran.said.partition("1 OF 3 HOSTS FAILED")[2]
    assert "barn was lost at Change the board" in end
    assert "attic" not in end
