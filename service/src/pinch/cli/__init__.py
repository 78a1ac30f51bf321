"""The command line: it speaks HTTP to a running service and never opens its store."""

from pinch.cli.command import main

__all__ = ["main"]
