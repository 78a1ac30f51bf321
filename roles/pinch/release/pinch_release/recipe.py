"""The recipe: everything that decides a release's bytes, and the name that follows from it."""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import ReleaseError
from .target import Target

FLAVOURS = ("minimal", "semantic", "distribution")
BUILDER = Path(__file__).parent
_RELEASE = re.compile(r"(?P<flavour>[a-z]+)-(?P<python>3\.[0-9]+)-(?P<architecture>[a-z0-9]+)")


@dataclass(frozen=True)
class Recipe:
    """Sources of one release.

    `service` is the folder that holds `pyproject.toml`, the lock files and `src/`; `flavour` says what the service
    stands on: the wheels of a lock file, `minimal` without an embedding model or `semantic` with one, or for
    `distribution` Debian's own packages, which the board has and the release does not hold.
    """

    service: Path
    flavour: str
    target: Target

    def __post_init__(self) -> None:
        if self.flavour not in FLAVOURS:
            raise ReleaseError(f"flavour is {self.flavour!r}; expected one of {', '.join(FLAVOURS)}")
        if self.lock and not self.target.processor.wheels:
            raise ReleaseError(
                f"there are no wheels for {self.target.architecture}, and {self.flavour} stands on wheels; "
                f"expected distribution-{self.target}"
            )
        for path in (self.lock, self.project, self.package):
            if path and not path.exists():
                raise ReleaseError(f"{path} does not exist; expected the service's sources in {self.service}")

    @classmethod
    def named(cls, service: Path, release: str) -> Recipe:
        """Return the recipe of `release`, named `<flavour>-<Python>-<architecture>` as in `minimal-3.13-arm64`.

        Raises:
            ReleaseError: it is no such name, or nothing is made under it.
        """
        match = _RELEASE.fullmatch(release)
        if not match:
            raise ReleaseError(
                f"release is {release!r}; expected <flavour>-<Python>-<architecture>, as minimal-3.13-arm64"
            )
        return cls(service, match["flavour"], Target(match["python"], match["architecture"]))

    @property
    def lock(self) -> Path | None:
        """Lock file with a hash for every wheel; None for a release that holds none."""
        return None if self.flavour == "distribution" else self.service / f"requirements-{self.flavour}.lock"

    @property
    def project(self) -> Path:
        """The service's own `pyproject.toml`."""
        return self.service / "pyproject.toml"

    @property
    def package(self) -> Path:
        """The import package."""
        return self.service / "src" / "pinch"

    @cached_property
    def distribution(self) -> tuple[str, str]:
        """Name and version of the service's distribution."""
        project = tomllib.loads(self.project.read_text("utf-8"))["project"]
        return project["name"], project["version"]

    def sources(self) -> Iterator[tuple[str, Path]]:
        """Yield the package's files as path below `lib/` and path here, sorted."""
        for path in sorted(self.package.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                yield str(path.relative_to(self.package.parent)), path

    @cached_property
    def digest(self) -> str:
        """SHA-256 over all inputs, in hexadecimal."""
        sha = hashlib.sha256(f"{self.flavour}-{self.target}".encode())
        builder = [(f"builder/{path.name}", path) for path in sorted(BUILDER.iterdir()) if path.is_file()]
        lock = [("lock", self.lock)] if self.lock else []
        for name, path in [*lock, ("project", self.project), *builder, *self.sources()]:
            content = path.read_bytes()
            sha.update(f"\0{name}\0{len(content)}\0".encode())
            sha.update(content)
        return sha.hexdigest()

    @property
    def name(self) -> str:
        """Release name, `<version>-<first 8 digits of the digest>`."""
        return f"{self.distribution[1]}-{self.digest[:8]}"
