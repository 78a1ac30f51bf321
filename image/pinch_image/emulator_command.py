"""The command `image/emulator`."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

from . import host
from .boards import Board, boards_in, find_board, load_boards
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
        instances = [Instance(board, parent / board.name) for board in boards]
        if given.verb == "status" and not given.board:
            _tell(given.json, [instance.report() for instance in instances])
            return 0
        return max((_do(given, instance, remote) for instance in instances), default=0)
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
    return [board for board in boards_in(BOARDS, parent) if Instance(board, parent / board.name).report()["running"]]


def _do(given: argparse.Namespace, instance: Instance, remote: list[str]) -> int:
    match given.verb:
        case "up":
            host.need_tools("qemu-img", "mtype", "ssh", "ssh-keygen")
            report = instance.up(
                given.system,
                ensure_image,
                offline=not given.network,
                fresh=given.fresh,
                limit_s=given.timeout,
                append=given.append,
            )
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
    _tell(given.json, report)
    return 0


def _tell(as_json: bool, said: dict[str, object] | list[dict[str, object]]) -> None:
    if as_json:
        sys.stdout.write(json.dumps(said, indent=2) + "\n")
        return
    for report in said if isinstance(said, list) else [said]:
        name, place = report["board"], f"-p {report['port']} -i {report['key']} pi@{report['host']}"
        sys.stdout.write(f"{name} is on: ssh {place}\n" if report["running"] else f"{name} is off\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="image/emulator",
        description="Emulated Pis: boots the images of this project as the boards in image/boards.toml.",
        epilog="State is kept in $PINCH_CACHE/emulator/BOARD, or in DIR/BOARD with --state DIR.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    names = ", ".join(load_boards(BOARDS)) + ", and more of a kind as zero2w-2"
    for verb, does in {
        "up": "switch on, if it is off, and wait until ssh answers",
        "ssh": "enter, or run the command after --",
        "cut": "take the power away: what the board has not flushed to its card is lost",
        "reset": "press the reset button; up waits until it is back",
        "down": "shut down in order and wait; cut after --timeout",
        "status": "say whether it is on and how it is reached",
    }.items():
        sub = verbs.add_parser(verb, help=does, description=does)
        if verb in {"down", "status"}:
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
            sub.add_argument("--system", metavar="NAME", help="the image of a new card, instead of the board's own")
            sub.add_argument("--append", default="", metavar="ARGS", help="more kernel arguments")
            sub.add_argument("--timeout", type=float, default=BOOT_LIMIT_S, metavar="SECONDS", help="how long to wait")
        if verb == "down":
            sub.add_argument(
                "--timeout", type=float, default=SHUTDOWN_LIMIT_S, metavar="SECONDS", help="until it is cut"
            )
    return parser
