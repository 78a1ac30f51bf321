"""Who is touched when, and by what: the plays themselves, with roles that only leave a note."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from tests.playbook import ANSIBLE, Played, local_fleet, play

FLEET = ("attic", "barn", "cellar", "den")


def noting_roles(folder: Path, notes: Path, tasks: Mapping[str, list[str]], broken: str = "") -> Path:
    """Write roles whose tasks leave a note each; the role pinch fails on the host `broken`."""
    for role, files in tasks.items():
        for name in files:
            note = {
                "name": "Leave a note",
                "ansible.builtin.lineinfile": {
                    "path": str(notes), "line": f"{{{{ inventory_hostname }}}} {role} {name}", "create": True,
                    "insertafter": "EOF",
                },
                "throttle": 1,
            }  # fmt: skip
            fail = {
                "name": "Fail as a release does",
                "ansible.builtin.fail": {"msg": "release b is not healthy"},
                "when": f"inventory_hostname == '{broken}'",
            }
            file = folder / role / "tasks" / f"{name}.yml"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(yaml.safe_dump([note, *([fail] if role == "pinch" else [])]), "utf-8")
    return folder


class Fleet:
    """Boards that are this machine, and what was done to them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"

    def upgrade(self, *more: str, broken: str = "", dead: str = "", **variables: str) -> Played:
        tasks = {"preflight": ["main"], "models": ["main"], "pinch": ["main"]}
        roles = noting_roles(self.folder / "roles", self.notes, tasks, broken)
        inventory = local_fleet(
            self.folder, *(name for name in FLEET if name != dead), **dict.fromkeys([dead] if dead else [], True)
        )
        return play(ANSIBLE / "upgrade.yml", inventory, *more, variables=variables, roles=[roles])

    def reset(self, *more: str, **variables: object) -> Played:
        tasks = {"preflight": ["main"], "backup": ["main"], "pinch": ["absent"], "models": ["absent"]}
        roles = noting_roles(self.folder / "roles", self.notes, tasks)
        ours = {"reset_roles": ["pinch", "models"], **variables}
        return play(ANSIBLE / "reset.yml", local_fleet(self.folder, *FLEET[:2]), *more, variables=ours, roles=[roles])

    def touched(self, role: str) -> list[str]:
        """Return the hosts on which a role worked, in order."""
        lines = self.notes.read_text("utf-8").splitlines() if self.notes.exists() else []
        return [line.split()[0] for line in lines if line.split()[1] == role]


@pytest.fixture
def fleet(tmp_path: Path) -> Fleet:
    """Four boards."""
    return Fleet(tmp_path)


def test_the_canary_goes_first_and_all_others_follow(fleet: Fleet) -> None:
    played = fleet.upgrade(upgrade_canary="cellar")
    assert played.status == 0, played.said
    assert fleet.touched("pinch")[0] == "cellar"
    assert sorted(fleet.touched("pinch")) == sorted(FLEET)


def test_a_release_that_fails_at_the_canary_touches_no_other_board(fleet: Fleet) -> None:
    played = fleet.upgrade(broken="attic")
    assert played.status != 0
    assert "release b is not healthy" in played.words
    assert fleet.touched("pinch") == ["attic"]


def test_a_release_that_fails_later_touches_no_board_after_it(fleet: Fleet) -> None:
    played = fleet.upgrade(broken="barn", upgrade_batch="1")
    assert played.status != 0
    assert fleet.touched("pinch") == ["attic", "barn"]


def test_a_board_that_is_dead_stops_the_upgrade_before_any_is_touched(fleet: Fleet) -> None:
    played = fleet.upgrade(dead="den")
    assert played.status != 0
    assert played.recap["den"].unreachable == 1
    assert fleet.touched("pinch") == []


def test_a_canary_that_is_no_board_of_the_run_is_refused_before_any_is_touched(fleet: Fleet) -> None:
    played = fleet.upgrade(upgrade_canary="kitchen")
    assert played.status != 0
    assert "upgrade_canary is kitchen; expected one of attic, barn, cellar, den" in played.words
    assert fleet.touched("pinch") == []


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("", "no name was typed; expected exactly attic, barn"),
        ("attic", "the names typed are attic; expected exactly attic, barn"),
        ("attic, kitchen", "the names typed are attic, kitchen; expected exactly attic, barn"),
    ],
)
def test_nothing_is_reset_whose_name_was_not_typed(fleet: Fleet, typed: str, said: str) -> None:
    played = fleet.reset(reset_confirm=typed)
    assert played.status != 0
    assert said in played.words
    assert not fleet.notes.exists()


def test_nothing_is_reset_where_nobody_is_there_to_type(fleet: Fleet) -> None:
    played = fleet.reset()
    assert played.status != 0
    assert "no name was typed" in played.words
    assert not fleet.notes.exists()


def test_a_reset_backs_up_first_and_then_takes_back_role_by_role(fleet: Fleet) -> None:
    played = fleet.reset(reset_confirm="barn,attic")
    assert played.status == 0, played.said
    assert sorted(fleet.touched("backup")) == ["attic", "barn"]
    roles = [line.split()[1] for line in fleet.notes.read_text("utf-8").splitlines()]
    assert roles.index("backup") < roles.index("pinch") < roles.index("models")


def test_a_reset_without_a_backup_has_to_be_asked_for(fleet: Fleet) -> None:
    played = fleet.reset("--limit", "barn", reset_confirm="barn", reset_backup=False)
    assert played.status == 0, played.said
    assert fleet.touched("backup") == []
    assert fleet.touched("pinch") == ["barn"]
