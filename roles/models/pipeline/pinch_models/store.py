"""Downloaded files on the controller, each under the name of its own sha256."""

import hashlib
from pathlib import Path

from pinch_models.errors import FetchError
from pinch_models.pins import PinnedFile

_BLOCK_BYTES = 2**20


def sha256_of(path: Path) -> str:
    """Return the sha256 of the file at ``path`` in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def mismatch(pinned: PinnedFile, path: Path) -> str | None:
    """Say how the file at ``path`` differs from its pin; None when it does not."""
    length = path.stat().st_size
    if pinned.length is not None and length != pinned.length:
        return f"{pinned.name} has {length:,} bytes, {pinned.length:,} are pinned"
    digest = sha256_of(path)
    if digest != pinned.sha256:
        return f"{pinned.name} has sha256 {digest[:12]}…, {pinned.sha256[:12]}… is pinned"
    return None


class FileStore:
    """Files by content; what is in it was checked on the way in and is checked again on use."""

    def __init__(self, directory: Path) -> None:
        """Keep the files in ``directory``, which is made on first use."""
        self.directory = directory

    def path(self, pinned: PinnedFile) -> Path:
        """Where the file is once it is had."""
        return self.directory / pinned.sha256

    def partial(self, pinned: PinnedFile) -> Path:
        """Where the file grows while it is fetched; kept for a later attempt to go on with."""
        self.directory.mkdir(parents=True, exist_ok=True)
        return self.directory / f"{pinned.sha256}.partial"

    def holds(self, pinned: PinnedFile) -> bool:
        """Tell whether the file is there and whole; a damaged one is removed."""
        path = self.path(pinned)
        if not path.is_file():
            return False
        if mismatch(pinned, path) is None:
            return True
        path.unlink()
        return False

    def adopt(self, pinned: PinnedFile) -> None:
        """Take the partial file in; raise `FetchError` and drop it if it is not as pinned."""
        partial = self.partial(pinned)
        problem = mismatch(pinned, partial)
        if problem is not None:
            partial.unlink()
            raise FetchError(problem)
        partial.replace(self.path(pinned))

    def copy(self, pinned: PinnedFile, origin: Path) -> None:
        """Take in a copy of ``origin``."""
        partial = self.partial(pinned)
        left = pinned.limit + 1
        try:
            with origin.open("rb") as source, partial.open("wb") as target:
                while left > 0 and (block := source.read(min(_BLOCK_BYTES, left))):
                    left -= target.write(block)
        except OSError:
            partial.unlink(missing_ok=True)
            raise
        self.adopt(pinned)
