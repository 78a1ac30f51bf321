"""What the corpus is made of, read from `pins.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path

from attrs import frozen

PINS_FILE = Path(__file__).with_name("pins.toml")


@frozen
class Package:
    """A package whose documentation goes into the corpus."""

    name: str
    version: str
    license: str
    sha256: str
    """Of the tarball as the registry serves it."""

    @property
    def archive(self) -> str:
        """Name that npm gives the tarball."""
        return f"{self.name.lstrip('@').replace('/', '-')}-{self.version}.tgz"


@frozen
class Client:
    """The wheel that carries npm."""

    requirement: str
    sha256: list[str]


@frozen
class Pins:
    """The whole file."""

    documents: int
    least_bytes: int
    most_bytes: int
    live_documents: int
    queries: int
    client: Client
    packages: list[Package]


def load_pins(path: Path = PINS_FILE) -> Pins:
    """Read the pins; an unknown or missing key is a `TypeError` that names it."""
    raw = tomllib.loads(path.read_text("utf-8"))
    client = Client(**raw.pop("client"))
    packages = [Package(**row) for row in raw.pop("packages")]
    return Pins(**raw, client=client, packages=packages)
