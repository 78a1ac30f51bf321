"""A board's card: two disks of its own, made over a finished image and bound to it."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from . import disk
from .failure import ImageError


@dataclass(frozen=True)
class Origin:
    """What a card was made over: the image's folder, its identity, and the name of the system in it."""

    image: str
    sha256: str | None
    system: str


class Card:
    """The card in a board's folder; `root` keeps only what differs from the image, `firmware` is a FAT of its own."""

    def __init__(self, folder: Path, board: str) -> None:
        self.root = folder / "card.qcow2"
        self.firmware = folder / "firmware.raw"
        self._origin = folder / "card.json"
        self._board = board

    def there(self) -> bool:
        """Tell whether there is a card; of one half made there is none."""
        return self.root.exists()

    def origin(self) -> Origin:
        """Return what the card was made over. Raises ImageError if that cannot be told or is gone."""
        try:
            origin = Origin(**json.loads(self._origin.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            raise ImageError(
                f"{self._board}'s card does not say what it was made over, as one from an older checkout: "
                "start with a new card, up --fresh."
            ) from None
        if _identity(Path(origin.image)) != origin.sha256 or not self.firmware.exists():
            raise ImageError(
                f"The image that {self._board}'s card was made over, {origin.image}, is gone or was built anew: "
                "start with a new card, up --fresh."
            )
        return origin

    def make(self, image: Path, system: str) -> None:
        """Make a new card over `image`. Raises ImageError."""
        _convert(
            ["convert", "-f", "raw", "-O", "raw", str(image / disk.FIRMWARE), str(self.firmware)],
            f"copy {image / disk.FIRMWARE}",
        )
        origin = Origin(str(image), _identity(image), system)
        self._origin.write_text(json.dumps(asdict(origin)), encoding="utf-8")
        # Last and under another name first: a card half made is never booted.
        partial, base = self.root.with_suffix(".partial"), image / disk.DISK
        _convert(
            ["create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(partial)], f"make a card over {base}"
        )
        partial.rename(self.root)

    def remove(self) -> None:
        """Throw the card away."""
        self.root.unlink(missing_ok=True)
        self.firmware.unlink(missing_ok=True)


def _convert(arguments: list[str], wish: str) -> None:
    done = subprocess.run(["qemu-img", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise ImageError(f"qemu-img could not {wish}: {done.stderr.strip()}")


def _identity(image: Path) -> str | None:
    try:
        return str(disk.read_manifest(image)["files"][disk.DISK]["sha256"])
    except OSError:
        return None
