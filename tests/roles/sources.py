"""Load the roles' Python, which Ansible runs as files and not as packages."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import ansible.module_utils

REPOSITORY = Path(__file__).resolve().parents[2]
ROLES = REPOSITORY / "roles"
ROLE_NAMES = sorted(path.parents[1].name for path in ROLES.glob("*/meta/argument_specs.yml"))
# Where Ansible, too, finds what modules share; it packs both into what it sends to a board.
ansible.module_utils.__path__ += [str(path) for path in ROLES.glob("*/module_utils")]


def load(path: str) -> ModuleType:
    """Import the file at `path` below `roles/`."""
    file = ROLES / path
    spec = importlib.util.spec_from_file_location(f"roles_{file.stem}", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
