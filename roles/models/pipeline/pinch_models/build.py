"""From pins to a model directory, kept by content hash."""

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from pinch_models import archive, bert, checkpoint, foreign, layout, manifest, pooling, precision, writer
from pinch_models.errors import BuildError, VerifyError, storage_error
from pinch_models.manifest import Manifest, directory_name, verify, write_manifest
from pinch_models.pins import ModelPin
from pinch_models.session import probe
from pinch_models.sources import SourceSettings, fetch
from pinch_models.store import FileStore

# A change to any of these may change the bytes of a model, so it is part of the cache's key.
_RECIPE = (bert, checkpoint, foreign, layout, manifest, pooling, precision, writer)


@dataclass(frozen=True)
class Built:
    """A verified model directory; ``sources`` says where each file came from in this run."""

    path: Path
    manifest: Manifest
    fresh: bool
    sources: dict[str, str]


class Cache:
    """``downloads/`` by sha256, ``built/`` by recipe and pins, ``archives/`` by content hash."""

    def __init__(self, directory: Path) -> None:
        """Use ``directory``, made when first written to."""
        self.directory = directory
        self.downloads = FileStore(directory / "downloads")

    def find(self, pin: ModelPin) -> Built | None:
        """Return the model if it is built and whole."""
        path = self._place(pin)
        try:
            return Built(path, verify(path), fresh=False, sources={})
        except VerifyError:
            return None

    def build(self, pin: ModelPin, settings: SourceSettings, tell: Callable[[str], None]) -> Built:
        """Return the model, fetching and building what is not there; nothing half-built stays."""
        with self._locked():
            found = self.find(pin)
            if found is not None:
                return found
            with settings.open(self.directory) as sources:
                came_from = fetch(pin.checkpoint, self.downloads, sources, tell)
            tell(f"building {pin.name}")
            place = self._place(pin)
            place.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(prefix="build-", dir=self.directory) as folder:
                inputs, output = Path(folder, "inputs"), Path(folder, "model")
                inputs.mkdir()
                output.mkdir()
                for pinned in pin.checkpoint.files:
                    os.link(self.downloads.path(pinned), inputs / pinned.name)
                assemble(pin, inputs, output)
                replace_directory(output, place)
            return Built(place, verify(place), fresh=True, sources=came_from)

    def archive(self, built: Built) -> Path:
        """Return the tar file of the model, made anew from the verified directory."""
        path = self.directory / "archives" / f"{directory_name(built.manifest)}.tar"
        with self._locked():
            path.parent.mkdir(parents=True, exist_ok=True)
            archive.write_archive(built.path, directory_name(built.manifest), path)
        return path

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            with (self.directory / ".lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise storage_error(error, self.directory) from error

    def _place(self, pin: ModelPin) -> Path:
        recipe = [Path(str(module.__file__)).read_text(encoding="utf-8") for module in _RECIPE]
        known = asdict(pin)
        # Where the bytes come from does not change them.
        known["checkpoint"] |= {"hub": None, "wheel": None}
        for pinned in known["checkpoint"]["files"]:
            pinned["url"] = None
        key = hashlib.sha256(json.dumps([known, recipe], sort_keys=True).encode()).hexdigest()
        return self.directory / "built" / f"{pin.name}-{key[:16]}"


def assemble(pin: ModelPin, inputs: Path, output: Path) -> Manifest:
    """Make the model of the checkpoint files in ``inputs`` and try it; ``output`` is empty."""
    if pin.checkpoint.kind == "bert":
        shape = checkpoint.read_shape(inputs / "config.json")
        if shape.hidden != pin.dimensions:
            raise BuildError(
                f"config.json says hidden_size = {shape.hidden}, but {pin.dimensions} dimensions are "
                f"pinned for {pin.name}; correct its pin"
            )
        weights = checkpoint.Checkpoint(inputs / "model.safetensors", shape)
        model = bert.bert_model(weights, precision.PRECISIONS[pin.precision], pin.window, pin.pooling)
    else:
        model = foreign.foreign_model(inputs / "model.onnx", pin.pooling)
    layout.write_model(model, output)
    layout.write_tokenizer(inputs / "tokenizer.json", output)
    written = write_manifest(pin, output)
    probe(output, written)
    return written


def publish(built: Built, out: Path) -> bool:
    """Put a copy of the model at ``out``; return False if that very model is there already.

    Whatever is there stays until the copy is complete; a directory that is no model is refused.
    """
    before = out.with_name(f"{out.name}.previous")
    try:
        if before.exists() and not out.exists():
            before.rename(out)
        if out.exists():
            if any(out.iterdir()) and not (out / manifest.MANIFEST).is_file():
                raise BuildError(f"{out} exists and is no model directory; give an empty or a new one")
            if _same(out, built.manifest):
                return False
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
            copy = Path(folder, "model")
            copy.mkdir()
            for path in built.path.iterdir():
                shutil.copyfile(path, copy / path.name)
            verify(copy)
            replace_directory(copy, out)
    except OSError as error:
        raise storage_error(error, out) from error
    return True


def _same(directory: Path, wanted: Manifest) -> bool:
    try:
        return bool(verify(directory)["sha256"] == wanted["sha256"])
    except VerifyError:
        return False


def replace_directory(new: Path, target: Path) -> None:
    """Rename ``new`` to ``target``, whose former content goes once the new one stands."""
    before = target.with_name(f"{target.name}.previous")
    shutil.rmtree(before, ignore_errors=True)
    for path in (*new.iterdir(), new):
        _flush(path)
    if target.exists():
        target.rename(before)
    new.rename(target)
    _flush(target.parent)
    shutil.rmtree(before, ignore_errors=True)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
