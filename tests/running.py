"""The real service, started on this machine for a test or a benchmark."""

from __future__ import annotations

import http.client
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType

from tests.cache import REPOSITORY
from tests.client import Client, RefusedError

START_S = 60.0


class ServiceError(RuntimeError):
    """The service did not start, or ended when it should not have."""


class LocalService:
    """`python -m pinch serve` with its own state folder, on a free port of the loopback."""

    def __init__(self, folder: Path, *, python: str = sys.executable, **environment: str) -> None:
        """Prepare a service.

        Args:
            folder: holds state, token file and log; a service started again in it finds its store.
            python: interpreter to run it with.
            environment: settings, named as in the environment (`PINCH_TIER="minimal"`).
        """
        self.folder = folder
        self.log = folder / "service.log"
        self.port = free_port()
        self.token = self._token()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PINCH_")}
        self._environment = {
            **inherited,
            "PYTHONPATH": str(REPOSITORY / "service" / "src"),
            "PINCH_CONFIG": str(self._empty_config()),
            "PINCH_LISTEN": f"127.0.0.1:{self.port}",
            "PINCH_STATE_DIR": str(folder / "state"),
            "PINCH_TOKENS_FILE": str(folder / "tokens"),
            **environment,
        }
        self._command = [python, "-m", "pinch", "serve"]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> LocalService:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id while it runs."""
        if self._process is None:
            raise ServiceError("the service is not running")
        return self._process.pid

    def start(self) -> float:
        """Start and wait until it is ready; return the seconds that took."""
        begin = time.monotonic()
        self.await_ready(self.spawn())
        return time.monotonic() - begin

    def await_ready(self, process: subprocess.Popen[bytes]) -> None:
        """Wait until it is ready; `process` is what `spawn` returned."""
        begin = time.monotonic()
        while not self._ready():
            if process.poll() is not None:
                raise ServiceError(f"the service ended with status {process.returncode}:\n{self._tail()}")
            if time.monotonic() - begin > START_S:
                self.kill()
                raise ServiceError(f"the service was not ready within {START_S:.0f} s:\n{self._tail()}")
            time.sleep(0.02)

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)
        return self._process

    def stop(self) -> None:
        """End it as systemd would, and insist after 15 seconds."""
        if self._process and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(15)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        """End it without a word: SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def client(self, timeout_s: float = 120.0) -> Client:
        """Return a client with this service's token."""
        return Client("127.0.0.1", self.port, self.token, timeout_s)

    def _ready(self) -> bool:
        try:
            with self.client(5) as client:
                return bool(client.call("GET", "/readyz")["ready"])
        except (OSError, http.client.HTTPException, RefusedError):
            return False

    def _token(self) -> str:
        file = self.folder / "tokens"
        if not file.exists():
            file.touch(0o600)
            file.write_text(f"test {secrets.token_urlsafe(32)}\n", "utf-8")
        return file.read_text("utf-8").split()[1]

    def _empty_config(self) -> Path:
        file = self.folder / "pinch.toml"
        file.touch()
        return file

    def _tail(self) -> str:
        return "\n".join(self.log.read_text("utf-8", "replace").splitlines()[-20:])


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
