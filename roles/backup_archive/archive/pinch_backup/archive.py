"""The archive: a tar stream with the manifest first, packed and read piece by piece and never whole."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Callable, Iterator
from typing import IO, Protocol, cast

from .errors import BackupError
from .manifest import MOST_BYTES, NAME, Manifest, Member, read_manifest

PIECE = 2**20

Pieces = Callable[[Member], Iterator[bytes]]
"""Gives a member's bytes."""


class Sink(Protocol):
    """Takes the bytes of members, in order."""

    def take(self, member: Member, piece: bytes) -> None:
        """Take the next piece of a member."""


class _Source:
    """A file to read from, made of pieces, that checks what it gave."""

    def __init__(self, member: Member, pieces: Iterator[bytes]) -> None:
        self._member = member
        self._pieces = pieces
        self._left = b""
        self._sum = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes, all of them where there are."""
        while len(self._left) < size and (piece := next(self._pieces, b"")):
            self._left += piece
        given, self._left = self._left[:size], self._left[size:]
        self._sum.update(given)
        return given

    def check(self) -> None:
        """Refuse what is not what the manifest promised.

        Raises:
            BackupError: it is not.
        """
        if self._left or next(self._pieces, b"") or self._sum.hexdigest() != self._member.sha256:
            raise BackupError(f"{self._member.name} changed while it was read; run again")


def pack(manifest: Manifest, pieces: Pieces, out: IO[bytes]) -> None:
    """Write an archive of the manifest's members to `out`.

    Raises:
        BackupError: a member is not what the manifest says.
    """
    with tarfile.open(fileobj=out, mode="w|", format=tarfile.PAX_FORMAT) as tar:
        text = manifest.text().encode()
        tar.addfile(_entry(NAME, len(text)), io.BytesIO(text))
        for member in manifest.members:
            source = _Source(member, pieces(member))
            try:
                tar.addfile(_entry(member.name, member.bytes), cast("IO[bytes]", source))
            except OSError as error:
                if error.errno is not None:
                    raise
                raise BackupError(f"{member.name} ended before its {member.bytes} bytes; run again") from error
            source.check()


def unpack(stream: IO[bytes], sink: Sink | None = None) -> Manifest:
    """Read an archive to its end, check every member, and give their bytes to `sink`.

    Raises:
        BackupError: it is none of ours, ends too early, or was changed.
    """
    try:
        with tarfile.open(fileobj=stream, mode="r|") as tar:
            manifest = _manifest(tar)
            missing = {member.name: member for member in manifest.members}
            while (entry := tar.next()) is not None:
                member = missing.pop(entry.name, None)
                content = tar.extractfile(entry)
                if member is None or content is None or entry.size != member.bytes:
                    raise BackupError(f"the backup holds {entry.name}, and its manifest knows no such file")
                _copy(member, content, sink)
    except tarfile.TarError as error:
        raise BackupError(f"the backup is no archive of ours, or ends too early: {error}") from error
    if missing:
        raise BackupError(f"the backup ends before {', '.join(sorted(missing))}; fetch the whole file again")
    return manifest


def _entry(name: str, size: int) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = size, 0o600
    return entry


def _manifest(tar: tarfile.TarFile) -> Manifest:
    first = tar.next()
    content = tar.extractfile(first) if first is not None else None
    if first is None or content is None or first.name != NAME or first.size > MOST_BYTES:
        raise BackupError("the file is encrypted, but no backup of a Pinch board")
    return read_manifest(content.read())


def _copy(member: Member, content: IO[bytes], sink: Sink | None) -> None:
    found = hashlib.sha256()
    piece = content.read(PIECE)
    while True:  # once at least: an empty file is to be made too
        found.update(piece)
        if sink is not None:
            sink.take(member, piece)
        if not (piece := content.read(PIECE)):
            break
    if found.hexdigest() != member.sha256:
        raise BackupError(f"{member.name} in the backup is damaged: its sum is not the manifest's")
