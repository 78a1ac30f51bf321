"""Simulated boards for as long as a test needs them, and the inventory that leads to them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tests.cache import REPOSITORY

from .boards import KINDS, SimulatedBoard
from .sshd import make_key, sshd_tree


class WorldError(RuntimeError):
    """The boards did not come up."""


class World(NamedTuple):
    """Boards that are on, and the private key that they let in."""

    listening: dict[str, tuple[str, int]]
    key: Path
    folder: Path

    def variables(self, name: str) -> dict[str, Any]:
        """Return the connection variables of a board, as an inventory has them."""
        address, port = self.listening[name]
        known = self.folder / "known_hosts"
        return {
            "ansible_host": address,
            "ansible_port": port,
            "ansible_user": "root",
            "ansible_ssh_private_key_file": str(self.key),
            "ansible_ssh_common_args": f"-o UserKnownHostsFile={known} -o StrictHostKeyChecking=accept-new "
            "-o IdentitiesOnly=yes",
        }

    def inventory(self, **more: dict[str, Any]) -> dict[str, Any]:
        """Return Ansible's inventory of all boards in the group pinch, with `more` variables by name of the board."""
        return {"pinch": {"hosts": {name: {**self.variables(name), **more.get(name, {})} for name in self.listening}}}


@contextmanager
def simulated(boards: Sequence[SimulatedBoard]) -> Iterator[World]:
    """Switch `boards` on, and off at the end; they die with this process, too.

    Raises:
        WorldError: they do not come up; says what the kernel or the machine lacks.
    """
    unknown = {board.kind for board in boards} - {*KINDS}
    if unknown:
        raise WorldError(f"boards of the kinds {sorted(unknown)}; expected {', '.join(KINDS)}")
    with tempfile.TemporaryDirectory(prefix="pinch-world-") as name:
        folder = Path(name)
        key = make_key(folder, "login")
        make_key(folder, "host")
        tree = sshd_tree()
        wanted = {"folder": name, "sshd": str(tree) if tree else "", "boards": boards}
        with subprocess.Popen(_command(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=REPOSITORY) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(json.dumps(wanted).encode() + b"\n")
            process.stdin.flush()
            said = process.stdout.readline()
            if not said:
                raise WorldError(f"the simulated boards ended at once; {' '.join(_command())} says above why")
            listening = {board: (address, int(port)) for board, (address, port) in json.loads(said).items()}
            try:
                yield World(listening, key, folder)
            finally:
                process.stdin.close()
                process.wait()


def _command() -> list[str]:
    """Return what starts the boards' parent; a user who is not root becomes root of a namespace alone."""
    become = [] if os.geteuid() == 0 else ["--user", "--map-root-user", "--map-auto"]
    apart = ["--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    return ["unshare", *become, *apart, sys.executable, "-m", "tests.fleet.simulation"]
