"""The `pinch` command: finds the subcommand, runs it and maps every error to an exit status."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from pinch import __version__
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.settings import SettingsError

COMMANDS = {
    "serve": "run the service in the foreground",
    "remember": "store a text, or many from a JSON Lines file",
    "recall": "find what was remembered or ingested",
    "chat": "talk with the agent, or ask it one thing",
    "ingest": "upload a folder's documents",
    "snapshot": "save the store to one file, or load it from one",
    "budget": "show what each account may hold and holds",
    "tier": "show this machine's tier and why",
    "doctor": "check this machine and the service, and say what to do",
    "token": "show, add, rotate and revoke tokens",
}
"""Each is a module of this package with `arguments(parser)` and `run(args, context)`. Only the one that
is called gets imported: `pinch serve` pays for no HTTP client."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one sentence and reach `main` like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing and leaving."""
        command = self.prog.removeprefix("pinch").lstrip()
        raise CommandError(
            f"{command}: {message}" if command else message, f"see `{self.prog} --help`", exit_status=Exit.USAGE
        )


def build_parser(chosen: str | None = None) -> Parser:
    """Build the parser; only the subcommand `chosen` has its arguments, the others just their names."""
    parser = Parser(prog="pinch", description="Memory for agents that stays inside a memory budget.")
    parser.add_argument("--version", action="version", version=f"pinch {__version__}")
    parser.add_argument("--json", action="store_true", help="print one JSON document, errors included")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        command = commands.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        if name == chosen:
            module = importlib.import_module(f"pinch.cli.{name}")
            module.arguments(command)
            command.set_defaults(run=module.run)
    return parser


def accept_json(parser: argparse.ArgumentParser) -> None:
    """Let a subcommand take `--json` after its name too, without losing one given before it."""
    help_text = "print one JSON document, errors included"
    parser.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=help_text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    words = list(sys.argv[1:] if argv is None else argv)
    as_json = "--json" in words[: words.index("--")] if "--" in words else "--json" in words
    context = Context(environ=os.environ, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr, as_json=as_json)
    try:
        return _run(words, context)
    except KeyboardInterrupt:
        return Exit.INTERRUPTED
    except BrokenPipeError:
        # The interpreter flushes stdout once more when it ends, and would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return Exit.PIPE_CLOSED


def _run(words: list[str], context: Context) -> int:
    try:
        chosen = next((word for word in words if not word.startswith("-")), None)
        args = build_parser(chosen).parse_args(words)
        status: int = args.run(args, context)
        sys.stdout.flush()
    except CommandError as error:
        return context.fail(error)
    except SettingsError as error:
        return context.fail(CommandError(str(error), exit_status=Exit.USAGE))
    except BrokenPipeError:
        raise
    except OSError as error:
        subject = f"{error.filename}: " if error.filename else ""
        wrong = isinstance(error, FileNotFoundError | IsADirectoryError | NotADirectoryError)
        status = Exit.USAGE if wrong else Exit.ERROR
        return context.fail(CommandError(f"{subject}{error.strerror or error}", exit_status=status))
    return status
