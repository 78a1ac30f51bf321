"""What stops a run before anything is changed, through `ansible-playbook` itself: this machine stands for the board."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.roles.sources import REPOSITORY

PLAY = [{"name": "Look at a board", "hosts": "pinch", "gather_facts": False, "roles": [{"role": "preflight"}]}]


def preflight(folder: Path, **variables: Any) -> str:
    """Run the role on this machine, which is no board; return what was said, without its line breaks."""
    (folder / "play.json").write_text(json.dumps(PLAY), "utf-8")
    here = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, **variables}
    hosts = {"pinch": {"hosts": {"here": here}}}
    (folder / "hosts.json").write_text(json.dumps(hosts), "utf-8")
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg"),
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
        "ANSIBLE_NOCOLOR": "1",
        # Root needs no sudo to be root; a stand-in for sudo has to be asked all the same.
        "ANSIBLE_BECOME_ALLOW_SAME_USER": "1",
    }
    done = subprocess.run(
        ["ansible-playbook", "-i", str(folder / "hosts.json"), str(folder / "play.json")],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0
    assert "changed=0" in done.stdout
    return done.stdout


def escalation(folder: Path, script: str) -> dict[str, Any]:
    """Return variables for a board whose sudo is the shell script `script`."""
    program = folder / "sudo"
    program.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    program.chmod(0o755)
    return {"ansible_become": True, "ansible_become_exe": str(program), "ansible_user": "pi"}


def test_a_machine_that_is_no_board_is_refused_with_everything_that_is_wrong_with_it(tmp_path: Path) -> None:
    said = preflight(tmp_path, pinch_tier="light", pinch_settings={"listn": "x"}, preflight_clock_skew_s=-1)
    for part in ("this board runs ", "unknown key listn; did you mean listen?", "the board's clock is"):
        assert part in said


def test_a_board_without_python_is_told_how_to_get_it(tmp_path: Path) -> None:
    said = preflight(tmp_path, ansible_python_interpreter="/usr/bin/python-that-is-not")
    assert "the board has no /usr/bin/python-that-is-not" in said
    assert "run `sudo apt install python3` on it" in said


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("echo 'sudo: a password is required' >&2; exit 1", "pi cannot become root on the board: sudo asks"),
        ("echo 'pi is not in the sudoers file.' >&2; exit 1", "pi is not in the sudoers file.; log in by hand"),
    ],
)  # fmt: skip
def test_a_sudo_that_does_not_let_us_in_says_what_to_do(tmp_path: Path, script: str, said: str) -> None:
    assert said in preflight(tmp_path, **escalation(tmp_path, script))


def test_without_sudo_the_sentence_names_what_is_missing(tmp_path: Path) -> None:
    variables = {**escalation(tmp_path, ""), "ansible_become_exe": str(tmp_path / "no-such-sudo")}
    said = preflight(tmp_path, **variables)
    assert "pi cannot become root on the board:" in said
    assert "no-such-sudo: not found" in said


def test_a_wrong_type_and_an_unknown_variable_are_named_before_the_board_is_asked(tmp_path: Path) -> None:
    wrong = preflight(tmp_path, pinch_watchdog_s="soon", ansible_python_interpreter="/nowhere")
    assert "pinch_watchdog_s" in wrong
    assert "cannot be converted to an int" in wrong or "unable to convert to int" in wrong
    unknown = preflight(tmp_path, packages_sorce="board", ansible_python_interpreter="/nowhere")
    assert "variable packages_sorce is not known; did you mean packages_source" in unknown
    assert "ask" in preflight(tmp_path, packages_source="ask", ansible_python_interpreter="/nowhere")


def test_what_boards_will_get_is_built_before_any_board_is_changed() -> None:
    """A wheel for another processor, or a model whose hash differs, then stops the run in time."""
    (play,) = yaml.safe_load((REPOSITORY / "ansible" / "site.yml").read_text("utf-8"))
    assert [entry["role"] for entry in play["roles"]][:3] == ["preflight", "supplies", "packages"]
