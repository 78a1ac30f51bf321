"""How a command ends: its exit statuses and the one error type that carries them."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum


class Exit(IntEnum):
    """Exit statuses; `MEANING` says what each one is for."""

    OK = 0
    ERROR = 1
    USAGE = 2
    UNREACHABLE = 3
    REFUSED = 4
    NOT_FOUND = 5
    LIMIT = 6
    CONFIG = 78
    INTERRUPTED = 130
    PIPE_CLOSED = 141


MEANING: Mapping[Exit, str] = {
    Exit.OK: "done",
    Exit.ERROR: "failed, or partly failed: some files, a check of `doctor`, an error inside the service",
    Exit.USAGE: "the command, a setting or what was sent is wrong; the same command will fail again",
    Exit.UNREACHABLE: "nothing that speaks HTTP answers at the service's address",
    Exit.REFUSED: "no token, a wrong token, or a tokens file that may not be read",
    Exit.NOT_FOUND: "the named thing does not exist",
    Exit.LIMIT: "a limit: too large, too many, no space left, or busy for longer than the command waits",
    Exit.CONFIG: "`serve` cannot start as configured; starting it again would not help (`EX_CONFIG`)",
    Exit.INTERRUPTED: "stopped by Ctrl-C",
    Exit.PIPE_CLOSED: "the reader of the output went away",
}

FROM_HTTP: Mapping[int, Exit] = {
    400: Exit.USAGE,
    401: Exit.REFUSED,
    403: Exit.REFUSED,
    404: Exit.NOT_FOUND,
    405: Exit.ERROR,
    409: Exit.USAGE,
    413: Exit.LIMIT,
    415: Exit.USAGE,
    421: Exit.REFUSED,
    422: Exit.USAGE,
    429: Exit.LIMIT,
    503: Exit.LIMIT,
    507: Exit.LIMIT,
}
"""Exit status of each answer of the service; every other error is `Exit.ERROR`."""

FROM_GATEWAY: Mapping[str, Exit] = {
    "AUTH_TOKEN_MISSING": Exit.REFUSED,
    "AUTH_TOKEN_MISMATCH": Exit.REFUSED,
    "unauthorized": Exit.REFUSED,
    "forbidden": Exit.REFUSED,
    "not_found": Exit.NOT_FOUND,
    "too_large": Exit.LIMIT,
    "no_provider": Exit.USAGE,
    "internal": Exit.ERROR,
    "INVALID_REQUEST": Exit.USAGE,
    "UNAVAILABLE": Exit.LIMIT,
}
"""Exit status of a refused WebSocket request, by `details.code`, else `details.type`, else `code`; every other
error is `Exit.ERROR`."""

FROM_RUN: Mapping[str, Exit] = {"rate_limit": Exit.LIMIT, "context_length": Exit.LIMIT}
"""Exit status of a run that ended in an error, by its `errorKind`; every other one is `Exit.ERROR`."""


class CommandError(Exception):
    """A command that cannot go on.

    Args:
        message: what was found and what was expected.
        hint: what to do about it.
        exit_status: how the process ends.
        kind: machine-readable name; the service's own error type where it gave one.
        param: the field or argument at fault, if one is.
        status: HTTP status, if the service answered.
    """

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        exit_status: Exit = Exit.ERROR,
        kind: str = "",
        param: str | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_status = exit_status
        self.kind = kind or exit_status.name.lower()
        self.param = param
        self.status = status

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message

    def document(self) -> dict[str, object]:
        """Return the error as `--json` prints it: the service's shape and the exit status."""
        body = {"type": self.kind, "message": self.message, "param": self.param, "hint": self.hint or None}
        return {"error": {**body, "exit_status": int(self.exit_status)}}
