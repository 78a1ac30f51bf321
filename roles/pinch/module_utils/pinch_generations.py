"""Generations: what a release ran with when it was last seen healthy, kept so that it can run again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

from ansible.module_utils.pinch_files import place, point, remove


class GenerationError(Exception):
    """A generation that cannot be had; the message says what to do."""


class Generation(NamedTuple):
    """A release with everything of the host that belongs to it."""

    release: str
    files: dict[str, str]
    """Text of settings and units by path."""
    model: str
    """Folder name of the model beside it, empty where there is none."""
    before: str = ""
    """Release that it took over from, empty where it was the first."""

    @property
    def deployment(self) -> str:
        """DEPLOYMENT in the environment of its process; older generations have it in the unit."""
        lines = (line.removeprefix("Environment=") for text in self.files.values() for line in text.splitlines())
        name = "DEPLOYMENT="
        return next((line.removeprefix(name) for line in lines if line.startswith(name)), "")


class Generations:
    """Those of one board, a file each beside its releases."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._folder = home / "generations"
        self._proven = self._folder / "proven"

    def find(self, release: str) -> Generation | None:
        """Return what `release` ran with; None where that was not kept or the release is gone."""
        file = self._folder / f"{release}.json"
        if not release or not self.installed(release):
            return None
        try:
            kept = json.loads(file.read_text("utf-8"))
            return Generation(**{name: kept[name] for name in Generation._fields})
        except (OSError, ValueError, KeyError):
            return None

    def installed(self, release: str) -> bool:
        """Whether a release is on the board, whole."""
        return bool(release) and (self.home / "releases" / release / "release.json").exists()

    def proven(self) -> Generation | None:
        """Return the generation that was seen healthy last."""
        return self.find(self._proven.readlink().stem) if self._proven.is_symlink() else None

    def known(self) -> list[str]:
        """Return the releases that can run again as they did."""
        names = sorted(file.stem for file in self._folder.glob("*.json"))
        return [name for name in names if self.find(name) is not None]

    def target(self, to: str, current: str) -> Generation:
        """Return the generation to go back to: that of the release `to`, or of the one before `current`.

        Raises:
            GenerationError: there is none.
        """
        known = [name for name in self.known() if name != current]
        others = f"it can go back to {', '.join(known)}; name one in rollback_to" if known else "it knows no other"
        if to:
            found = self.find(to)
            if found is None:
                raise GenerationError(f"this board cannot go back to release {to!r}: {others}")
            return found
        present = self.find(current)
        before = self.find(present.before) if present else None
        if before is None:
            raise GenerationError(f"there is no release before {current or 'the present one'} on this board: {others}")
        return before

    def keep(self, generation: Generation, *, proven: bool) -> None:
        """Write a generation; `proven` says that it is healthy now. Those whose release is gone are forgotten."""
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o755)
        for leftover in self._folder.glob(".*"):
            leftover.unlink()
        file = self._folder / f"{generation.release}.json"
        place(file, json.dumps(generation._asdict(), indent=1, sort_keys=True) + "\n")
        if proven:
            point(self._proven, file.name)
        for other in self._folder.glob("*.json"):
            if not self.installed(other.stem):
                other.unlink()

    def forget(self, release: str) -> None:
        """Know no longer what `release` ran with."""
        remove(self._folder / f"{release}.json")
