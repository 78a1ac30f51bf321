#!/usr/bin/python
"""Ansible module: let a board run a release with its settings and units, or go back to one that it ran."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_board import Board
from ansible.module_utils.pinch_generations import Generation, GenerationError, Generations
from ansible.module_utils.pinch_judge import Wishes
from ansible.module_utils.pinch_switch import Switch, SwitchError
from ansible.module_utils.pinch_turn import TurnError, turn, unwind_when_ended

DOCUMENTATION = r"""
module: deployment
short_description: Let a board run a release with its settings and units
description:
  - Writes settings and units, lets the links name the release, restarts the service and judges what runs then by its
    own answers. Where that is not healthy, the board runs again what was healthy before, with its settings, units and
    model.
  - A release that takes over from one that serves is first started in a unit of its own, loads everything and waits
    for the store. It then serves, with the release of before waiting behind it; when it has proved healthy, it gives
    the store to the service's own unit.
  - Everything happens in one remote call, so no trip to the board lengthens the time without answers.
options:
  home:
    description: Folder that holds C(releases/), C(generations/) and the link C(current).
    type: path
    required: true
  launcher:
    description: Link on the search path that starts the command line.
    type: path
    required: true
  models:
    description: Folder that holds the models and the link C(current).
    type: path
    required: true
  unit:
    description: The service's unit.
    type: str
    required: true
  release:
    description: Release to run, with O(files).
    type: str
  files:
    description: Text of settings and units by path.
    type: dict
  back_to:
    description: Release to go back to, with the settings, units and model it had; empty goes to the one before.
    type: str
  memory_max:
    description: Bytes that the kernel has to limit the service to; 0 asks nothing.
    type: int
    default: 0
  patience_s:
    description: Seconds that the start may take.
    type: float
    required: true
  thorough:
    description: Whether the service has to remember, recall and pass C(pinch doctor) too.
    type: bool
    default: false
  restart:
    description: Whether to restart even where nothing differs.
    type: bool
    default: false
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Go back to the release before
  deployment:
    home: /opt/pinch
    launcher: /usr/local/bin/pinch
    models: /var/lib/pinch-models
    unit: pinch.service
    back_to: ""
    patience_s: 60
"""
RETURN = r"""
release:
  description: Release that runs now.
  returned: success
  type: str
before:
  description: Release that ran before, empty where it is the same.
  returned: success
  type: str
seconds:
  description: From the end of what served right before until the service was ready; 0 where nothing was restarted.
  returned: success
  type: float
"""


def wanted_of(params: dict[str, Any], board: Board, generations: Generations) -> Generation:
    """Return the generation that is asked for.

    Raises:
        GenerationError: there is nothing to go back to.
    """
    if params["release"] is None:
        return generations.target(params["back_to"], board.linked())
    return Generation(params["release"], params["files"], board.model())


def differences(board: Board, wanted: Generation) -> list[dict[str, str]]:
    """Return what would change, as Ansible's diffs."""
    found = board.texts(wanted.files)
    link = str(board.home / "current")
    changes = [(link, board.linked(), wanted.release)] if board.linked() != wanted.release else []
    changes += [(name, found.get(name, ""), wanted.files[name]) for name in board.differing(wanted.files)]
    return [
        {"before_header": name, "after_header": name, "before": before, "after": after}
        for name, before, after in changes
    ]


def deploy(module: AnsibleModule, home: Path) -> None:
    """Do what the module's parameters ask for, and tell Ansible.

    Raises:
        GenerationError: there is nothing to run.
        SwitchError: it is not healthy.
    """
    params = module.params
    board = Board(home, Path(params["launcher"]), Path(params["models"]), params["unit"])
    generations = Generations(home)
    switch = Switch(board, generations)
    if not module.check_mode:
        switch.tidy()
    wanted = wanted_of(params, board, generations)
    diff = differences(board, wanted)
    if switch.settled(wanted) and not params["restart"]:
        switch.await_ready(wanted, params["patience_s"])
        if not module.check_mode:
            switch.keep_what_runs(wanted.files)
        module.exit_json(changed=False, release=wanted.release, before="", seconds=0)
    if module.check_mode:
        module.exit_json(changed=True, release=wanted.release, before=board.linked(), seconds=0, diff=diff)
    if not generations.installed(wanted.release):
        raise GenerationError(f"release {wanted.release} is not installed; run the role pinch whole")
    back = params["release"] is None
    wishes = Wishes(params["patience_s"], params["memory_max"], params["thorough"], back)
    outcome = switch.change(wanted, wishes)
    module.exit_json(changed=True, release=wanted.release, before=outcome.before, seconds=outcome.seconds, diff=diff)


def main() -> None:
    """Judge, change, judge again."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "launcher": {"type": "path", "required": True},
            "models": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "release": {"type": "str"},
            "files": {"type": "dict"},
            "back_to": {"type": "str"},
            "memory_max": {"type": "int", "default": 0},
            "patience_s": {"type": "float", "required": True},
            "thorough": {"type": "bool", "default": False},
            "restart": {"type": "bool", "default": False},
        },
        required_one_of=[("release", "back_to")],
        mutually_exclusive=[("release", "back_to")],
        required_together=[("release", "files")],
        supports_check_mode=True,
    )
    unwind_when_ended()
    home = Path(module.params["home"])
    try:
        with nullcontext() if module.check_mode else turn():
            deploy(module, home)
    except (GenerationError, SwitchError, TurnError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or home}: {error.strerror}; repair the board's disk and run again")


if __name__ == "__main__":
    main()
