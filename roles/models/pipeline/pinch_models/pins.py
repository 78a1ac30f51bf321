"""The pinned models: which exist, the bytes they are made of, and who offers those bytes."""

import difflib
import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pinch_models.errors import PinError
from pinch_models.pooling import POOLINGS
from pinch_models.precision import PRECISIONS
from pinch_models.table import Table

# A file whose length is not pinned may still not fill the disk.
UNPINNED_LIMIT_BYTES = 2 * 2**30
KINDS = {
    "bert": ("config.json", "model.safetensors", "tokenizer.json"),
    "onnx": ("model.onnx", "tokenizer.json"),
}
# The precision of a graph that someone else exported is whatever it came with.
AS_GIVEN = "as-given"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class PinnedFile:
    """One file of a checkpoint; ``length`` in bytes is None where the user gave none."""

    name: str
    sha256: str
    length: int | None
    url: str | None

    @property
    def limit(self) -> int:
        """The most bytes that may be read for it."""
        return UNPINNED_LIMIT_BYTES if self.length is None else self.length


@dataclass(frozen=True)
class WheelPin:
    """A package that carries the files in ``folder``."""

    requirement: str
    sha256: str
    folder: str


@dataclass(frozen=True)
class CheckpointPin:
    """Files that belong together, and the places pinned for them."""

    name: str
    kind: str
    revision: str
    files: tuple[PinnedFile, ...]
    hub: str | None
    wheel: WheelPin | None


@dataclass(frozen=True)
class ModelPin:
    """A model directory that can be built; the fields below are those of its manifest."""

    name: str
    checkpoint: CheckpointPin
    precision: str
    dimensions: int
    window: int
    pooling: str
    prefix_query: str
    prefix_document: str


@dataclass(frozen=True)
class Pins:
    """All models by name."""

    models: Mapping[str, ModelPin] = field(default_factory=dict)

    def model(self, name: str) -> ModelPin:
        """Return the model called ``name`` or say which there are."""
        if name in self.models:
            return self.models[name]
        near = difflib.get_close_matches(name, self.models, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise PinError(f"no model is called {name!r}; {hint}known: {', '.join(sorted(self.models))}")


def load_pins(own: str | None = None, own_name: str = "your pins") -> Pins:
    """Return the built-in pins, with those of ``own`` (TOML or JSON text) added."""
    pins = _parse("pins.toml", resources.files(__package__).joinpath("pins.toml").read_text("utf-8"), {})
    if own is None:
        return pins
    added = _parse(own_name, own, {model.checkpoint.name: model.checkpoint for model in pins.models.values()})
    for name in added.models:
        if name in pins.models:
            raise PinError(f"{own_name}: the name {name!r} is taken by a built-in model; choose another")
    return Pins({**pins.models, **added.models})


def load_pins_file(path: Path) -> Pins:
    """Return the built-in pins and those of the file at ``path``."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PinError(f"the pins file {path} cannot be read ({error}); expected TOML or JSON") from error
    return load_pins(text, path.name)


def _parse(where: str, text: str, known: Mapping[str, CheckpointPin]) -> Pins:
    root = Table(where, _document(where, text))
    checkpoints = dict(known)
    if "checkpoints" in root:
        for name, entry in root.table("checkpoints").tables():
            checkpoints[name] = _checkpoint(name, entry)
            entry.close()
    models = {name: _model(name, entry, checkpoints) for name, entry in root.table("models").tables()}
    root.close()
    return Pins(models)


def _document(where: str, text: str) -> dict[str, Any]:
    try:
        if text.lstrip().startswith("{"):
            return dict(json.loads(text))
        return tomllib.loads(text)
    except (ValueError, TypeError) as error:
        raise PinError(f"{where} is neither TOML nor JSON ({error})") from error


def _model(name: str, entry: Table, checkpoints: Mapping[str, CheckpointPin]) -> ModelPin:
    _named(entry.where, name)
    if "files" in entry:
        checkpoint = _checkpoint(name, entry)
    else:
        wanted = entry.text("checkpoint")
        if wanted not in checkpoints:
            raise PinError(
                f"{entry.where}: no checkpoint is called {wanted!r}; known: {', '.join(checkpoints) or 'none'}"
            )
        checkpoint = checkpoints[wanted]
    bert = checkpoint.kind == "bert"
    model = ModelPin(
        name=name,
        checkpoint=checkpoint,
        precision=entry.choice("precision", tuple(PRECISIONS) if bert else (AS_GIVEN,), "int8" if bert else AS_GIVEN),
        dimensions=entry.integer("dimensions", 1, 8192),
        window=entry.integer("window", 8, 8192),
        pooling=entry.choice("pooling", POOLINGS, "mean"),
        prefix_query=entry.text("prefix_query", ""),
        prefix_document=entry.text("prefix_document", ""),
    )
    entry.close()
    return model


def _checkpoint(name: str, entry: Table) -> CheckpointPin:
    _named(entry.where, name)
    kind = entry.choice("kind", tuple(KINDS), "bert")
    entry.text("licence", "")
    files = tuple(_file(file, values) for file, values in entry.table("files").tables())
    missing = [file for file in KINDS[kind] if file not in {pinned.name for pinned in files}]
    if missing:
        raise PinError(f"{entry.where}.files: a {kind} checkpoint also needs {', '.join(missing)}; pin them too")
    hub = wheel = None
    if "hub" in entry:
        hub = _web(entry.table("hub"))
    if "wheel" in entry:
        wheel = _wheel(entry.table("wheel"))
    return CheckpointPin(name, kind, entry.text("revision"), files, hub, wheel)


def _file(name: str, values: Table) -> PinnedFile:
    _named(values.where, name)
    length = values.integer("bytes", 1, UNPINNED_LIMIT_BYTES) if "bytes" in values else None
    url = _web(values, close=False) if "url" in values else None
    pinned = PinnedFile(name, _sha256(values), length, url)
    values.close()
    return pinned


def _wheel(values: Table) -> WheelPin:
    requirement = values.text("requirement")
    if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+!-]+", requirement):
        raise PinError(f"{values.where}: requirement is {requirement!r}, expected name==version")
    wheel = WheelPin(requirement, _sha256(values), values.text("folder"))
    if wheel.folder.startswith("/") or ".." in wheel.folder.split("/"):
        raise PinError(f"{values.where}: folder is {wheel.folder!r}, expected a path inside the package")
    values.close()
    return wheel


def _web(values: Table, *, close: bool = True) -> str:
    url = values.text("url")
    check_url(url, f"{values.where}: url")
    if close:
        if "{file}" not in url:
            raise PinError(f"{values.where}: url is {url!r}, expected {{file}} where the file's name goes")
        values.close()
    return url


def check_url(url: str, where: str) -> None:
    """Raise `PinError`, naming ``where``, unless ``url`` is an http or https address."""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise PinError(f"{where} is {url!r}, expected an http or https address")


def _sha256(values: Table) -> str:
    digest = values.text("sha256")
    if not _SHA256.fullmatch(digest):
        raise PinError(f"{values.where}: sha256 is {digest!r}, expected 64 lower-case hexadecimal digits")
    return digest


def _named(where: str, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise PinError(f"{where}: {name!r} is no usable name; use letters, digits, dots, dashes, underscores")
