"""`pinch snapshot`: the whole store as one file."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.cli.files import FileBody, FileError
from pinch.cli.text import size
from pinch.durable import to_disk

_MAGIC = b"SQLite format 3\x00"
_PATIENCE_S = 900.0
"""The service copies or verifies the whole store before it answers: minutes on a slow card."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    save = actions.add_parser("save", help="write the store to FILE", description="Write the store to FILE.")
    save.add_argument("file", type=Path, metavar="FILE")
    save.add_argument("--force", action="store_true", help="replace FILE if it exists")
    load = actions.add_parser("load", help="replace the store by FILE", description="Replace the store by FILE.")
    load.add_argument("file", type=Path, metavar="FILE")
    for action in (save, load):
        accept_json(action)


def run(args: argparse.Namespace, context: Context) -> int:
    """Save or load."""
    return _save(args.file, context, force=args.force) if args.action == "save" else _load(args.file, context)


def _save(file: Path, context: Context, *, force: bool) -> int:
    if file.is_dir():
        raise CommandError(f"{file} is a folder", "give a file's name", exit_status=Exit.USAGE)
    if not file.parent.is_dir():
        raise CommandError(
            f"{file.parent} is no folder; expected one to write {file.name} into", exit_status=Exit.USAGE
        )
    if file.exists() and not force:
        raise CommandError(f"{file} exists", "choose another name, or replace it with --force", exit_status=Exit.USAGE)
    length, blocks = context.client.download("/v1/snapshot", timeout_s=_PATIENCE_S)
    partial = file.with_name(file.name + ".partial")
    partial.unlink(missing_ok=True)
    # It holds what people said to their agents: nobody else's to read.
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as stream, context.output.progress("save", length) as progress:
            for block in blocks:
                stream.write(block)
                progress.update(len(block))
            stream.flush()
            os.fsync(stream.fileno())
            written = stream.tell()
        _check_magic(partial, "the service's answer", Exit.ERROR)
        if not force:
            # Unlike a rename, a link never replaces what came into being meanwhile.
            _link(partial, file)
        else:
            partial.rename(file)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    to_disk(file.parent)
    if context.as_json:
        context.output.document({"file": str(file), "bytes": written})
    else:
        context.output.lines([f"{file}: {size(written)}"])
    return Exit.OK


def _link(partial: Path, file: Path) -> None:
    try:
        file.hardlink_to(partial)
    except FileExistsError:
        raise CommandError(
            f"{file} exists", "choose another name, or replace it with --force", exit_status=Exit.USAGE
        ) from None
    except OSError:
        # FAT and some network folders have no links.
        partial.rename(file)
    else:
        partial.unlink()


def _load(file: Path, context: Context) -> int:
    _check_magic(file, str(file), Exit.USAGE)
    with context.output.progress("load", file.stat().st_size) as progress:
        body = FileBody(file, file.stat().st_size, progress.update)
        try:
            answer = context.client.json("PUT", "/v1/snapshot", upload=body, timeout_s=_PATIENCE_S)
        except FileError as error:
            raise CommandError(f"{file} {error}") from None
    if context.as_json:
        context.output.document(answer)
    else:
        counts = ", ".join(
            f"{answer[name]} {name}" for name in ("memories", "documents", "chunks", "vectors", "sessions")
        )
        context.output.lines([f"loaded: {counts}"])
    return Exit.OK


def _check_magic(file: Path, what: str, exit_status: Exit) -> None:
    with file.open("rb") as stream:
        if stream.read(len(_MAGIC)) != _MAGIC:
            raise CommandError(
                f"{what} is no snapshot; expected a file that `pinch snapshot save` wrote",
                exit_status=exit_status,
            )
