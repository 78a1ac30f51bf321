"""What can go wrong with a backup."""

from __future__ import annotations


class BackupError(Exception):
    """A backup that cannot be made or used; the message says what was found and what to do."""
