"""`pinch token`: the tokens file, edited atomically."""

from __future__ import annotations

import argparse
import re
from datetime import timedelta
from pathlib import Path

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.cli.text import safe, table
from pinch.gateway.tokens import (
    Entry,
    NoSuchTokenError,
    TokensError,
    add_token,
    read_tokens_file,
    revoke_token,
    rotate_token,
)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_LONGEST_DAYS = 3650
_TAKES_EFFECT = "a service that reads this file itself knows in a second; under systemd run `systemctl restart pinch`"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    show = actions.add_parser("show", help="print a token", description="Print the first valid token, or NAME's.")
    show.add_argument("name", nargs="?", metavar="NAME")
    listing = actions.add_parser("list", help="list names, ends and fingerprints, never the tokens")
    add = actions.add_parser("add", help="add a token and print it; makes the file if there is none")
    add.add_argument("name", metavar="NAME")
    rotate = actions.add_parser("rotate", help="replace a token and print the new one; the old one stays valid a while")
    rotate.add_argument("name", metavar="NAME")
    rotate.add_argument(
        "--grace",
        type=_duration,
        default=timedelta(hours=24),
        metavar="TIME",
        help="such as 30m, 24h (default), 7d, 0s",
    )
    revoke = actions.add_parser("revoke", help="remove a token at once")
    revoke.add_argument("name", metavar="NAME")
    for action in (show, listing, add, rotate, revoke):
        accept_json(action)


def run(args: argparse.Namespace, context: Context) -> int:
    """Carry out one action on the file that the setting `tokens_file` names."""
    path = Path(context.settings.tokens_file)
    try:
        return _act(args, context, path)
    except NoSuchTokenError as error:
        raise CommandError(str(error), exit_status=Exit.NOT_FOUND) from None
    except TokensError as error:
        raise CommandError(str(error)) from None


def _act(args: argparse.Namespace, context: Context, path: Path) -> int:
    match args.action:
        case "list":
            _print_list(context, path)
        case "show":
            _print_token(context, _find(context, path, args.name))
        case "add":
            _print_token(context, add_token(path, args.name))
            context.output.note(_TAKES_EFFECT)
        case "rotate":
            entry = rotate_token(path, args.name, args.grace, context.now())
            _print_token(context, entry)
            context.output.note(_TAKES_EFFECT)
        case "revoke":
            revoke_token(path, args.name, context.now())
            if context.as_json:
                context.output.document({"revoked": args.name})
            context.output.note(_TAKES_EFFECT)
    return Exit.OK


def _find(context: Context, path: Path, name: str | None) -> Entry:
    file = read_tokens_file(path)
    now = context.now()
    valid = [entry for entry in file.entries if entry.valid(now) and name in {None, entry.name}]
    if not valid:
        wanted = "is valid" if name is None else f"is called {name} and valid"
        raise NoSuchTokenError(f"no token of {path} {wanted}; `pinch token list` shows what there is")
    # After a rotation both are valid for a while; the one that stays is the one to hand out.
    return next((entry for entry in valid if entry.until is None), valid[0])


def _print_token(context: Context, entry: Entry) -> None:
    if context.as_json:
        context.output.document({**_public(context, entry), "token": entry.token})
    else:
        context.output.lines([entry.token])


def _print_list(context: Context, path: Path) -> None:
    entries = [_public(context, entry) for entry in read_tokens_file(path).entries]
    if context.as_json:
        context.output.document({"file": str(path), "tokens": entries})
        return
    rows = [["name", "fingerprint", "until", ""]]
    rows += [
        [
            safe(str(entry["name"])),
            str(entry["fingerprint"]),
            str(entry["until"] or "–"),
            "" if entry["valid"] else "ended",
        ]
        for entry in entries
    ]
    context.output.lines(table(rows))


def _public(context: Context, entry: Entry) -> dict[str, object]:
    return {
        "name": entry.name,
        "fingerprint": entry.fingerprint,
        "until": entry.until.isoformat() if entry.until else None,
        "valid": entry.valid(context.now()),
    }


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,9})([smhd])", text)
    duration = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
    if duration is None or duration > timedelta(days=_LONGEST_DAYS):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no time; expected such as 30m, 24h or 7d, at most {_LONGEST_DAYS}d"
        )
    return duration
