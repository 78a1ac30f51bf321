"""Keeps the tokens of the file at hand, and notices when the file changes."""

from __future__ import annotations

import logging
import time
from datetime import datetime
from pathlib import Path

from pinch.gateway.tokens import Tokens, TokensError, create_tokens_file, digest_of, load_tokens

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Seconds between two looks at the file's time."""


class TokenKeeper:
    """The valid tokens. A file that has become unusable changes nothing: the tokens before stay."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tokens: Tokens | None = None
        self._seen: tuple[int, int] = (0, 0)
        self._looked = 0.0

    def load(self, *, create: bool = False) -> None:
        """Read the file, making it with a first token where there is none.

        Raises:
            TokensError: it cannot be used.
        """
        if create and not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            create_tokens_file(self.path)
            log.info("made a first token in %s", self.path)
        self._seen = self._state()  # first: what changes while it is read is seen at the next look
        self._tokens = load_tokens(self.path)

    def match(self, presented: str, now: datetime) -> str | None:
        """Return the name of the token equal to `presented`, or None."""
        return self.holder(digest_of(presented), now)

    def holder(self, digest: bytes, now: datetime) -> str | None:
        """Return the name of the token with this digest, or None where there is none any more."""
        if time.monotonic() - self._looked > LOOK_S:
            self._looked = time.monotonic()
            self._refresh()
        return None if self._tokens is None else self._tokens.holder(digest, now)

    def _refresh(self) -> None:
        state = self._state()
        if state == self._seen:
            return
        self._seen = state
        try:
            self._tokens = load_tokens(self.path)
            log.info("tokens read again")
        except TokensError as error:
            log.error("the tokens before stay valid: %s", error)

    def _state(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return (0, 0)
        return (status.st_mtime_ns, status.st_ino)
