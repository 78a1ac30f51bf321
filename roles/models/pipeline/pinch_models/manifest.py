"""What a model directory says about itself, and whether that is true."""

import hashlib
import json
from pathlib import Path
from typing import Any

from pinch_models.errors import VerifyError
from pinch_models.layout import GRAPH, TOKENIZER, WEIGHTS
from pinch_models.pins import ModelPin
from pinch_models.store import sha256_of

MANIFEST = "manifest.json"
FILES = (GRAPH, TOKENIZER, WEIGHTS)

Manifest = dict[str, Any]


def write_manifest(pin: ModelPin, directory: Path) -> Manifest:
    """Describe the files in ``directory`` in its ``manifest.json`` and return what was written."""
    manifest: Manifest = {
        "name": pin.name,
        "revision": pin.checkpoint.revision,
        "dimensions": pin.dimensions,
        "window": pin.window,
        "pooling": pin.pooling,
        "prefix_query": pin.prefix_query,
        "prefix_document": pin.prefix_document,
        "precision": pin.precision,
        "files": {
            name: {"bytes": (directory / name).stat().st_size, "sha256": sha256_of(directory / name)} for name in FILES
        },
    }
    manifest["sha256"] = content_hash(manifest)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    (directory / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def content_hash(manifest: Manifest) -> str:
    """Return the sha256 of ``manifest`` without its own ``sha256``, as canonical JSON."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def directory_name(manifest: Manifest) -> str:
    """Return the name under which a device keeps the model."""
    return f"{manifest['name']}-{manifest['sha256'][:8]}"


def read_manifest(directory: Path) -> Manifest:
    """Read and check ``manifest.json`` itself; raise `VerifyError`."""
    path = directory / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise VerifyError(f"{directory} holds no {MANIFEST}; expected a model directory, build it again") from None
    except (OSError, ValueError) as error:
        raise VerifyError(f"{path} cannot be read ({error}); build the model again") from error
    if not isinstance(manifest, dict) or manifest.get("sha256") != content_hash(manifest):
        raise VerifyError(f"{path} does not carry its own sha256: it was changed; build the model again")
    return manifest


def verify(directory: Path) -> Manifest:
    """Check every file of the model directory; return its manifest or raise `VerifyError`."""
    manifest = read_manifest(directory)
    for name, expected in manifest["files"].items():
        path = directory / name
        if not path.is_file():
            raise VerifyError(f"{directory} lacks {name}; build the model again")
        length = path.stat().st_size
        if length != expected["bytes"]:
            raise VerifyError(
                f"{path} has {length:,} bytes, the manifest says {expected['bytes']:,}; build the model again"
            )
        digest = sha256_of(path)
        if digest != expected["sha256"]:
            raise VerifyError(
                f"{path} has sha256 {digest[:12]}…, the manifest says {expected['sha256'][:12]}…; build the model again"
            )
    return manifest
