"""`pinch remember`: one text from the arguments or stdin, or many from a JSON Lines file."""

from __future__ import annotations

import argparse
import json
import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from attrs import define, field

from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit

LONGEST_TEXT_BYTES = 64 * 1024
BATCH_ITEMS = 256
BATCH_BYTES = 512 * 1024
"""A batch closes at this many bytes too: the smallest tier takes JSON bodies of 1 MB."""
_FIELDS = ("space", "tags", "source", "thread", "at")
_ITEM = re.compile(r"memories[.\[](\d+)")
_LONGEST_LINE_BYTES = 8 * LONGEST_TEXT_BYTES
"""JSON writes one character of a text with up to 6 bytes; the rest is for the other fields."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("text", nargs="?", metavar="TEXT", help="the text, or - to read it from stdin")
    what.add_argument(
        "--jsonl", metavar="FILE", help='store every line, such as {"text": "…", "tags": ["a"]}; - is stdin'
    )
    parser.add_argument("--space", help="namespace (default: default)")
    parser.add_argument("--tag", action="append", dest="tags", metavar="TAG", help="may be given more than once")
    parser.add_argument("--source", help="where the text comes from")
    parser.add_argument("--thread", help="conversation it is a turn of; turns are context for each other")
    parser.add_argument("--at", metavar="TIME", help="when it was said, RFC 3339 (default: now)")


def run(args: argparse.Namespace, context: Context) -> int:
    """Store the text, or the file's lines in batches."""
    fields = {name: getattr(args, name) for name in _FIELDS if getattr(args, name) is not None}
    for value in (args.text, *fields.values()):
        _check_utf8(value)
    if args.jsonl is not None:
        return _remember_lines(args.jsonl, fields, context)
    text = _read_stdin() if args.text == "-" else args.text
    answer = context.client.json("POST", "/v1/memories", body={"text": text, **fields})
    if context.as_json:
        context.output.document(answer)
    else:
        context.output.lines([f"{answer['id']}{'' if answer['created'] else ' (was there already)'}"])
    return Exit.OK


def _check_utf8(value: str | list[str] | None) -> None:
    for part in value if isinstance(value, list) else [value or ""]:
        if not part.isascii() and any("\ud800" <= character <= "\udfff" for character in part):
            raise CommandError("an argument is not UTF-8", "convert it (iconv -t UTF-8)", exit_status=Exit.USAGE)


def _read_stdin() -> str:
    content = sys.stdin.buffer.read(LONGEST_TEXT_BYTES + 2)
    # The newline that `echo` and editors put at the end is not part of the text, as in $(…).
    content = content.removesuffix(b"\n")
    if len(content) > LONGEST_TEXT_BYTES:
        raise CommandError(
            f"stdin has more than {LONGEST_TEXT_BYTES} bytes; a memory's text has at most that many",
            "split it, or write it to a file and use `pinch ingest`",
            exit_status=Exit.LIMIT,
        )
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(
            f"stdin is not UTF-8 at byte {error.start}", "convert it (iconv -t UTF-8)", exit_status=Exit.USAGE
        ) from None


@define
class _Batch:
    lines: list[int] = field(factory=list)
    items: list[dict[str, Any]] = field(factory=list)
    size: int = 0
    """Bytes the lines had in the file."""

    def full(self, more: int) -> bool:
        return len(self.items) == BATCH_ITEMS or bool(self.items and self.size + more > BATCH_BYTES)


def _remember_lines(name: str, fields: dict[str, Any], context: Context) -> int:
    ids: list[str] = []
    with _opened(name) as (stream, total), context.output.progress("remember", total) as progress:
        try:
            batch = _Batch()
            for number, line in _lines(stream):
                if batch.full(len(line)):
                    ids += _send(batch, context)
                    progress.update(batch.size)
                    batch = _Batch()
                batch.size += len(line)
                if line.strip():
                    batch.lines.append(number)
                    batch.items.append(_item(line, number, fields))
            if batch.items:
                ids += _send(batch, context)
            progress.update(batch.size)
        except CommandError as error:
            # What was acknowledged stays; the same text is stored once, so the file can be given again.
            error.message += f" ({len(ids)} memories before it are stored; the same file may be given again)"
            raise
    if context.as_json:
        context.output.document({"ids": ids})
    else:
        distinct = len(set(ids))
        doubles = f" ({len(ids) - distinct} lines repeat another)" if distinct < len(ids) else ""
        context.output.lines([f"{distinct} memories stored{doubles}"])
    return Exit.OK


@contextmanager
def _opened(name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    if name == "-":
        yield sys.stdin.buffer, None
        return
    with Path(name).open("rb") as stream:
        status = os.fstat(stream.fileno())
        yield stream, status.st_size if stat.S_ISREG(status.st_mode) else None


def _lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := stream.readline(_LONGEST_LINE_BYTES + 1):
        number += 1
        if len(line) > _LONGEST_LINE_BYTES:
            raise CommandError(
                f"line {number} has more than {_LONGEST_LINE_BYTES} bytes",
                "split its text",
                exit_status=Exit.LIMIT,
            )
        yield number, line


def _item(line: bytes, number: int, fields: dict[str, Any]) -> dict[str, Any]:
    try:
        item = json.loads(line)
        line.decode("utf-8")
    except UnicodeDecodeError:
        raise CommandError(
            f"line {number} is not UTF-8", "convert the file (iconv -t UTF-8)", exit_status=Exit.USAGE
        ) from None
    except (ValueError, RecursionError) as error:
        raise CommandError(f"line {number} is not JSON: {error}", exit_status=Exit.USAGE) from None
    if not isinstance(item, dict) or not isinstance(item.get("text"), str):
        raise CommandError(
            f'line {number} has no text; expected an object such as {{"text": "…"}}', exit_status=Exit.USAGE
        )
    try:
        json.dumps(item, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise CommandError(
            f"line {number} has half of a surrogate pair, which is no character",
            "remove it",
            exit_status=Exit.USAGE,
        ) from None
    return {**fields, **item}


def _send(batch: _Batch, context: Context) -> list[str]:
    try:
        answer = context.client.json("POST", "/v1/memories", body={"memories": batch.items})
    except CommandError as error:
        found = _ITEM.search(f"{error.param or ''} {error.message}")
        where = f"line {batch.lines[int(found[1])]}" if found and int(found[1]) < len(batch.lines) else None
        error.message = f"{where or f'lines {batch.lines[0]} to {batch.lines[-1]}'}: {error.message}"
        raise
    ids: list[str] = answer["ids"]
    return ids
