"""`pinch serve`: the service in the foreground."""

from __future__ import annotations

import argparse
import gc

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.settings import SettingsError


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)


def run(args: argparse.Namespace, context: Context) -> int:
    """Run until SIGTERM or SIGINT; returns the service's exit status."""
    try:
        settings = context.settings
    except SettingsError as error:
        raise CommandError(str(error), exit_status=Exit.CONFIG) from None
    # What modules build stays, so a collection while they load frees nothing. Frozen, it is not walked by the
    # first one afterwards either. `python -m tests.benchmarks.start` shows what the start costs.
    gc.disable()
    from pinch.app import run as serve

    gc.freeze()
    gc.enable()
    return serve(settings)
