#!/usr/bin/python
"""Ansible module: which releases a board has, and which deployment its service runs."""

from __future__ import annotations

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.pinch_board import Board
from ansible.module_utils.pinch_generations import GenerationError, Generations

DOCUMENTATION = r"""
module: deployment_state
short_description: Read which releases a board has and what its service runs
options:
  home:
    description: Folder that holds C(releases/) and the link C(current).
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
  back_to:
    description: >-
      Release that the board is to go back to, empty for the one before; fails with a sentence where it cannot.
    type: str
author: The Pinch authors
"""
EXAMPLES = r"""
- name: Read what is deployed
  deployment_state:
    home: /opt/pinch
    launcher: /usr/local/bin/pinch
    models: /var/lib/pinch-models
    unit: pinch.service
"""
RETURN = r"""
state:
  description: >-
    C(releases), names of whole releases; C(generations), those of them that can run again as they did; C(current),
    the one that the link names; C(active); C(release), the one that the process runs from; C(deployment),
    the value of DEPLOYMENT in the running process; C(memory_max), bytes, 0 where the kernel sets no limit;
    C(target), the release that O(back_to) means.
  returned: always
  type: dict
"""


def releases(home: Path) -> list[str]:
    """Return the names of the releases below `home` that were unpacked and compiled to the end."""
    folder = home / "releases"
    if not folder.is_dir():
        return []
    whole = (path for path in folder.iterdir() if path.suffix != ".partial" and (path / "release.json").exists())
    return sorted(path.name for path in whole)


def main() -> None:
    """Read and return."""
    module = AnsibleModule(
        argument_spec={
            "home": {"type": "path", "required": True},
            "launcher": {"type": "path", "required": True},
            "models": {"type": "path", "required": True},
            "unit": {"type": "str", "required": True},
            "back_to": {"type": "str"},
        },
        supports_check_mode=True,
    )
    home = Path(module.params["home"])
    board = Board(home, Path(module.params["launcher"]), Path(module.params["models"]), module.params["unit"])
    generations = Generations(home)
    running = board.running()
    try:
        back_to = module.params["back_to"]
        target = "" if back_to is None else generations.target(back_to, board.linked()).release
    except GenerationError as error:
        module.fail_json(msg=f"{error}. Nothing was changed")
    state = {
        "releases": releases(home),
        "generations": generations.known(),
        "current": board.linked(),
        # One that waits serves as soon as the successor that a cut run left has ended.
        "active": running.active or running.waits,
        "release": running.release,
        "deployment": running.deployment,
        "memory_max": running.memory_max,
        "target": target,
    }
    module.exit_json(changed=False, state=state)


if __name__ == "__main__":
    main()
