"""A profile: variables of the roles around the kernel, under a name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import yaml

from tests.cache import REPOSITORY

ROLES = ("sysctl", "readahead", "journald", "tmp")
"""Roles that a profile may say something to; they are the ones that run between two measurements."""


class ProfileError(ValueError):
    """A profile that the roles would not know."""


class Profile(NamedTuple):
    """What is compared with what."""

    name: str
    variables: dict[str, object]


def parse(text: str) -> Profile:
    """Read a profile: the name of a sysctl profile, or variables such as `sysctl_profile=auto,readahead_kb=128`.

    Raises:
        ProfileError: no role has such a variable, or no such value of it.
    """
    options = _options()
    variables: dict[str, object] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals:
            name, value = "sysctl_profile", part
        if name not in options:
            raise ProfileError(f"no role has a variable {name}; expected one of {', '.join(sorted(options))}")
        if name in variables:
            raise ProfileError(f"{text} says {name} twice; expected it once")
        variables[name] = _value(name, value, options[name])
    return Profile(text, variables)


def parse_all(texts: Sequence[str]) -> list[Profile]:
    """Read the profiles to compare, the one that the others are measured against first.

    Raises:
        ProfileError: fewer than two, one twice, or one that the roles would not know.
    """
    profiles = [parse(text) for text in texts]
    if len(profiles) < 2:
        raise ProfileError(f"{len(profiles)} profile to compare; expected two or more, such as auto host-report")
    if len({str(sorted(each.variables.items())) for each in profiles}) < len(profiles):
        raise ProfileError(f"two of {', '.join(texts)} are the same; expected different ones")
    return profiles


def _value(name: str, text: str, option: dict[str, object]) -> object:
    choices = option.get("choices")
    if isinstance(choices, list) and text not in choices:
        raise ProfileError(f"{name} is {text!r}; expected one of {', '.join(map(str, choices))}")
    if option["type"] == "int":
        if not re.fullmatch(r"\d+", text):
            raise ProfileError(f"{name} is {text!r}; expected a whole number")
        return int(text)
    if option["type"] not in {"str", "path"}:
        raise ProfileError(f"{name} is a {option['type']}; a profile can say only numbers and words")
    return text


def _options() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for role in ROLES:
        file = REPOSITORY / "roles" / role / "meta" / "argument_specs.yml"
        found |= yaml.safe_load(file.read_text("utf-8"))["argument_specs"]["main"]["options"]
    return found
