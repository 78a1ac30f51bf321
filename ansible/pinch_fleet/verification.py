"""What verify.yml hands to the tests: the boards that were reached, and the variables that tests look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROLES = Path(__file__).resolve().parents[2] / "roles"
CONNECTION = (
    "ansible_connection",
    "ansible_host",
    "ansible_port",
    "ansible_user",
    "ansible_become",
    "ansible_become_user",
    "ansible_ssh_common_args",
    "ansible_ssh_extra_args",
    "ansible_ssh_private_key_file",
    "ansible_private_key_file",
)
SECRET = ("pinch_tokens", "pinch_provider_key")
"""Variables of the roles that no test needs and that are not to lie on the controller's disk."""


def boards(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return name, reason against it and variables of each host.

    Args:
        hosts: names.
        variables: by name of the host, templates resolved; `fleet_reached` is the playbook's.
    """
    prefixes = tuple(f"{path.parents[1].name}_" for path in ROLES.glob("*/meta/argument_specs.yml"))
    return [_board(str(host), variables[host], prefixes) for host in hosts]


def _board(host: str, variables: Mapping[str, Any], prefixes: tuple[str, ...]) -> dict[str, Any]:
    reached = variables.get("fleet_reached") or {}
    lost = any(reached.get(word) for word in ("unreachable", "failed", "timedout"))
    wanted = [name for name in variables if name in CONNECTION or (name.startswith(prefixes) and name not in SECRET)]
    return {
        "name": host,
        "why": str(reached.get("msg") or "no answer") if lost else "",
        "variables": {} if lost else {name: variables[name] for name in wanted},
    }
