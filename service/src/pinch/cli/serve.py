"""`pinch serve`: the service in the foreground."""

from __future__ import annotations

import argparse

from pinch.cli.command import accept_json
from pinch.cli.context import Context


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Run until SIGTERM or SIGINT; returns the service's exit status."""
    settings = context.settings
    from pinch.app import run as serve  # noqa: PLC0415 (only this command carries the service's imports)

    return serve(settings)
