"""What a command works with: settings, streams, clock and the service it talks to."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from attrs import define, field

from pinch.cli.errors import CommandError, Exit
from pinch.settings import Settings, load_settings

if TYPE_CHECKING:
    from pinch.cli.client import Client
    from pinch.cli.output import Output


def _utc_now() -> datetime:
    return datetime.now(UTC)


@define(slots=False)
class Context:
    """Made once by `main` and passed to the command."""

    environ: Mapping[str, str]
    stdin: TextIO
    stdout: TextIO
    stderr: TextIO
    as_json: bool = False
    now: Callable[[], datetime] = _utc_now
    sleep: Callable[[float], None] = field(default=time.sleep)

    @cached_property
    def settings(self) -> Settings:
        """Settings from the config file and the environment."""
        return load_settings(self.environ)

    @cached_property
    def output(self) -> Output:
        """Where results and notes go."""
        from pinch.cli.output import Output

        return Output(self.stdout, self.stderr, self.environ, as_json=self.as_json)

    @cached_property
    def client(self) -> Client:
        """The service that `PINCH_URL` or the setting `listen` names."""
        from pinch.cli.address import address
        from pinch.cli.client import Client

        where = address(self.environ.get("PINCH_URL"), self.settings)
        return Client(where, self._token(local=where.local), sleep=self.sleep, notice=self.output.note)

    def fail(self, error: CommandError) -> Exit:
        """Report `error`: a sentence on stderr and, with `--json`, a document on stdout."""
        self.output.error(error)
        return error.exit_status

    def _token(self, *, local: bool) -> str:
        token = self.environ.get("PINCH_TOKEN", "")
        if token:
            if not (token.isascii() and token.isprintable() and " " not in token):
                raise CommandError("PINCH_TOKEN holds characters that no token has", exit_status=Exit.REFUSED)
            return token
        if not local:
            # This machine's token is for this machine's service and nobody else's eyes.
            raise CommandError(
                "PINCH_URL names another host and PINCH_TOKEN is not set",
                "set PINCH_TOKEN",
                exit_status=Exit.REFUSED,
            )
        return local_token(Path(self.settings.tokens_file), self.now())


def local_token(path: Path, now: datetime) -> str:
    """Return the first valid token of the tokens file.

    Raises:
        CommandError: the file cannot be used or all its tokens have ended.
    """
    from pinch.gateway.tokens import TokensError, read_tokens_file

    try:
        entry = read_tokens_file(path).first(now)
    except TokensError as error:
        raise CommandError(str(error), "or set PINCH_TOKEN", exit_status=Exit.REFUSED) from None
    if entry is None:
        raise CommandError(f"every token of {path} has ended", "run `pinch token add NAME`", exit_status=Exit.REFUSED)
    return entry.token
