"""The plug of an emulated board: pulled in the middle of things, and put back."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import testinfra
from attrs import define

from tests.appliance import Board, BoardError, Login
from tests.cache import REPOSITORY

EMULATOR = REPOSITORY / "image" / "emulator"
LOGIN_OPTIONS = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]


@define
class Plug:
    """A board that `image/emulator up` booted."""

    board: str
    state: Path

    def pull(self) -> None:
        """Cut the power: nothing in the board's memory reaches its card any more."""
        self._emulator("cut")

    def put_back(self) -> Board:
        """Boot the board from the card as it is and return it; its ssh port may be another."""
        up = self._emulator("up")
        login = Login(False, str(up["host"]), int(up["port"]), str(up["user"]), str(up["key"]), LOGIN_OPTIONS)
        host = testinfra.get_host(
            f"ssh://{login.user}@{login.address}:{login.port}",
            ssh_identity_file=login.key,
            ssh_extra_args=" ".join(LOGIN_OPTIONS),
            controlpersist=0,
            sudo=True,
        )
        return Board(host, login)

    def _emulator(self, verb: str) -> dict[str, Any]:
        command = [str(EMULATOR), verb, self.board, "--json", "--state", str(self.state)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BoardError(f"image/emulator {verb} {self.board}: {done.stderr.strip() or done.stdout.strip()}")
        answer: dict[str, Any] = json.loads(done.stdout or "{}")
        return answer
