"""One table of a TOML or JSON document, read key by key, with every mistake named."""

import difflib
from collections.abc import Iterator, Sequence
from typing import Any

from pinch_models.errors import PinError


class Table:
    """Hands out typed values; `close` refuses the keys that nobody asked for."""

    def __init__(self, where: str, values: object) -> None:
        """Wrap ``values``, which errors call ``where``."""
        if not isinstance(values, dict):
            raise PinError(f"{where} is {_kind(values)}, expected a table")
        self.where = where
        self._values: dict[str, Any] = values
        self._asked: set[str] = set()

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def text(self, key: str, default: str | None = None) -> str:
        """Return a string; without ``default`` it must be there."""
        value = self._get(key, default)
        if not isinstance(value, str):
            raise PinError(f"{self.where}: {key} is {_kind(value)}, expected text")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return one of ``choices``."""
        value = self.text(key, default)
        if value not in choices:
            raise PinError(f"{self.where}: {key} is {value!r}, expected one of {', '.join(choices)}")
        return value

    def integer(self, key: str, least: int, most: int, default: int | None = None) -> int:
        """Return an integer from ``least`` to ``most``."""
        value = self._get(key, default)
        if not isinstance(value, int) or isinstance(value, bool):
            raise PinError(f"{self.where}: {key} is {_kind(value)}, expected an integer")
        if not least <= value <= most:
            raise PinError(f"{self.where}: {key} is {value}, expected {least} to {most}")
        return value

    def table(self, key: str) -> "Table":
        """Return the table under ``key``."""
        return Table(f"{self.where}.{key}", self._get(key, None))

    def tables(self) -> Iterator[tuple[str, "Table"]]:
        """Yield every key with the table under it."""
        for key in self._values:
            yield key, self.table(key)

    def close(self) -> None:
        """Refuse keys that were never asked for."""
        for key in self._values:
            if key not in self._asked:
                raise PinError(f"{self.where}: unknown key {key!r}{_nearest(key, self._asked)}")

    def _get(self, key: str, default: object) -> object:
        self._asked.add(key)
        value = self._values.get(key, default)
        if value is None:
            near = _nearest(key, set(self._values) - self._asked)
            raise PinError(f"{self.where}: {key} is missing; add it{near}")
        return value


def _nearest(key: str, known: set[str]) -> str:
    near = difflib.get_close_matches(key, sorted(known), n=1)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _kind(value: object) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
