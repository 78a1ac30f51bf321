"""The embedding model: the files its manifest promises, and whether this CPU runs it."""

from __future__ import annotations

import hashlib
import json
import signal
from pathlib import Path
from typing import Any

from pinch.cli.doctor.host import Finding, Host, Status

STANDARD_FOLDER = "/var/lib/pinch-models/current"
_INSTALL = "run the models role again (`ansible-playbook site.yml --tags models`), or set model_dir"
_BLOCK_BYTES = 1024 * 1024


def check(host: Host) -> list[Finding]:
    """Hash every file of the model's folder, then embed a sentence in a process of its own."""
    if not host.tier.semantic:
        return [Finding("model", Status.OK, f"tier {host.tier.name} recalls by keyword and needs no model")]
    folder = host.path(host.settings.model_dir or STANDARD_FOLDER)
    try:
        manifest = json.loads((folder / "manifest.json").read_bytes())
        problem = _problem(folder, manifest)
    except PermissionError:
        return [Finding("model", Status.WARN, f"{folder} may not be read", "run `sudo pinch doctor`")]
    except OSError as error:
        return [Finding("model", Status.FAIL, f"{folder} has no manifest.json ({error.strerror})", _INSTALL)]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return [Finding("model", Status.FAIL, f"{folder / 'manifest.json'} is no manifest ({error})", _INSTALL)]
    if problem:
        return [Finding("model", Status.FAIL, problem, _INSTALL)]
    found = f"{manifest['name']}, {len(manifest['files'])} files as the manifest says, in {folder}"
    return [Finding("model", Status.OK, found), _inference(host, folder)]


def content_hash(manifest: dict[str, Any]) -> str:
    """Return the SHA-256 of a manifest's canonical JSON without its own `sha256`."""
    rest = {key: value for key, value in manifest.items() if key != "sha256"}
    canonical = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def _problem(folder: Path, manifest: dict[str, Any]) -> str | None:
    if manifest.get("sha256") != content_hash(manifest):
        return f"{folder / 'manifest.json'} does not carry its own sha256: it was changed"
    for name, expected in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            return f"{folder} lacks {name}"
        if path.stat().st_size != expected["bytes"]:
            return f"{path} has {path.stat().st_size} bytes; the manifest says {expected['bytes']}"
        if _sha256(path) != expected["sha256"]:
            return f"{path} has another sha256 than the manifest says"
    return None


def _sha256(path: Path) -> str:
    hashed = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            hashed.update(block)
    return hashed.hexdigest()


def _inference(host: Host, folder: Path) -> Finding:
    trial = host.trial("-m", "pinch.memory.probe", str(folder))
    if trial.status == 0:
        return Finding("inference", Status.OK, "the model embeds a sentence on this CPU")
    if trial.status < 0:
        name = signal.Signals(-trial.status).name
        advice = 'install another onnxruntime, or set tier = "minimal"'
        return Finding("inference", Status.FAIL, f"ONNX Runtime dies on this CPU ({name})", advice)
    return Finding("inference", Status.FAIL, f"the model does not run: {trial.output}", _INSTALL)
