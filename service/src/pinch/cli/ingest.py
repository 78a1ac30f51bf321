"""`pinch ingest`: keep the service's documents in step with a folder."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from attrs import asdict, define, field

from pinch.cli.client import Client, document_path
from pinch.cli.command import accept_json
from pinch.cli.context import Context
from pinch.cli.errors import CommandError, Exit
from pinch.cli.files import FileBody, FileError, Found, Walk, digest
from pinch.cli.output import Progress
from pinch.cli.text import one_line

_PAGE = 200
"""Most documents that one answer lists."""
_UPLOAD_PATIENCE_S = 600.0
"""A large document is chunked and stored before the answer comes."""
_OF_THE_FILE = frozenset({400, 404, 409, 413, 415, 422})
"""Answers that concern one document; with any other the next one would fare no better."""
_POLL_S = 0.5
_STALL_S = 300.0
"""Longest time without one more vector before `--wait` gives up: a batch takes seconds, even on a Zero."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    accept_json(parser)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--space", help="namespace (default: default)")
    parser.add_argument(
        "--prefix",
        metavar="PATH",
        help="where the documents go in the space (default: the folder's name; '' for its root)",
    )
    parser.add_argument(
        "--pattern",
        action="append",
        metavar="GLOB",
        help="file names to take, such as '*.md'; may be given more than once",
    )
    parser.add_argument("--follow", action="store_true", help="follow symbolic links; without it they are passed over")
    parser.add_argument("--delete", action="store_true", help="remove documents under the prefix whose file is gone")
    parser.add_argument("--wait", action="store_true", help="wait until everything has been embedded")


@define
class _Report:
    """What became of the files."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    removed: int = 0
    bytes: int = 0
    """Bytes uploaded."""
    links_skipped: int = 0
    seconds: float = 0.0
    failed: list[dict[str, str]] = field(factory=list)

    def fail(self, path: str, error: str) -> None:
        self.failed.append({"path": path.encode("utf-8", "backslashreplace").decode(), "error": error})


def run(args: argparse.Namespace, context: Context) -> int:
    """Upload what is new or changed; fails when a file could not be ingested."""
    folder: Path = args.folder
    if not folder.is_dir():
        found = "is a file" if folder.exists() else "does not exist"
        raise CommandError(f"{folder} {found}; expected a folder", exit_status=Exit.USAGE)
    prefix = (folder.resolve().name if args.prefix is None else args.prefix).strip("/")
    began = time.monotonic()
    walk = Walk(folder, args.pattern or context.settings.sync.patterns, follow=args.follow)
    files = list(walk.files())
    mirror = _Mirror(folder, f"{prefix}/" if prefix else "", args.space, context.client)
    report = mirror.report
    for path, problem in walk.problems.items():
        report.fail(path, problem)
    report.links_skipped = walk.links
    mirror.list()
    if args.delete and mirror.listed and not files:
        raise CommandError(
            f"{folder} holds no document and the service lists {len(mirror.listed)} under "
            f"{prefix or 'the root'}, so --delete would remove them all",
            "check that the folder is mounted and the pattern is right",
        )
    if not files:
        patterns = ", ".join(walk.patterns)
        context.output.note(f"no file in {folder} matches {patterns}; hidden files and links are left out")
    try:
        with context.output.progress("ingest", sum(file.length for file in files)) as progress:
            for file in files:
                mirror.take(file, progress)
        if args.delete:
            mirror.remove_vanished()
    except CommandError as error:
        done = report.added + report.updated + report.unchanged
        error.message += f" ({done} of {len(files)} files are in the store; the same command goes on from there)"
        raise
    if args.wait:
        _wait(context)
    report.seconds = round(time.monotonic() - began, 3)
    _print(report, context)
    return Exit.ERROR if report.failed else Exit.OK


@define
class _Mirror:
    """A folder and the documents under its prefix."""

    folder: Path
    prefix: str
    """Empty, or ends with a slash."""
    space: str | None
    client: Client
    listed: dict[str, str] = field(factory=dict)
    """SHA-256 of every document that the service had under the prefix, by path."""
    report: _Report = field(factory=_Report)

    def list(self) -> None:
        """Ask the service what it has."""
        cursor = None
        while True:
            query = {"space": self.space, "prefix": self.prefix or None, "limit": _PAGE, "cursor": cursor}
            page = self.client.json("GET", "/v1/documents", query=query)
            self.listed |= {document["path"]: document["sha256"] for document in page["documents"]}
            cursor = page["cursor"]
            if cursor is None:
                return

    def take(self, file: Found, progress: Progress) -> None:
        """Upload a file unless the service has it; a fault of this file goes to the report."""
        try:
            self._take(file, progress)
        except FileError as error:
            self.report.fail(file.relative, str(error))
        except CommandError as error:
            if error.status not in _OF_THE_FILE:
                raise
            self.report.fail(file.relative, str(error))

    def _take(self, file: Found, progress: Progress) -> None:
        try:
            path = (self.prefix + file.relative).encode("utf-8").decode("utf-8")
        except UnicodeEncodeError:
            raise FileError("its name is not UTF-8; rename it") from None
        here = digest(file.path)
        if self.listed.get(path) == here.sha256:
            self.report.unchanged += 1
            progress.update(file.length)
            return
        body = FileBody(file.path, here.length, progress.update)
        query = {"space": self.space}
        stored = self.client.json("PUT", document_path(path), query=query, upload=body, timeout_s=_UPLOAD_PATIENCE_S)
        if stored["sha256"] != here.sha256:
            raise FileError("changed while it was read; run the command again")
        self.report.bytes += here.length
        if stored["created"]:
            self.report.added += 1
        elif stored["changed"]:
            self.report.updated += 1
        else:
            self.report.unchanged += 1

    def remove_vanished(self) -> None:
        """Remove the documents whose file is gone."""
        for path in self.listed:
            if not _vanished(self.folder / path.removeprefix(self.prefix)):
                continue
            try:
                self.client.json("DELETE", document_path(path), query={"space": self.space})
            except CommandError as error:
                if error.exit_status is not Exit.NOT_FOUND:
                    raise
            self.report.removed += 1


def _vanished(path: Path) -> bool:
    """Whether the file is gone; one that merely cannot be seen, as in a folder without rights, is not."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except (OSError, ValueError):
        return False
    return False


def _wait(context: Context) -> None:
    state = _embedding(context.client)
    total = state["pending"]
    stalled_s = 0.0
    with context.output.progress("embed", total, unit="chunk") as progress:
        while pending := state["pending"]:
            context.sleep(_POLL_S)
            state = _embedding(context.client)
            progress.update(max(0, pending - state["pending"]))
            stalled_s = 0.0 if state["pending"] != pending else stalled_s + _POLL_S
            if state.get("trouble"):
                raise CommandError(f"embedding cannot go on: {state['trouble']}", "run `pinch doctor`")
            if stalled_s >= _STALL_S:
                raise CommandError(
                    f"embedding stands still with {state['pending']} chunks to go",
                    "look at the service's log and at `pinch doctor`",
                    exit_status=Exit.LIMIT,
                )


def _embedding(client: Client) -> dict[str, Any]:
    embedding: dict[str, Any] = client.json("GET", "/v1/sync")["embedding"]
    return embedding


def _print(report: _Report, context: Context) -> None:
    if context.as_json:
        context.output.document(asdict(report))
        return
    for failure in report.failed:
        context.output.note(f"{one_line(failure['path'])}: {failure['error']}")
    parts = [f"{report.added} added", f"{report.updated} updated", f"{report.unchanged} unchanged"]
    parts += [f"{report.removed} removed"] if report.removed else []
    parts += [f"{len(report.failed)} failed"] if report.failed else []
    parts += [f"{report.links_skipped} links passed over (--follow takes them)"] if report.links_skipped else []
    context.output.lines([", ".join(parts)])
