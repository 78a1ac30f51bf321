"""An inventory written from a list of boards: hosts.yml, and a file of variables for each tier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from .listing import Listed

MARK = "# Made by ansible/inventory/generate"


class InventoryError(ValueError):
    """The inventory cannot be written; the message says what to do."""


def hosts_file(boards: Sequence[Listed], source: str) -> str:
    """Return `hosts.yml`: the group pinch, and in it a group for each tier and each site."""
    children: dict[str, dict[str, Any]] = {}
    for board in boards:
        for kind, of in (("tier", board.tier), ("site", board.site)):
            if of:
                children.setdefault(f"{kind}_{of}", {"hosts": {}})["hosts"][board.name] = {}
    group: dict[str, Any] = {"hosts": {board.name: _variables(board) for board in boards}}
    if children:
        group["children"] = dict(sorted(children.items()))
    body = yaml.safe_dump({"pinch": group}, sort_keys=False, default_flow_style=False, allow_unicode=True)
    return f"---\n{MARK} from {source}; change that list and run it again.\n{body}"


def group_files(boards: Sequence[Listed]) -> dict[str, str]:
    """Return the variables of each tier's group and an empty file for each site's, by file name."""
    files = {f"tier_{board.tier}.yml": f"---\npinch_tier: {board.tier}\n" for board in boards if board.tier}
    sites = {
        f"site_{board.site}.yml": f"---\n# What holds for the boards at {board.site}; see docs/variables.md.\n"
        for board in boards
        if board.site
    }
    return {**files, **sites}


def write(folder: Path, boards: Sequence[Listed], source: str, *, replace: bool = False) -> list[Path]:
    """Write an inventory and return the files that are new or other than before.

    Files of variables are yours: one that is there is left alone.

    Raises:
        InventoryError: there is a hosts.yml that was not made from a list, and `replace` is off.
        OSError: it cannot be written.
    """
    hosts = folder / "hosts.yml"
    if hosts.exists() and MARK not in hosts.read_text("utf-8") and not replace:
        raise InventoryError(f"{hosts} was written by hand; give another --out, or --replace to lose what is in it")
    (folder / "group_vars").mkdir(parents=True, exist_ok=True)
    wanted = {hosts: hosts_file(boards, source)}
    for name, text in group_files(boards).items():
        if not (folder / "group_vars" / name).exists():
            wanted[folder / "group_vars" / name] = text
    changed = [path for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text]
    for path in changed:
        path.write_text(wanted[path], "utf-8")
    return changed


def _variables(board: Listed) -> dict[str, Any]:
    named = {
        "ansible_host": board.address,
        "ansible_port": board.port,
        "ansible_user": board.user,
        "preflight_other_memory_mb": board.other_memory_mb,
    }
    return {name: value for name, value in named.items() if value}
