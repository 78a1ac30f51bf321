"""How building and emulating fail: with one sentence a person can act on."""

from __future__ import annotations


class ImageError(Exception):
    """What was found, what was expected and what to do, in one sentence; ends a command with status 1."""
