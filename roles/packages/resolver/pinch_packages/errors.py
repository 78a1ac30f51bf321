"""What can go wrong while packages are fetched."""

from __future__ import annotations


class PackagesError(Exception):
    """Packages that cannot be had; the message says what was found and what to do."""
