"""Where heavy things are kept between runs: outside the checkout, named by what they were made of."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent


def cache_folder(name: str) -> Path:
    """Return the folder `name` of the cache, made when it is not there."""
    root = Path(os.environ.get("PINCH_CACHE") or Path.home() / ".cache" / "pinch")
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def digest(*parts: bytes | Path) -> str:
    """Return the SHA-256 of `parts`, in hexadecimal; a path stands for the bytes of its file."""
    whole = hashlib.sha256()
    for part in parts:
        content = part.read_bytes() if isinstance(part, Path) else part
        whole.update(hashlib.sha256(content).digest())
    return whole.hexdigest()
