"""The tokens file: one `name token [until=RFC3339]` a line, `#` comments, readable by its owner alone.

A token never appears in an error: messages name the line and, where there is one, the token's name.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import stat
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from attrs import evolve, field, frozen

from pinch.errors import PinchError

TOKEN_BYTES = 32
"""Random bytes of a token made here (256 bits)."""
FIRST_NAME = "default"
"""Name of the token that a new file begins with."""
_LARGEST_FILE_BYTES = 1024 * 1024
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
# The characters of a bearer token, RFC 6750 section 2.1; 16 of them is the least that is not a password.
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{16,512}=*")
_OTHERS = stat.S_IRWXO | stat.S_IWGRP


class TokensError(PinchError):
    """A tokens file that cannot be used, or an edit that cannot be made; says what to do."""


class NoSuchTokenError(TokensError):
    """The file has no token of that name."""


@frozen
class Entry:
    """One token as the file has it."""

    name: str
    token: str = field(repr=False)
    until: datetime | None = None

    def valid(self, now: datetime) -> bool:
        """Whether the token still opens the door at `now`."""
        return self.until is None or now < self.until

    @property
    def fingerprint(self) -> str:
        """First 8 hex digits of the token's SHA-256: enough to tell two apart, useless to an attacker."""
        return hashlib.sha256(self.token.encode("ascii")).hexdigest()[:8]

    def line(self) -> str:
        """Return the entry as a line of the file."""
        until = f" until={self.until.isoformat()}" if self.until else ""
        return f"{self.name} {self.token}{until}"


class TokensFile(NamedTuple):
    """The file's lines in order: an `Entry`, or a comment or blank line as it stands."""

    lines: tuple[Entry | str, ...] = ()

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The tokens in the order of the file."""
        return tuple(line for line in self.lines if isinstance(line, Entry))

    def first(self, now: datetime) -> Entry | None:
        """Return the first token that is valid at `now`."""
        return next((entry for entry in self.entries if entry.valid(now)), None)

    def added(self, name: str) -> tuple[TokensFile, Entry]:
        """Return the file with a new token called `name`, and that token.

        Raises:
            TokensError: the name is taken, or is no name.
        """
        if any(entry.name == name for entry in self.entries):
            raise TokensError(f"a token called {name} exists; choose another name, or `pinch token rotate {name}`")
        entry = _new_entry(name)
        return TokensFile((*self.lines, entry)), entry

    def rotated(self, name: str, grace: timedelta, now: datetime) -> tuple[TokensFile, Entry]:
        """Return the file with a new token for `name`; the old ones end after `grace`, ended ones go.

        Raises:
            NoSuchTokenError: no token has that name.
        """
        self._require(name)
        end = (now + grace).replace(microsecond=0)
        entry = _new_entry(name)
        lines: list[Entry | str] = []
        last = 0
        for line in self.lines:
            if isinstance(line, Entry) and line.name == name:
                ending = end if line.until is None else min(end, line.until)
                if ending > now:
                    lines.append(evolve(line, until=ending))
                last = len(lines)
            else:
                lines.append(line)
        lines.insert(last, entry)
        return TokensFile(tuple(lines)), entry

    def revoked(self, name: str, now: datetime) -> TokensFile:
        """Return the file without any token called `name`.

        Raises:
            NoSuchTokenError: no token has that name.
            TokensError: no valid token would be left, and nobody could use the service.
        """
        self._require(name)
        left = TokensFile(tuple(line for line in self.lines if not (isinstance(line, Entry) and line.name == name)))
        if left.first(now) is None:
            raise TokensError(f"{name} is the last valid token; add another one first (`pinch token add NAME`)")
        return left

    def _require(self, name: str) -> None:
        if not any(entry.name == name for entry in self.entries):
            known = ", ".join(dict.fromkeys(entry.name for entry in self.entries)) or "none"
            raise NoSuchTokenError(f"no token is called {name}; the file has: {known}")


def read_tokens_file(path: Path) -> TokensFile:
    """Read the tokens file with its comments.

    Raises:
        TokensError: absent, unreadable, open to others, malformed, or without a token.
    """
    try:
        # Without O_NONBLOCK a named pipe in its place would hold the start of the service for ever.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as stream:
            status = os.fstat(stream.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise TokensError(f"tokens file {path} is not a regular file; expected one `name token` a line")
            if status.st_mode & _OTHERS:
                raise TokensError(
                    f"tokens file {path} has mode {stat.S_IMODE(status.st_mode):04o}, so others can use it; "
                    f"expected 0600: run `chmod 600 {path}` and rotate its tokens (`pinch token rotate NAME`)"
                )
            content = stream.read(_LARGEST_FILE_BYTES + 1)
    except FileNotFoundError:
        raise TokensError(
            f"tokens file {path} does not exist; start the service once, or run `pinch token add NAME`"
        ) from None
    except OSError as error:
        raise TokensError(
            f"tokens file {path} cannot be read: {error.strerror}; use sudo, or set PINCH_TOKENS_FILE"
        ) from None
    if len(content) > _LARGEST_FILE_BYTES:
        raise TokensError(
            f"tokens file {path} is larger than {_LARGEST_FILE_BYTES} bytes; expected one `name token` a line"
        )
    parsed = parse_tokens(content, str(path))
    if not parsed.entries:
        raise TokensError(f"tokens file {path} has no token; run `pinch token add NAME`")
    return parsed


def parse_tokens(content: bytes, origin: str) -> TokensFile:
    """Parse the bytes of a tokens file; `origin` names it in errors.

    Raises:
        TokensError: names the line, never the token.
    """
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise TokensError(f"{origin} is not UTF-8 at byte {error.start}; expected one `name token` a line") from None
    lines: list[Entry | str] = []
    seen: dict[str, int] = {}
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line.startswith("#"):
            lines.append(raw)
            continue
        entry = _parse_line(line.split(), f"{origin} line {number}")
        if entry.token in seen:
            raise TokensError(f"{origin} line {number}: same token as line {seen[entry.token]}; remove one of them")
        seen[entry.token] = number
        lines.append(entry)
    return TokensFile(tuple(lines))


def _new_entry(name: str) -> Entry:
    if not _NAME.fullmatch(name):
        raise TokensError(f"{name!r} is no token name; expected 1 to 64 letters, digits, dots, dashes or underscores")
    return Entry(name, secrets.token_urlsafe(TOKEN_BYTES))


def _parse_line(words: list[str], where: str) -> Entry:
    # Words are never quoted: a line in disorder may have the token anywhere.
    if len(words) not in {2, 3}:
        raise TokensError(f"{where}: {len(words)} words; expected `name token` or `name token until=RFC3339`")
    name, token = words[:2]
    if not _NAME.fullmatch(name):
        raise TokensError(f"{where}: the first word is no name; expected letters, digits, dots, dashes or underscores")
    if not _TOKEN.fullmatch(token):
        raise TokensError(
            f"{where}: the token of {name} has {len(token)} characters; "
            "expected 16 to 512 letters, digits or -._~+/ (`pinch token rotate` makes a good one)"
        )
    until = None
    if len(words) == 3:
        key, _, moment = words[2].partition("=")
        try:
            until = datetime.fromisoformat(moment)
        except ValueError:
            until = None
        if key != "until" or until is None or until.tzinfo is None:
            raise TokensError(f"{where}: the third word is not until=RFC3339, such as until=2030-01-31T12:00:00+00:00")
    return Entry(name, token, until)
