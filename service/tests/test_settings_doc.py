"""The pages for operators say what the code does."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pinch
import pytest
from pinch.cli.command import COMMANDS
from pinch.cli.errors import MEANING
from pinch.settings import Declared, declared

from service.settings_doc import DOCUMENT, render

PACKAGE = Path(pinch.__file__).parent


def test_the_settings_page_is_what_the_code_declares() -> None:
    assert DOCUMENT.read_text("utf-8") == render(), "run `make docs`"


def reads() -> set[tuple[str, str]]:
    """Every attribute read outside settings.py, with the last name of what it is read from."""
    found = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name == "settings.py":
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                owner = node.value
                name = (
                    owner.attr if isinstance(owner, ast.Attribute) else owner.id if isinstance(owner, ast.Name) else ""
                )
                found.add((name.lstrip("_"), node.attr))
    return found


READS = reads()


@pytest.mark.parametrize("setting", list(declared()), ids=lambda setting: setting.key)
def test_every_setting_is_read_from_the_settings(setting: Declared) -> None:
    section, _, name = setting.key.rpartition(".")
    owners = {"settings", section} if section else {"settings"}
    assert {(owner, name) for owner in owners} & READS, f"nothing reads {setting.key}"


def test_the_command_page_has_every_command_and_every_exit_status() -> None:
    page = (DOCUMENT.parent / "cli.md").read_text("utf-8")
    for command in COMMANDS:
        assert re.search(rf"^## `pinch {command}\b", page, re.MULTILINE), command
    rows = dict(re.findall(r"^\| (\d+) \| (.+) \|$", page, re.MULTILINE))
    assert rows == {str(int(status)): meaning for status, meaning in MEANING.items()}
