"""What can go wrong, as types that a boundary maps to a status."""

from __future__ import annotations


class PinchError(Exception):
    """Base of every error of the product; `hint` says what the caller can do."""

    def __init__(self, message: str, *, param: str | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.hint = hint


class Invalid(PinchError):
    """The request's content breaks a rule."""


class TooLarge(PinchError):
    """A text or body is longer than its limit."""


class NotFound(PinchError):
    """There is no such memory, document or space."""


class Conflict(PinchError):
    """The change contradicts what is stored, or the tier does not offer it."""


class Busy(PinchError):
    """A bounded queue is full; try again after `retry_after` seconds."""

    retry_after = 1


class StorageFull(PinchError):
    """The file system has no room; nothing was changed."""


class StoreDamaged(PinchError):
    """SQLite reports corruption; writes stop until the service restarts."""


class StoreUnusable(PinchError):
    """The store cannot be opened at all: locked by another service, newer than this release, unreadable."""


class StoreInUse(StoreUnusable):
    """Another service has the store; it can be had when that one ends."""


def internal_fault() -> PinchError:
    """Return what is told of a fault of our own; the log has the cause."""
    return PinchError("something went wrong in the service", hint="look at its log: journalctl -u pinch")
