"""The board of the comparison: given a profile, started anew, loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import testinfra

from tests.appliance import Board, BoardError
from tests.budget.scenario import Limits, Run, run_load, tier_limits
from tests.cache import REPOSITORY
from tests.corpus.snapshot import Built
from tests.profiles.profile import ROLES, Profile

REBOOT_S = 600
SITE = REPOSITORY / "ansible" / "site.yml"
CONFIG = REPOSITORY / "ansible" / "ansible.cfg"
VALUES = (
    "for name in $(sed -n 's/^\\([a-z].*\\) = .*/\\1/p' /etc/sysctl.d/90-pinch.conf 2>/dev/null);"
    ' do echo "$name $(cat /proc/sys/$(echo $name | tr . /))"; done;'
    " for disk in mmcblk0 vda; do file=/sys/block/$disk/queue/read_ahead_kb;"
    ' test ! -e $file || echo "read-ahead of $disk $(cat $file) KiB"; done'
)
"""Shell that prints the kernel values of ours that are live, one a line; a small board may lack sysctl(8)."""


class Bench:
    """One provisioned board of an inventory."""

    def __init__(self, inventory: str, name: str = "") -> None:
        """Choose the board.

        Args:
            inventory: folder or file of Ansible.
            name: the board, where the inventory has more than one.

        Raises:
            BoardError: there is no such board, or it is not clear which is meant.
        """
        pattern = f"ansible://{name or 'pinch'}"
        try:
            hosts = testinfra.get_hosts([pattern], ansible_inventory=inventory)
        except RuntimeError as error:
            raise BoardError(f"{inventory} is no inventory with boards: {error}") from error
        if len(hosts) != 1:
            raise BoardError(
                f"{inventory} has {len(hosts)} boards for {pattern}; expected one, so name it with --board"
            )
        self.inventory = inventory
        self.board = Board(hosts[0])
        self.name = str(self.board.variables["inventory_hostname"])
        self.board.await_service()

    def give(self, profile: Profile | None) -> None:
        """Provision the board with a profile, None for what its inventory says, and start it anew.

        The reboot proves that the values outlast it and empties what an earlier run has swapped out.

        Raises:
            BoardError: Ansible could not; says what it printed.
        """
        self.board.close()
        given = ["--extra-vars", json.dumps(profile.variables)] if profile else []
        self._ansible(["ansible-playbook", str(SITE), "--limit", self.name, "--tags", ",".join(ROLES), *given])
        reboot = ["--module-name", "ansible.builtin.reboot", "--args", f"reboot_timeout={REBOOT_S}", "--become"]
        self._ansible(["ansible", self.name, *reboot])
        self.board.await_service()

    def load(self, corpus: Built) -> Run:
        """Load the service for a minute under its own limits, swap among them."""
        limits = tier_limits(self.board)
        swap = self.board.limit("memory.swap.max")
        if swap is None:
            raise BoardError(f"{self.board.group} may swap without a limit; expected the tier's")
        return run_load(self.board, corpus, Limits(limits.high, limits.maximum, swap), self.board.tier)

    def values(self) -> str:
        """Return the kernel values of ours that are live, in one line."""
        printed = self.board.run(VALUES)
        return ", ".join(printed.splitlines()) or "none of ours"

    def described(self) -> dict[str, str]:
        """Say what the board is, for the head of the report."""
        board, tier = self.board, self.board.tier
        memory = int(board.run("awk '/^MemTotal/ {print $2}' /proc/meminfo")) // 1024
        limits = {name: board.limit(f"memory.{name}") for name in ("high", "max", "swap.max")}
        said = ", ".join(f"memory.{name} {(value or 0) // 2**20} MB" for name, value in limits.items())
        return {
            "Board": f"{self.name}, {memory} MB, Linux {board.run('uname -r')}, {board.run('nproc')} processors",
            "Service": f"tier {tier.name}, {said}",
            "Swap": "; ".join(board.run("cat /proc/swaps").splitlines()[1:]).replace("\t", " ") or "none",
        }

    def _ansible(self, command: Sequence[str]) -> None:
        tool = str(Path(sys.executable).with_name(command[0]))
        done = subprocess.run(
            [tool, "--inventory", self.inventory, *command[1:]],
            env={**os.environ, "ANSIBLE_CONFIG": str(CONFIG)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BoardError(f"{command[0]} failed on {self.name}:\n{done.stdout[-4000:]}{done.stderr[-2000:]}")
