"""The command line as a person runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from tests.running import LocalService

CLEAN = {name: value for name, value in os.environ.items() if not name.startswith("PINCH_")}


@define
class Pinch:
    """Runs `pinch` with an environment of its own."""

    environ: dict[str, str] = field(factory=dict)

    def __call__(
        self,
        *arguments: str | bytes,
        stdin: bytes = b"",
        environ: Mapping[str, str] | None = None,
        timeout_s: float = 60,
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "pinch", *arguments],
            input=stdin,
            capture_output=True,
            env={**CLEAN, **self.environ, **(environ or {})},
            timeout=timeout_s,
        )

    def ok(self, *arguments: str, stdin: bytes = b"") -> str:
        done = self(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def json(self, *arguments: str, stdin: bytes = b"") -> Any:
        return json.loads(self.ok(*arguments, "--json", stdin=stdin))

    def fails(self, status: int, *arguments: str | bytes, stdin: bytes = b"", **environ: str) -> str:
        """Return the one sentence of a command that ends with `status`."""
        done = self(*arguments, stdin=stdin, environ=environ)
        sentence = done.stderr.decode()
        assert done.returncode == status, sentence or done.stdout.decode()
        assert sentence.startswith("pinch: ")
        assert sentence.count("\n") == 1
        assert "Traceback" not in sentence
        return sentence.removeprefix("pinch: ").rstrip("\n")

    def bare(self, *arguments: str) -> list[str]:
        """Return the command's words, for a test that starts it in its own way."""
        return [sys.executable, "-m", "pinch", *arguments]

    @property
    def whole_environ(self) -> dict[str, str]:
        """The environment that such a test has to give it."""
        return {**CLEAN, **self.environ}


def pinch_of(service: LocalService) -> Pinch:
    """Return the command line that has the same settings as a running service."""
    return Pinch(
        {
            "PINCH_CONFIG": str(service.folder / "pinch.toml"),
            "PINCH_LISTEN": f"127.0.0.1:{service.port}",
            "PINCH_STATE_DIR": str(service.folder / "state"),
            "PINCH_TOKENS_FILE": str(service.folder / "tokens"),
            "PINCH_TIER": "minimal",
        }
    )
