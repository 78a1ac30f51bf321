"""What can go wrong while a release is built."""

from __future__ import annotations


class ReleaseError(Exception):
    """A release that cannot be built; the message says what was found and what to do."""
