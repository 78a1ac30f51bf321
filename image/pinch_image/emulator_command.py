"""The command `image/emulator`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from . import host
from .boards import Board, find_board, load_boards
from .build import HERE, ensure_image
from .failure import ImageError
from .instance import Instance

BOARDS = HERE / "boards.toml"
# A busy two-core machine needs several times the minute that an idle one takes.
BOOT_LIMIT_S, SHUTDOWN_LIMIT_S = 600.0, 120.0


def main() -> int:
    """Do what the command line says and return the exit status."""
    words, remote = _split(sys.argv[1:])
    given = _parser().parse_args(words)
    parent = Path(given.state) if given.state else host.cache_dir() / "emulator"
    try:
        boards = [find_board(BOARDS, given.board)] if given.board else _running(parent)
        return max((_do(given, Instance(board, parent / board.name), remote) for board in boards), default=0)
    except ImageError as error:
        sys.stderr.write(f"emulator: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130


def _split(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what stands before the first -- and what stands after it."""
    end = words.index("--") if "--" in words else len(words)
    return words[:end], words[end + 1 :]


def _running(parent: Path) -> list[Board]:
    """Return the boards that are on, of those whose folders are in `parent`."""
    return [board for board in load_boards(BOARDS).values() if Instance(board, parent / board.name).report()["running"]]


def _do(given: argparse.Namespace, instance: Instance, remote: list[str]) -> int:
    match given.verb:
        case "up":
            host.need_tools("qemu-system-aarch64", "qemu-img", "ssh", "ssh-keygen")
            image = ensure_image("base")
            offline = not given.network
            report = instance.up(image, offline, given.fresh, given.timeout, given.append)
        case "ssh":
            return subprocess.run(instance.ssh(remote), check=False).returncode
        case "cut":
            report = instance.cut()
        case "reset":
            report = instance.reset()
        case "down":
            report = instance.down(given.timeout)
        case _:
            report = instance.report()
    if given.json:
        sys.stdout.write(json.dumps(report, indent=2) + "\n")
    elif report["running"]:
        sys.stdout.write(f"{report['board']} is on: ssh -p {report['port']} -i {report['key']} pi@{report['host']}\n")
    else:
        sys.stdout.write(f"{report['board']} is off\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="image/emulator",
        description="Emulated Pis: boots the base image as one of the boards in image/boards.toml.",
        epilog="State is kept in $PINCH_CACHE/emulator/BOARD, or in DIR/BOARD with --state DIR.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    names = ", ".join(load_boards(BOARDS))
    for verb, does in {
        "up": "switch on, if it is off, and wait until ssh answers",
        "ssh": "enter, or run the command after --",
        "cut": "take the power away: what the board has not flushed to its card is lost",
        "reset": "press the reset button; up waits until it is back",
        "down": "shut down in order and wait; cut after --timeout",
        "status": "say whether it is on and how it is reached",
    }.items():
        sub = verbs.add_parser(verb, help=does, description=does)
        if verb == "down":
            sub.add_argument("board", metavar="BOARD", nargs="?", help=f"{names}; without it every board that is on")
        else:
            sub.add_argument("board", metavar="BOARD", help=names)
        sub.add_argument("--state", metavar="DIR", help="keep the board's disk and keys in DIR/BOARD")
        if verb != "ssh":
            sub.add_argument("--json", action="store_true", help="answer as JSON")
        if verb == "up":
            network = sub.add_mutually_exclusive_group()
            network.add_argument("--offline", action="store_true", help="no network but our ssh (the default)")
            network.add_argument("--network", action="store_true", help="let the board reach what this machine reaches")
            sub.add_argument("--fresh", action="store_true", help="start from a new card")
            sub.add_argument("--append", default="", metavar="ARGS", help="more kernel arguments")
            sub.add_argument("--timeout", type=float, default=BOOT_LIMIT_S, metavar="SECONDS", help="how long to wait")
        if verb == "down":
            sub.add_argument(
                "--timeout", type=float, default=SHUTDOWN_LIMIT_S, metavar="SECONDS", help="until it is cut"
            )
    return parser
