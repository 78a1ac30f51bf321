"""Query strings, as strict as bodies."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

from aiohttp import web

from pinch.errors import Invalid
from pinch.gateway.bodies import check_name

PAGE_DEFAULT = 50
PAGE_LIMIT = 200


class Query(NamedTuple):
    """The parameters of one request, each given at most once."""

    values: dict[str, str]

    @classmethod
    def of(cls, request: web.Request, *known: str) -> Query:
        """Read the query string of `request`, which may have the parameters `known`.

        Raises:
            Invalid: a parameter is unknown, given twice or no UTF-8.
        """
        values: dict[str, str] = {}
        raw = request.rel_url.raw_query_string
        try:
            given = parse_qsl(raw, keep_blank_values=True, errors="strict")
        except UnicodeDecodeError:
            raise Invalid("the query string is not UTF-8", param="query", hint="percent-encode UTF-8 bytes") from None
        for name, value in given:
            if name not in known:
                listed = ", ".join(known) or "none"
                raise Invalid(
                    f"there is no parameter {name[:40]!r}", param=name[:40], hint=f"the parameters are: {listed}"
                )
            if name in values:
                raise Invalid(f"parameter {name} is given twice", param=name)
            values[name] = value
        return cls(values)

    def name(self, name: str) -> str | None:
        """Return a space or tag, or None where it is not given.

        Raises:
            Invalid: it is no such name.
        """
        value = self.values.get(name)
        return None if value is None else check_name(value, name)

    def text(self, name: str) -> str | None:
        """Return a parameter as it stands."""
        return self.values.get(name)

    def limit(self) -> int:
        """Return the page size.

        Raises:
            Invalid: it is no number from 1 to `PAGE_LIMIT`.
        """
        value = self.values.get("limit", str(PAGE_DEFAULT))
        if not (value.isascii() and value.isdigit() and len(value) < 10 and 1 <= int(value) <= PAGE_LIMIT):
            raise Invalid(f"limit is {value[:20]!r}; expected 1 to {PAGE_LIMIT}", param="limit")
        return int(value)
