"""Running the CLI as its users do."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from tests.running import LocalService

COMMAND_S = 120.0


class Said(NamedTuple):
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output as JSON."""
        assert self.status == 0, self
        return json.loads(self.out)


class OpenClaw:
    """The CLI with a home of its own, pointed at one service."""

    def __init__(self, command: list[str], home: Path, service: LocalService) -> None:
        self._command = command
        self._service = service
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("OPENCLAW_")}
        # It probes the gateway it takes for the machine's own, too: that shall be no other than this one.
        own = {"HOME": str(home), "TMPDIR": str(home), "OPENCLAW_GATEWAY_PORT": str(service.port)}
        self._environment = {**inherited, **own}

    def __call__(self, *arguments: str, token: str = "") -> Said:
        """Run `openclaw …` with the right token, or another."""
        target = ["--url", f"ws://127.0.0.1:{self._service.port}", "--token", token or self._service.token]
        done = subprocess.run(
            [*self._command, *arguments, *target],
            env=self._environment,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    def call(self, method: str, *options: str, **params: Any) -> Any:
        """Return the payload of `openclaw gateway call …`."""
        return self("gateway", "call", method, "--json", "--params", json.dumps(params), *options).json
