"""Variables: which the roles declare, and which of a host's nobody knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[3]


def unknown_variables(names: Iterable[str], roles: Iterable[str], known: Iterable[str] = ()) -> list[str]:
    """Return a sentence for each variable that has a role's prefix and that no role declares.

    Args:
        names: all variables of a host.
        roles: roles whose `meta/argument_specs.yml` declares what there is.
        known: names that roles export.
    """
    prefixes = tuple(f"{role}_" for role in roles)
    declared = {*known, *(name for role in roles for name in declared_options(role))}
    sentences = []
    for name in sorted(set(names) - declared):
        if name.startswith(prefixes):
            close = difflib.get_close_matches(name, declared, n=1)
            hint = f"did you mean {close[0]}?" if close else "see the README of the role"
            sentences.append(f"variable {name} is not known; {hint}")
    return sentences


def declared_options(role: str) -> dict[str, Any]:
    """Return the options of a role as its argument specification declares them; none where it has no such file."""
    path = ROLES / role / "meta" / "argument_specs.yml"
    if not path.exists():
        return {}
    options: dict[str, Any] = yaml.safe_load(path.read_text("utf-8"))["argument_specs"]["main"]["options"]
    return options
