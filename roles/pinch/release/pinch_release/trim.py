"""Trimming: leave out of a release what a board never imports."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path, PurePosixPath


@dataclass(frozen=True)
class TrimRules:
    """Path patterns below `lib/`: `keep` wins over `drop`."""

    keep: tuple[str, ...]
    drop: tuple[str, ...]

    def drops(self, path: PurePosixPath) -> bool:
        """Say whether the file at `path` stays out of the release."""
        text = str(path)
        if any(_regex(pattern).fullmatch(text) for pattern in self.keep):
            return False
        return any(_regex(pattern).fullmatch(text) for pattern in self.drop)


def load_rules(text: str | None = None) -> TrimRules:
    """Read the rules that ship with the builder, or `text` in their place (TOML)."""
    raw = tomllib.loads(text or resources.files("pinch_release").joinpath("trim.toml").read_text("utf-8"))
    drop = tuple(pattern for group in raw["drop"] for pattern in group["paths"])
    return TrimRules(keep=tuple(raw["keep"]), drop=drop)


def trim(root: Path, rules: TrimRules) -> int:
    """Delete what `rules` drop below `root`, then empty folders; return the bytes freed."""
    freed = 0
    for path in sorted(root.rglob("*"), reverse=True):
        if path.is_dir() and not path.is_symlink():
            if not any(path.iterdir()):
                path.rmdir()
        elif rules.drops(PurePosixPath(path.relative_to(root))):
            freed += path.lstat().st_size
            path.unlink()
    return freed


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    parts = []
    rest = pattern
    while rest:
        if rest.startswith("**/"):
            parts.append("(?:[^/]+/)*")
            rest = rest[3:]
        elif rest.startswith("**"):
            parts.append(".*")
            rest = rest[2:]
        elif rest.startswith("*"):
            parts.append("[^/]*")
            rest = rest[1:]
        else:
            parts.append(re.escape(rest[0]))
            rest = rest[1:]
    return re.compile("".join(parts))
