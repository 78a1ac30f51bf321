"""Defaults, specifications and READMEs of the roles say the same."""

from __future__ import annotations

import pytest

from tests.roles.sources import ROLE_NAMES, ROLES, load

readme = load("readme.py")


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_defaults_and_specification_have_the_same_keys_and_values(role: str) -> None:
    assert readme.drift(ROLES / role) == []


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_the_readme_is_what_the_specification_generates(role: str) -> None:
    assert (ROLES / role / "README.md").read_text("utf-8") == readme.render(ROLES / role)


def test_the_page_of_all_variables_is_what_the_specifications_generate() -> None:
    assert readme.VARIABLES.read_text("utf-8") == readme.render_variables()


@pytest.mark.parametrize("role", ROLE_NAMES)
def test_every_task_has_the_tag_of_its_role(role: str) -> None:
    tasks = readme.yaml.safe_load((ROLES / role / "tasks" / "main.yml").read_text("utf-8"))
    for task in tasks:
        tags = set(task.get("tags", []))
        assert role in tags, task["name"]
        assert any(tag.startswith(f"{role}_") for tag in tags), task["name"]
