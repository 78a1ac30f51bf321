"""What the board's own apt knows, as the module package_state read it off the board."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple


class BoardState(NamedTuple):
    """Files of a board's apt and dpkg."""

    architecture: str
    """Debian's name, such as `arm64`."""
    status: bytes
    """dpkg's status file: what is installed."""
    sources: Mapping[str, str]
    """Text of the lists of sources by path."""
    preferences: Mapping[str, str]
    """Text of the files of pins by path."""
    keyrings: Mapping[str, bytes]
    """Keys that sign the sources, by path."""

    @classmethod
    def unpack(cls, packed: Mapping[str, Any]) -> BoardState:
        """Return the state that the module packed: zlib and base64, since a board sends it over its slow network."""
        return cls(
            packed["architecture"],
            _inflate(packed["status"]),
            json.loads(_inflate(packed["sources"])),
            json.loads(_inflate(packed["preferences"])),
            {path: base64.b64decode(data) for path, data in json.loads(_inflate(packed["keyrings"])).items()},
        )

    def with_sources(self, lines: list[str]) -> BoardState:
        """Return this state with other sources than the board's own, one a line."""
        return self._replace(sources={"/etc/apt/sources.list": "".join(f"{line}\n" for line in lines)})

    @property
    def archive_digest(self) -> str:
        """SHA-256 over what decides the package lists: architecture, sources and keys."""
        keys = {path: hashlib.sha256(key).hexdigest() for path, key in self.keyrings.items()}
        text = json.dumps([self.architecture, dict(self.sources), keys], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def _inflate(text: str) -> bytes:
    return zlib.decompress(base64.b64decode(text))
