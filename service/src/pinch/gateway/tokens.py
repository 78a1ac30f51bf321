"""Tokens that open the service: matched by the gateway, edited by the command line."""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path

from pinch.gateway.tokens_file import (
    FIRST_NAME,
    Entry,
    NoSuchTokenError,
    TokensError,
    TokensFile,
    read_tokens_file,
)

__all__ = [
    "Entry",
    "NoSuchTokenError",
    "Tokens",
    "TokensError",
    "add_token",
    "create_tokens_file",
    "digest_of",
    "load_tokens",
    "read_tokens_file",
    "revoke_token",
    "rotate_token",
]


class Tokens:
    """Digests of the tokens that open the service; the tokens themselves are not kept."""

    def __init__(self, digests: tuple[tuple[bytes, str, datetime | None], ...]) -> None:
        self._digests = digests

    def match(self, presented: str, now: datetime) -> str | None:
        """Return the name of the token equal to `presented`, or None.

        Every entry is compared, and digests instead of tokens, so the time taken tells nothing.

        Args:
            presented: what the client sent after `Bearer`.
            now: current time with its zone.
        """
        return self.holder(digest_of(presented), now)

    def holder(self, digest: bytes, now: datetime) -> str | None:
        """Return the name of the token with this digest, or None where there is none or it has ended."""
        found = None
        for known, name, until in self._digests:
            equal = hmac.compare_digest(known, digest)
            if equal and (until is None or now < until):
                found = name
        return found


def load_tokens(path: Path) -> Tokens:
    """Read the tokens file for the gateway.

    Raises:
        TokensError: absent, unreadable, open to others, malformed, or without a token.
    """
    entries = read_tokens_file(path).entries
    return Tokens(tuple((digest_of(entry.token), entry.name, entry.until) for entry in entries))


def create_tokens_file(path: Path) -> str:
    """Create the tokens file with one token, mode 0600, and return that token.

    Raises:
        TokensError: the file exists, or its folder cannot be written.
    """
    file, entry = TokensFile().added(FIRST_NAME)
    comment = "# name token [until=RFC3339]; see `pinch token --help`"
    with _edited(path):
        if path.exists():
            raise TokensError(f"tokens file {path} exists; it is never overwritten")
        _write(path, TokensFile((comment, *file.lines)))
    return entry.token


def add_token(path: Path, name: str) -> Entry:
    """Add a token to the file, which is created where there is none."""
    with _edited(path):
        exists = path.exists()
        file, entry = (_read_or_empty(path) if exists else TokensFile()).added(name)
        _write(path, file)
    return entry


def rotate_token(path: Path, name: str, grace: timedelta, now: datetime) -> Entry:
    """Give `name` a new token and let the old one end after `grace`; returns the new one."""
    with _edited(path):
        file, entry = read_tokens_file(path).rotated(name, grace, now)
        _write(path, file)
    return entry


def revoke_token(path: Path, name: str, now: datetime) -> None:
    """Remove every token called `name`."""
    with _edited(path):
        _write(path, read_tokens_file(path).revoked(name, now))


def _read_or_empty(path: Path) -> TokensFile:
    return read_tokens_file(path) if path.stat().st_size else TokensFile()


def digest_of(token: str) -> bytes:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


@contextmanager
def _edited(path: Path) -> Iterator[None]:
    """Hold the folder's lock, so that two edits at once do not undo each other."""
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise TokensError(
            f"folder {path.parent} of the tokens file cannot be opened: {error.strerror}; create it"
        ) from None
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
        os.fsync(folder)
    finally:
        os.close(folder)


def _write(path: Path, file: TokensFile) -> None:
    partial = path.with_name(path.name + ".partial")
    text = "".join((line.line() if isinstance(line, Entry) else line) + "\n" for line in file.lines)
    try:
        partial.unlink(missing_ok=True)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            if path.exists() and os.geteuid() == 0:
                owner = path.stat()
                os.fchown(stream.fileno(), owner.st_uid, owner.st_gid)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial.rename(path)
    except OSError as error:
        with suppress(OSError):
            partial.unlink()
        raise TokensError(f"tokens file {path} cannot be written: {error.strerror}; run as its owner (sudo)") from None
