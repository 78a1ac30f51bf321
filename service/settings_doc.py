"""Writes `docs/settings.md` from the settings that the service declares: `python -m service.settings_doc`."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any, get_origin

from pinch.settings import DEFAULT_CONFIG, Declared, declared

DOCUMENT = Path(__file__).parent.parent / "docs" / "settings.md"
_TYPES = {bool: "true or false", int: "whole number", str: "text"}
_HEAD = f"""# Settings

A setting stands in `{DEFAULT_CONFIG}` (`PINCH_CONFIG` names another file) or in the environment, which wins.
Sizes say their unit in the name; MB means MiB. An unknown key or variable keeps the service from starting,
and the message has the nearest known name. In a variable the parts of a list are separated by commas.

    listen = "127.0.0.1:18789"

    [gateway]
    max_connections = 32

`make docs` writes this page from `service/src/pinch/settings.py`.
"""


def render() -> str:
    """Return the page: one table a section, in the order of declaration."""
    parts = [_HEAD]
    for section, settings in groupby(declared(), key=lambda setting: setting.key.rpartition(".")[0]):
        title = f"`[{section}]`" if section else "Top level"
        rows = "".join(_row(setting) for setting in settings)
        parts.append(f"## {title}\n\n| key | variable | type | default | what it does |\n|---|---|---|---|---|\n{rows}")
    return "\n".join(parts)


def _row(setting: Declared) -> str:
    name = setting.key.rpartition(".")[2]
    kind = "list of texts" if get_origin(setting.type) is list else _TYPES[setting.type]
    sentence = setting.doc.replace("|", "\\|")
    return f"| `{name}` | `{setting.variable}` | {kind} | `{_toml(setting.default)}` | {sentence} |\n"


def _toml(value: Any) -> str:
    """Return a default as TOML writes it; JSON writes texts, numbers, booleans and lists of texts the same."""
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    DOCUMENT.write_text(render(), "utf-8")
