"""TOML tables, read strictly: every key is known, of the right kind, and said once."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .failure import ImageError


class Table:
    """One TOML table whose every key is taken exactly once; what is left over at the end is refused by name."""

    def __init__(self, where: str, values: Mapping[str, Any]) -> None:
        self.where = where
        self._left = dict(values)
        self._known: list[str] = []

    def take(self, key: str, kind: type, default: Any = None) -> Any:
        """Return the value of `key`; without a default the key must be there. Raises ImageError."""
        self._known.append(key)
        if key not in self._left:
            if default is None:
                raise ImageError(f"{self.where}: key {key!r} is missing; add it ({kind.__name__} expected).")
            return default
        value = self._left.pop(key)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise ImageError(f"{self.where}: {key} is {value!r}, expected {kind.__name__}; correct it.")
        return value

    def names(self, key: str, pattern: re.Pattern[str] | None = None) -> tuple[str, ...]:
        """Return a list of distinct strings that all match `pattern`. Raises ImageError."""
        values = self.take(key, list)
        for value in values:
            if not isinstance(value, str) or not value or (pattern and not pattern.fullmatch(value)):
                raise ImageError(f"{self.where}: {key} holds {value!r}, expected a valid name; correct it.")
        if twice := sorted({value for value in values if values.count(value) > 1}):
            raise ImageError(f"{self.where}: {key} names {twice[0]} twice; remove one of them.")
        return tuple(values)

    def end(self) -> None:
        """Refuse what nobody took. Raises ImageError."""
        for key in self._left:
            near = difflib.get_close_matches(key, self._known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(self._known)}."
            raise ImageError(f"{self.where}: unknown key {key!r}; {hint}")


def read_toml(path: Path) -> dict[str, Any]:
    """Return the tables of a TOML file. Raises ImageError if it is missing or no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ImageError(f"{path} does not exist; restore it from the repository.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ImageError(f"{path} is not valid TOML ({error}); correct it.") from None
