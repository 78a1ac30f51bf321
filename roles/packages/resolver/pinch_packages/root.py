"""A root for apt: the board's lists, keys and installed packages, under the controller's program."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from .board import BoardState
from .errors import PackagesError
from .sources import rewrite

KEPT_OPTIONS = ("Acquire::http", "Acquire::https", "Acquire::Check-", "Acquire::ForceIPv", "Acquire::Retries")
"""Options of the controller's own apt that say how it reaches the network."""
_PLANNED = re.compile(r"^'(?P<uri>[^']+)' (?P<file>\S+) (?P<size>[0-9]+) SHA256:(?P<sha256>[0-9a-f]{64})$")


class Package(NamedTuple):
    """One package file to be installed."""

    file: str
    """Its name, `<package>_<version>_<architecture>.deb` with colons as `%3a`."""
    size_bytes: int
    sha256: str

    @property
    def title(self) -> str:
        """Name and version, as people write them."""
        name, version, _ = self.file.removesuffix(".deb").rsplit("_", 2)
        return f"{name} {version.replace('%3a', ':')}"


class AptRoot:
    """A folder that apt takes for `/` while it works for a board."""

    def __init__(self, folder: Path, lists: Path, state: BoardState, mirror: str | None) -> None:
        """Lay out `folder` after `state`; package lists are kept in the folder `lists`.

        Raises:
            PackagesError: there is no apt here, or a source that only the board can read.
        """
        self.archives = folder / "archives"
        self._config = folder / "apt.conf"
        self._tool = _tool("apt-get")
        for part in (self.archives / "partial", lists / "partial", folder / "etc/parts", folder / "etc/trusted"):
            part.mkdir(parents=True, exist_ok=True)
        (folder / "status").write_bytes(state.status)
        keyrings = _lay_keyrings(folder / "etc", state)
        for kind, files in (("sources", state.sources), ("preferences", state.preferences)):
            place = folder / "etc" / kind
            place.mkdir()
            for number, (path, text) in enumerate(sorted(files.items())):
                suffix = PurePosixPath(path).suffix or ".list" if kind == "sources" else ""
                content = rewrite(path, text, keyrings, mirror) if kind == "sources" else text
                (place / f"{number:02}{suffix}").write_text(content, "utf-8")
        self._config.write_text(_settings(folder, lists, state.architecture), "utf-8")

    def update(self) -> list[str]:
        """Fetch the package lists; return apt's words about each source that did not give its."""
        done = self._apt("update")
        return _complaints(done.stderr) or ([f"apt ended with {done.returncode}"] if done.returncode else [])

    def plan(self, names: Sequence[str]) -> list[Package]:
        """Return what has to be installed for `names`, dependencies among it.

        Raises:
            PackagesError: apt finds no way, or would have to remove something.
        """
        done = self._apt("install", "--print-uris", *names)
        if done.returncode:
            raise PackagesError(_gist(done.stderr) or f"apt ended with {done.returncode}")
        matches = [_PLANNED.match(line) for line in done.stdout.splitlines()]
        return sorted(Package(m["file"], int(m["size"]), m["sha256"]) for m in matches if m)

    def download(self, names: Sequence[str]) -> str:
        """Fetch into `archives` what the plan of `names` has and is not there yet; return apt's complaint, if any."""
        done = self._apt("install", "--download-only", *names)
        return (_gist(done.stderr) or f"apt ended with {done.returncode}") if done.returncode else ""

    def _apt(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = ["-qq", "--yes", "--no-install-recommends", "--no-remove"] if command == "install" else ["-q"]
        # The words of apt are told on, and some are looked for: they have to be English.
        environment = {**os.environ, "APT_CONFIG": str(self._config), "LC_ALL": "C.UTF-8"}
        return subprocess.run(
            [self._tool, *options, command, *arguments],
            env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
        )  # fmt: skip


def _lay_keyrings(folder: Path, state: BoardState) -> dict[str, str]:
    places = {}
    for path, key in state.keyrings.items():
        # apt goes by the ending, and boards have binary keys under every one.
        suffix = ".asc" if key.startswith(b"-----BEGIN") else ".gpg"
        trusted = path.startswith("/etc/apt/trusted.gpg")
        place = folder / ("trusted" if trusted else ".") / f"{hashlib.sha256(path.encode()).hexdigest()[:16]}{suffix}"
        place.write_bytes(key)
        places[path] = str(place)
    return places


def _settings(folder: Path, lists: Path, architecture: str) -> str:
    """Return apt's configuration: nothing of the controller's but how it reaches the network."""
    return "\n".join(
        [
            f'Dir "{folder}/";',
            f'Dir::State "{folder}/state/";',
            f'Dir::State::status "{folder}/status";',
            f'Dir::State::Lists "{lists}/";',
            f'Dir::Cache "{folder}/";',
            f'Dir::Cache::archives "{folder}/archives/";',
            'Dir::Cache::pkgcache "";',
            'Dir::Cache::srcpkgcache "";',
            f'Dir::Etc "{folder}/etc/";',
            'Dir::Etc::SourceList "/dev/null";',
            'Dir::Etc::SourceParts "sources";',
            'Dir::Etc::Main "/dev/null";',
            'Dir::Etc::Parts "parts";',
            'Dir::Etc::Trusted "/dev/null";',
            'Dir::Etc::TrustedParts "trusted";',
            'Dir::Etc::Preferences "/dev/null";',
            'Dir::Etc::PreferencesParts "preferences";',
            f'APT::Architecture "{architecture}";',
            f'APT::Architectures {{ "{architecture}"; }};',
            'APT::Sandbox::User "root";',
            'Acquire::Languages "none";',
            'Acquire::ForceHash "SHA256";',
            *_network_options(),
            "",
        ]
    )


def _network_options() -> list[str]:
    shown = subprocess.run([_tool("apt-config"), "dump"], capture_output=True, text=True, check=False).stdout
    return [line for line in shown.splitlines() if line.startswith(KEPT_OPTIONS) and not line.endswith(' "";')]


def _tool(name: str) -> str:
    found = shutil.which(name)
    if not found:
        raise PackagesError(
            f"{name} was not found on the controller, whose apt fetches packages for boards; run from Debian or "
            "Ubuntu, or set packages_source to board or none"
        )
    return found


def _complaints(stderr: str) -> list[str]:
    lines = (line.strip() for line in stderr.splitlines())
    general = ("Some index files failed", "Reading package lists")
    found = [line[3:] for line in lines if line.startswith(("E: ", "W: ")) and not line[3:].startswith(general)]
    return list(dict.fromkeys(found))


def _gist(stderr: str) -> str:
    return " ".join(line.strip() for line in stderr.splitlines() if line.strip())
