"""A Debian archive on the loopback: packages made on the spot, lists signed with a key made on the spot."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

STATUS = "Package: {name}\nStatus: install ok installed\nArchitecture: {architecture}\nVersion: {version}\n\n"


class Archive:
    """Files below `folder`, served at `uri`; `asked` is what was asked for."""

    def __init__(self, folder: Path, port: int, architecture: str = "armhf") -> None:
        """Begin empty."""
        self.folder = folder
        self.uri = f"http://127.0.0.1:{port}/debian"
        self.architecture = architecture
        self.asked: list[str] = []
        self._stanzas: list[str] = []

    @property
    def fetched(self) -> list[str]:
        """Names of the package files that were asked for."""
        return [path.rpartition("/")[2] for path in self.asked if path.endswith(".deb")]

    def add(self, name: str, version: str = "1.0", **fields: str) -> Path:
        """Make a package with a file of its own; `fields` as in its control file."""
        tree = self.folder / "making" / name
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "usr/share/pinch-tests").mkdir(parents=True)
        (tree / "usr/share/pinch-tests" / name).write_text(version, "utf-8")
        control = {
            "Package": name,
            "Version": version,
            "Architecture": self.architecture,
            "Maintainer": "Tests <tests@example.org>",
            "Description": "a package of the tests",
            **{field.replace("_", "-"): value for field, value in fields.items()},
        }
        text = "".join(f"{field}: {value}\n" for field, value in control.items())
        (tree / "DEBIAN" / "control").write_text(text, "utf-8")
        pool = self.folder / "debian" / "pool"
        pool.mkdir(parents=True, exist_ok=True)
        file = pool / f"{name}_{version}_{self.architecture}.deb"
        command = ["dpkg-deb", "--build", "--root-owner-group", str(tree), str(file)]
        subprocess.run(command, capture_output=True, check=True)
        sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
        self._stanzas.append(f"{text}Filename: pool/{file.name}\nSize: {file.stat().st_size}\nSHA256: {sha256}\n")
        return file

    def publish(self, home: Path | None = None) -> None:
        """Write the lists, signed by the key in the keyring folder `home`, unsigned without one."""
        suite = self.folder / "debian" / "dists" / "trixie"
        lists = suite / "main" / f"binary-{self.architecture}"
        lists.mkdir(parents=True, exist_ok=True)
        packages = "\n".join(self._stanzas).encode()
        (lists / "Packages").write_bytes(packages)
        name = f"main/binary-{self.architecture}/Packages"
        release = (
            "Origin: Tests\nSuite: trixie\nCodename: trixie\nDate: Sat, 21 Nov 2026 00:00:00 UTC\n"
            f"Architectures: {self.architecture}\nComponents: main\n"
            f"SHA256:\n {hashlib.sha256(packages).hexdigest()} {len(packages)} {name}\n"
        )
        (suite / "Release").write_text(release, "utf-8")
        if home:
            gpg(home, "--clearsign", "--output", str(suite / "InRelease"), "--yes", str(suite / "Release"))


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Archive]:
    """Serve an archive below `folder`."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            archive.asked.append(self.path)

    folder.mkdir(exist_ok=True)
    with ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder))) as server:
        archive = Archive(folder, server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield archive
        finally:
            server.shutdown()
            thread.join()


def make_key(home: Path) -> bytes:
    """Make a key in the new keyring folder `home`; return its public half."""
    home.mkdir(mode=0o700)
    gpg(home, "--passphrase", "", "--quick-generate-key", "tests@example.org", "ed25519", "sign", "never")
    return gpg(home, "--export")


def gpg(home: Path, *arguments: str) -> bytes:
    """Run gpg, and end the agent it starts."""
    environment = {**os.environ, "GNUPGHOME": str(home)}
    done = subprocess.run(["gpg", "--batch", *arguments], env=environment, capture_output=True, check=True)
    subprocess.run(["gpgconf", "--kill", "all"], env=environment, capture_output=True, check=True)
    return done.stdout


def a_board(root: Path, sources: str, installed: tuple[str, ...] = ("python3",), key: bytes = b"") -> Path:
    """Write what a board's apt knows below the new folder `root`."""
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "etc/apt/sources.list.d").mkdir(parents=True)
    (root / "usr/share/keyrings").mkdir(parents=True)
    status = "".join(STATUS.format(name=name, version="1.0", architecture="armhf") for name in installed)
    (root / "var/lib/dpkg/status").write_text(status, "utf-8")
    (root / "etc/apt/sources.list").write_text(sources, "utf-8")
    if key:
        (root / "usr/share/keyrings/tests.pgp").write_bytes(key)
    return root
