"""The example inventory: only variables that exist, and secrets that work as its comments say."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from pinch_plan.variables import declared_options

from tests.cache import REPOSITORY
from tests.roles.sources import ROLE_NAMES

EXAMPLE = REPOSITORY / "ansible" / "inventory" / "example"
CONNECTION = {"ansible_host", "ansible_port", "ansible_user"}
FILES = sorted(
    [
        *EXAMPLE.glob("group_vars/**/*.yml*"),
        *EXAMPLE.glob("host_vars/*"),
        *REPOSITORY.glob("ansible/group_vars/*"),
    ]
)


def options() -> dict[str, Any]:
    return {name: option for role in ROLE_NAMES for name, option in declared_options(role).items()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(REPOSITORY / "ansible")))
def test_every_variable_of_the_example_exists(file: Path) -> None:
    known = {*options(), *CONNECTION}
    named = yaml.safe_load(file.read_text("utf-8"))
    assert not [name for name in named if name not in known and not name.startswith("vault_")]


def test_every_variable_of_its_hosts_exists() -> None:
    hosts = yaml.safe_load((EXAMPLE / "hosts.yml").read_text("utf-8"))["pinch"]["hosts"]
    assert len(hosts) == 3
    assert {name for variables in hosts.values() for name in variables} <= {*options(), *CONNECTION}


def test_its_choices_are_choices() -> None:
    declared = options()
    for file in FILES:
        for name, value in yaml.safe_load(file.read_text("utf-8")).items():
            assert value in declared.get(name, {}).get("choices", [value]), f"{file.name}: {name}"


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    """A copy of the example with its vault made as its comments say, the password in `right`."""
    mine = tmp_path / "mine"
    shutil.copytree(EXAMPLE, mine)
    (tmp_path / "right").write_text("correct horse\n", "utf-8")
    (tmp_path / "wrong").write_text("battery staple\n", "utf-8")
    vault = mine / "group_vars" / "pinch" / "vault.yml"
    shutil.copy(vault.with_name("vault.yml.example"), vault)
    command = ["ansible-vault", "encrypt", "--vault-password-file", str(tmp_path / "right"), str(vault)]
    subprocess.run(command, check=True, capture_output=True)
    assert vault.read_text("utf-8").startswith("$ANSIBLE_VAULT;")
    return mine


def test_the_vault_opens_with_its_password(mine: Path) -> None:
    command = ["ansible-inventory", "-i", str(mine), "--vault-password-file", str(mine.parent / "right"), "--list"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    library = json.loads(done.stdout)["_meta"]["hostvars"]["library"]
    assert library["vault_provider_key"] == "the key that your provider gave you"
    assert library["pinch_provider_key"] == "{{ vault_provider_key | default('') }}"


@pytest.mark.parametrize(
    ("playbook", "password"),
    [
        ("site.yml", ["--vault-password-file", "wrong"]),
        ("verify.yml", ["--vault-password-file", "wrong"]),
        ("preflight.yml", []),
    ],
)
def test_a_wrong_vault_password_stops_before_any_board_is_asked(mine: Path, playbook: str, password: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as board:
        where = {"ansible_host": "127.0.0.1", "ansible_port": board.getsockname()[1]}
        (mine / "hosts.yml").write_text(yaml.safe_dump({"pinch": {"hosts": {"library": where}}}), "utf-8")
        command = ["ansible-playbook", "-i", "mine", str(REPOSITORY / "ansible" / playbook), *password]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(REPOSITORY / "ansible" / "ansible.cfg")}
        done = subprocess.run(command, cwd=mine.parent, env=environment, capture_output=True, text=True)
        board.setblocking(False)
        with pytest.raises(BlockingIOError):
            board.accept()
    assert done.returncode != 0
    assert "vault" in done.stderr
    assert "changed=1" not in done.stdout


def test_a_key_may_stand_in_a_file_of_yours(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret\n", "utf-8")
    said = (EXAMPLE / "group_vars" / "site_home.yml").read_text("utf-8")
    line = next(line.strip("# ") for line in said.splitlines() if "lookup(" in line)
    variables = yaml.safe_load(line.replace("~/.config/pinch/provider-key", str(tmp_path / "key")))
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": {"localhost": variables}}}), "utf-8")
    command = ["ansible", "-i", str(tmp_path / "hosts.yml"), "localhost", "-c", "local"]
    command += ["-m", "ansible.builtin.debug", "-a", "var=pinch_provider_key"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "pinch_provider_key: s3cret" in done.stdout
