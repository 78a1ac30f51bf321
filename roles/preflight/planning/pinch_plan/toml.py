"""TOML, written: the standard library only reads it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def to_toml(settings: Mapping[str, Any]) -> str:
    """Write `settings` as TOML: plain values, lists of them, and one level of sections."""
    flat = [f"{key} = {_toml(value)}" for key, value in settings.items() if not isinstance(value, Mapping)]
    blocks = ["\n".join(flat)] if flat else []
    for key, value in settings.items():
        if isinstance(value, Mapping):
            blocks.append("\n".join([f"[{key}]", *(f"{name} = {_toml(inner)}" for name, inner in value.items())]))
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    escapes = {'"': '\\"', "\\": "\\\\"}
    text = "".join(escapes.get(c, c) if c >= " " and c != "\x7f" else f"\\u{ord(c):04x}" for c in str(value))
    return f'"{text}"'
