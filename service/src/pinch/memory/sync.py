"""Folder sync: keeps the documents of the configured folders in step with their files."""

from __future__ import annotations

import asyncio
import errno
import fnmatch
import logging
import os
import stat
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import BinaryIO, NamedTuple

import apsw
from attrs import define, field

from pinch.clock import now_ms
from pinch.errors import Conflict, Invalid, PinchError
from pinch.memory import documents, rows
from pinch.memory.chunking import Chunker
from pinch.memory.documents import Origin, Upload
from pinch.memory.store import Store

log = logging.getLogger(__name__)

PIECE = 4 * 1024
"""Bytes read from a file and cut at once; in between, requests have their turn."""
SLICE = 64
"""Files that a walk finds at once."""
FAILURES_KEPT = 100
"""Failed files that the progress names; all are counted."""


class Found(NamedTuple):
    """A file that belongs to a folder."""

    folder: Path
    file: Path
    """Resolved: no link is left in it."""
    path: str
    """Its document path: the folder's name, then the way below it."""


@define
class Progress:
    """How far a sync is."""

    state: str = "idle"
    files_total: int = 0
    files_done: int = 0
    added: int = 0
    updated: int = 0
    removed: int = 0
    failed: list[dict[str, str]] = field(factory=list)
    failed_total: int = 0
    started_at: str | None = None
    finished_at: str | None = None

    def fail(self, path: str, error: str) -> None:
        """Note a file that could not be taken in."""
        self.failed_total += 1
        if len(self.failed) < FAILURES_KEPT:
            self.failed.append({"path": os.fsencode(path).decode("utf-8", "replace"), "error": error})


def walk(root: Path, patterns: Sequence[str], unreadable: Callable[[OSError], None]) -> Iterator[Found]:
    """Yield the files below the resolved folder `root` whose names match, in a stable order; hidden ones are left out.

    Links that lead out of it are not followed; what cannot be listed or looked at is told to `unreadable`.
    """
    for parent, folders, files in os.walk(root, onerror=unreadable):
        folders.sort()
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in sorted(files):
            if name.startswith(".") or not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns):
                continue
            file = Path(parent, name)
            try:
                target = file.resolve() if file.is_file() else None
            except OSError as error:
                unreadable(error)
                continue
            if target is not None and target.is_relative_to(root):
                yield Found(root, target, f"{root.name}/{file.relative_to(root).as_posix()}")


class FolderSync:
    """One sync at a time over the folders that the settings name."""

    def __init__(
        self,
        *,
        store: Store,
        folders: Sequence[Path],
        patterns: Sequence[str],
        space: str,
        chunk_tokens: int,
        chunk_overlap: int,
        changed: Callable[[], None],
    ) -> None:
        self.store = store
        self.folders = folders
        self.patterns = patterns
        self.space = space
        self.chunk_tokens = chunk_tokens
        self.chunk_overlap = chunk_overlap
        self.changed = changed
        """Called when there are new texts to embed."""
        self.progress = Progress()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Progress:
        """Begin a sync.

        Raises:
            Invalid: no folder is configured.
            Conflict: a sync is running.
        """
        if not self.folders:
            raise Invalid("no folder is configured", hint="set [sync] folders in the config, or use pinch ingest")
        if self._task is not None and not self._task.done():
            raise Conflict("a sync is running", hint="GET /v1/sync shows its progress")
        self.progress = Progress(state="running", started_at=rows.rfc3339(now_ms()))
        self._task = asyncio.create_task(self._run(), name="pinch-sync")
        return self.progress

    async def stop(self) -> None:
        """End a running sync; the next one goes on where it was."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        progress = self.progress
        try:
            for folder in self.folders:
                await self._sync(folder)
        except PinchError as error:
            progress.fail(str(folder), error.message)
            log.error("sync stopped: %s", error.message)
        except Exception:
            progress.fail(
                str(folder), "something went wrong in the service, and the sync stopped; its log has the cause"
            )
            log.exception("sync of %s stopped", folder)
        finally:
            progress.state = "idle"
            progress.finished_at = rows.rfc3339(now_ms())
            self.changed()

    async def _sync(self, folder: Path) -> None:
        progress = self.progress
        loop = asyncio.get_running_loop()
        root = await loop.run_in_executor(None, _root, folder)
        if root is None:
            progress.fail(str(folder), "the folder does not exist; its documents are kept")
            return
        progress.files_total += await loop.run_in_executor(
            None, lambda: sum(1 for _ in walk(root, self.patterns, _pass_over))
        )
        seen = set()
        unreadable: list[OSError] = []
        async for found in self._found(root, unreadable):
            seen.add(found.path)
            try:
                await self._take(found)
            except (PinchError, OSError, UnicodeError) as error:
                progress.fail(found.path, error.message if isinstance(error, PinchError) else str(error))
            progress.files_done += 1
        for place in unreadable:
            progress.fail(str(place.filename), f"{place.strerror}; no document of {folder} is removed")
        if not unreadable:
            await self._sweep(root, seen)

    async def _found(self, root: Path, unreadable: list[OSError]) -> AsyncIterator[Found]:
        """Walk in the executor: a slow disk must not hold up requests."""
        files = walk(root, self.patterns, unreadable.append)
        loop = asyncio.get_running_loop()
        while found := await loop.run_in_executor(None, lambda: list(islice(files, SLICE))):
            for one in found:
                yield one

    async def _take(self, found: Found) -> None:
        documents.check_path(found.path)
        loop = asyncio.get_running_loop()
        status = await loop.run_in_executor(None, found.file.stat)
        # The later of the two: an edit that keeps size and mtime, as `cp -p` and rsync do, is seen by its ctime.
        touched_ns = max(status.st_mtime_ns, status.st_ctime_ns)
        origin = Origin(str(found.folder), touched_ns)
        known = await self.store.readers.run(lambda connection: _known(connection, self.space, found.path))
        if known is not None and known == (status.st_size, touched_ns):
            return
        chunker = Chunker(self.chunk_tokens, self.chunk_overlap)
        upload = Upload(self.store.writer, self.space, found.path, now_ms(), chunker, origin=origin)
        try:
            with await loop.run_in_executor(None, _open, found.file) as file:
                while piece := await loop.run_in_executor(None, file.read, PIECE):
                    await upload.feed(piece)
            stored = await upload.finish()
        except BaseException:
            await asyncio.shield(upload.abandon())
            raise
        self.progress.added += stored.created
        self.progress.updated += stored.changed and not stored.created
        if stored.changed:
            self.changed()

    async def _sweep(self, folder: Path, seen: set[str]) -> None:
        """Remove documents of this folder whose file is gone."""
        gone = await self.store.readers.run(
            lambda connection: [
                path
                for (path,) in connection.execute(
                    "SELECT path FROM documents JOIN spaces ON spaces.id = space "
                    "WHERE live AND folder = ? AND name = ?",
                    (str(folder), self.space),
                )
                if path not in seen
            ]
        )
        if gone and not seen:
            error = f"the folder has no file; its {len(gone)} documents are kept: mount it, or delete them one by one"
            self.progress.fail(str(folder), error)
            return
        for path in gone:
            await self._remove(str(path))

    async def _remove(self, path: str) -> None:
        await self.store.writer.run(lambda connection: documents.remove(connection, self.space, path))
        self.progress.removed += 1


def _pass_over(_: OSError) -> None:
    return None


def _open(file: Path) -> BinaryIO:
    """Open a regular file; a link or pipe that took its place since the walk is refused, and not waited for."""
    stream = os.fdopen(os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb")
    if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
        stream.close()
        raise OSError(errno.EINVAL, "not a regular file", str(file))
    return stream


def _root(folder: Path) -> Path | None:
    return folder.resolve() if folder.is_dir() else None


def _known(connection: apsw.Connection, space: str, path: str) -> tuple[int, int] | None:
    row = connection.execute(
        "SELECT bytes, mtime_ns FROM documents JOIN spaces ON spaces.id = space WHERE live AND name = ? AND path = ?",
        (space, path),
    ).fetchone()
    return None if row is None or row[1] is None else (row[0], row[1])
