"""Files of a folder that are documents: found by pattern, read once to know what they hold."""

from __future__ import annotations

import codecs
import fnmatch
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from attrs import define, field, frozen

BLOCK_BYTES = 64 * 1024


class FileError(Exception):
    """A file that cannot become a document; says why."""


@frozen
class Found:
    """A file below the folder."""

    relative: str
    """Path below the folder, with slashes; not encodable as UTF-8 where the name is not."""
    path: Path
    length: int
    """Bytes when the folder was read."""


@define
class Walk:
    """One reading of a folder.

    Args:
        root: the folder.
        patterns: shell patterns for file names.
        follow: go through symbolic links; a folder is visited once, so a loop ends.
    """

    root: Path
    patterns: Sequence[str]
    follow: bool = False
    problems: dict[str, str] = field(factory=dict)
    """What could not be read, by path below the folder, and why."""
    links: int = 0
    """Symbolic links passed over."""

    def files(self) -> Iterator[Found]:
        """Yield the matching files, a folder's own before those of its folders; hidden ones are left out.

        Raises:
            OSError: the folder itself cannot be read.
        """
        status = self.root.stat()
        visited = {(status.st_dev, status.st_ino)}
        waiting = [(self.root, "")]
        while waiting:
            folder, below = waiting.pop()
            folders = []
            for entry in self._entries(folder, below):
                relative = below + entry.name
                try:
                    status = entry.stat()
                except OSError as error:
                    if self._matches(entry.name):
                        self.problems[relative] = f"cannot be read: {error.strerror}"
                    continue
                identity = (status.st_dev, status.st_ino)
                if stat.S_ISDIR(status.st_mode) and identity not in visited:
                    visited.add(identity)
                    folders.append((folder / entry.name, relative + "/"))
                elif stat.S_ISREG(status.st_mode) and self._matches(entry.name):
                    yield Found(relative, folder / entry.name, status.st_size)
            waiting += reversed(folders)

    def _entries(self, folder: Path, below: str) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(folder) as listing:
                entries = sorted(listing, key=lambda entry: os.fsencode(entry.name))
        except OSError as error:
            if not below:
                raise
            self.problems[below.rstrip("/")] = f"folder cannot be read: {error.strerror}"
            return
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.is_symlink() and not self.follow:
                self.links += 1
                continue
            yield entry

    def _matches(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.patterns)


@frozen
class Digest:
    """What a file held when it was read."""

    sha256: str
    length: int


def digest(path: Path) -> Digest:
    """Read a file in blocks and return its hash.

    Raises:
        FileError: it cannot be read, or is not UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    hashed = hashlib.sha256()
    length = 0
    try:
        for block in _read(path):
            if length == 0 and block.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise FileError("is UTF-16; expected UTF-8: convert it (iconv -f UTF-16 -t UTF-8)")
            decoder.decode(block)
            hashed.update(block)
            length += len(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        raise FileError(f"is not UTF-8 near byte {length}; convert it (iconv -t UTF-8)") from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}") from None
    return Digest(hashed.hexdigest(), length)


@frozen
class FileBody:
    """A file as a request body of exactly `length` bytes."""

    path: Path
    length: int
    sent: Callable[[int], object]
    """Told the bytes of each block."""

    def blocks(self) -> Iterator[bytes]:
        """Yield the file.

        Raises:
            FileError: it cannot be read any more, or became shorter.
        """
        left = self.length
        try:
            for block in _read(self.path):
                part = block[:left]
                left -= len(part)
                self.sent(len(part))
                yield part
                if not left:
                    return
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}") from None
        if left:
            raise FileError("became shorter while it was read; run the command again")


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as stream:
        while block := stream.read(BLOCK_BYTES):
            yield block
