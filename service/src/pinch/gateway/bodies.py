"""Request bodies as typed values, each checked against its range."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
from attrs import field, frozen

from pinch.errors import Invalid, TooLarge
from pinch.gateway.structuring import structure
from pinch.memory.memories import Change, NewMemory
from pinch.memory.rows import EPOCH

TEXT_LIMIT = 64 * 1024
"""Bytes of UTF-8 that a memory's text may have."""
QUERY_LIMIT = 8 * 1024
"""Bytes of UTF-8 that a query may have."""
NAME_LIMIT = 200
"""Characters of a space, tag, source or thread."""
TAGS_LIMIT = 32
BATCH_LIMIT = 256
RESULTS_LIMIT = 100
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE)
MODES = ("hybrid", "keyword", "semantic")


def _plain(value: str, what: str) -> str:
    # Both looks are the interpreter's own loops: a text of 64 KiB is not walked through sign by sign.
    name = "a NUL" if "\0" in value else "" if _encodes(value) else "a lone surrogate"
    if name:
        raise Invalid(f"{what} holds {name} character", param=what, hint="send valid Unicode text")
    return value


def _encodes(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_text(value: str, what: str = "text", limit: int = TEXT_LIMIT) -> str:
    """Return a text that may be stored: 1 byte to `limit` bytes of valid Unicode without NUL.

    Raises:
        Invalid: it is empty, or holds a NUL or a lone surrogate.
        TooLarge: it is longer.
    """
    if not value:
        raise Invalid(f"{what} is empty; expected 1 byte to {limit} bytes", param=what)
    if len(value) > limit or len(value.encode("utf-8", "surrogatepass")) > limit:
        size = len(value.encode("utf-8", "surrogatepass"))
        hint = "ingest long texts as documents: PUT /v1/documents/{path}" if what == "text" else "shorten it"
        raise TooLarge(f"{what} has {size} bytes; the limit is {limit}", param=what, hint=hint)
    return _plain(value, what)


def check_name(value: str, what: str) -> str:
    """Return a space, tag, source or thread that may be stored.

    Raises:
        Invalid: it is empty, too long, or holds control characters.
    """
    if not 0 < len(value) <= NAME_LIMIT:
        raise Invalid(f"{what} has {len(value)} characters; expected 1 to {NAME_LIMIT}", param=what)
    if any(ord(sign) < 32 or ord(sign) == 127 for sign in value):
        raise Invalid(f"{what} holds control characters", param=what)
    return _plain(value, what)


def _check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    if len(tags) > TAGS_LIMIT:
        raise Invalid(f"tags has {len(tags)} entries; expected at most {TAGS_LIMIT}", param="tags")
    return tuple(dict.fromkeys(check_name(tag, "tags") for tag in tags))


def _milliseconds(value: str | None) -> int | None:
    if value is None:
        return None
    try:
        if RFC3339.fullmatch(value) is None:
            raise ValueError
        # In UTC it may lie in a year that no time has: that raises OverflowError.
        return (datetime.fromisoformat(value.upper()).astimezone(UTC) - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, OverflowError):
        raise Invalid(
            f"at is {value[:40]!r}; expected RFC 3339 with a zone, such as 2026-05-01T12:00:00Z", param="at"
        ) from None


@frozen(eq=False, repr=False)
class MemoryBody:
    """One memory of `POST /v1/memories`."""

    text: str
    space: str = "default"
    tags: list[str] = field(factory=list)
    source: str | None = None
    thread: str | None = None
    at: str | None = None

    def checked(self) -> NewMemory:
        """Return the memory to store.

        Raises:
            Invalid, TooLarge: a value is out of its range.
        """
        return NewMemory(
            text=check_text(self.text),
            space=check_name(self.space, "space"),
            tags=_check_tags(self.tags),
            source=None if self.source is None else check_name(self.source, "source"),
            thread=None if self.thread is None else check_name(self.thread, "thread"),
            at=_milliseconds(self.at),
        )


@frozen(eq=False, repr=False)
class BatchBody:
    """Many memories of `POST /v1/memories`."""

    memories: list[MemoryBody]

    def checked(self) -> list[NewMemory]:
        """Return the memories to store; the first fault refuses all.

        Raises:
            Invalid, TooLarge: names the memory by its place.
        """
        if not 0 < len(self.memories) <= BATCH_LIMIT:
            raise Invalid(f"memories has {len(self.memories)} entries; expected 1 to {BATCH_LIMIT}", param="memories")
        checked = []
        for place, memory in enumerate(self.memories):
            try:
                checked.append(memory.checked())
            except (Invalid, TooLarge) as error:
                param = f"memories[{place}].{error.param}"
                raise type(error)(f"memories[{place}]: {error.message}", param=param, hint=error.hint) from None
        return checked


@frozen(eq=False, repr=False)
class PatchBody:
    """Fields of `PATCH /v1/memories/{id}`; null clears source or thread."""

    text: str = ""
    tags: list[str] = field(factory=list)
    source: str | None = None
    thread: str | None = None
    at: str = ""


def checked_change(raw: Mapping[str, Any]) -> Change:
    """Return the change a PATCH body asks for.

    Raises:
        Invalid, TooLarge: a field is unknown or its value out of range.
    """
    body = structure(raw, PatchBody)
    given = frozenset(raw)
    if not given:
        raise Invalid("the body is empty; expected one of text, tags, source, thread, at", param="body")
    return Change(
        given=given,
        text=check_text(body.text) if "text" in given else "",
        tags=_check_tags(body.tags),
        source=None if body.source is None else check_name(body.source, "source"),
        thread=None if body.thread is None else check_name(body.thread, "thread"),
        at=_milliseconds(body.at) if "at" in given else None,
    )


@frozen(eq=False, repr=False)
class RecallBody:
    """Body of `POST /v1/recall`."""

    query: str
    space: str | None = None
    k: int = 6
    tags: list[str] = field(factory=list)
    mode: str = "hybrid"

    def checked(self) -> RecallBody:
        """Return the body with every value in range.

        Raises:
            Invalid, TooLarge: one is not.
        """
        check_text(self.query, "query", QUERY_LIMIT)
        if self.space is not None:
            check_name(self.space, "space")
        if not 1 <= self.k <= RESULTS_LIMIT:
            raise Invalid(f"k is {self.k}; expected 1 to {RESULTS_LIMIT}", param="k")
        if self.mode not in MODES:
            raise Invalid(f"mode is {self.mode[:40]!r}; expected {', '.join(MODES)}", param="mode")
        return attrs.evolve(self, tags=list(_check_tags(self.tags)))
