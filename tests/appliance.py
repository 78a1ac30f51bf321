"""A provisioned board, seen through testinfra: its unit, its control group, its service."""

from __future__ import annotations

import http.client
import json
import shlex
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from attrs import frozen
from pinch.cli.address import Address, address
from pinch.settings import Settings
from pinch.tiers import MEBIBYTE, Tier, TierTable, load_tiers
from testinfra.host import Host

from tests.client import Client, RefusedError

UNIT = "pinch.service"
TOKENS = "/etc/pinch/tokens"
CONFIG = "/etc/pinch/pinch.toml"
STATE = "/var/lib/pinch"
MODELS = "/var/lib/pinch-models"
RELEASE = "/opt/pinch/current"
SCRATCH = "/var/tmp/pinch-proof"
GROUPS = "/sys/fs/cgroup"
TUNNEL_S = 60.0
BOOT_S = 180.0


@frozen
class Login:
    """How ssh reaches a board, taken from the inventory."""

    local: bool
    address: str
    port: int | None
    user: str | None
    key: str | None
    arguments: list[str]

    def ssh(self, *options: str) -> list[str]:
        """Return the ssh command for this board, without the remote command."""
        command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", *self.arguments, *options]
        command += ["-p", str(self.port)] if self.port else []
        command += ["-i", self.key] if self.key else []
        return [*command, f"{self.user}@{self.address}" if self.user else self.address]


def login_of(variables: dict[str, Any]) -> Login:
    """Read a `Login` from the inventory's variables."""
    extra = f"{variables.get('ansible_ssh_common_args', '')} {variables.get('ansible_ssh_extra_args', '')}"
    port = variables.get("ansible_port")
    return Login(
        local=variables.get("ansible_connection") == "local",
        address=str(variables.get("ansible_host") or variables["inventory_hostname"]),
        port=int(port) if port else None,
        user=variables.get("ansible_user"),
        key=variables.get("ansible_ssh_private_key_file") or variables.get("ansible_private_key_file"),
        arguments=shlex.split(extra),
    )


class BoardError(AssertionError):
    """A command on the board failed."""


class Board:
    """A board that `ansible/site.yml` provisioned."""

    def __init__(self, host: Host, login: Login | None = None) -> None:
        """Look at a board.

        Args:
            host: testinfra's view of it.
            login: how ssh reaches it; without it the inventory says so.
        """
        self.host = host
        self._login = login
        self._held = ExitStack()

    def run(self, command: str) -> str:
        """Run a shell command as root and return what it printed.

        Raises:
            BoardError: it failed; says what it printed.
        """
        done = self.attempt(command)
        if done.rc:
            raise BoardError(f"{command!r} on the board: status {done.rc}\n{done.stdout}{done.stderr}")
        return str(done.stdout).strip()

    def attempt(self, command: str) -> Any:
        """Run a shell command as root and return testinfra's result, whatever its status."""
        if self._root:
            return self.host.run(command)
        with self.host.sudo():
            return self.host.run(command)

    @cached_property
    def _root(self) -> bool:
        """Whether the inventory makes testinfra root already; a second sudo would cost every command its time."""
        return str(self.host.run("id -u").stdout).strip() == "0"

    def properties(self, *names: str, unit: str = UNIT) -> dict[str, str]:
        """Return properties of a unit as the running systemd has them."""
        printed = self.run(f"systemctl show {unit} {' '.join(f'-p {name}' for name in names)}")
        return dict(line.split("=", 1) for line in printed.splitlines())

    def invocation(self) -> str:
        """Return the unit's InvocationID: it changes with every start."""
        return self.properties("InvocationID")["InvocationID"]

    def journal(self, lines: int = 40) -> str:
        """Return the end of the unit's journal, to be printed where a test fails."""
        return str(self.attempt(f"journalctl -u {UNIT} -n {lines} --no-pager -o short-monotonic").stdout)

    @property
    def group(self) -> str:
        """Folder of the unit's control group."""
        return f"{GROUPS}{self.properties('ControlGroup')['ControlGroup']}"

    def limit(self, name: str) -> int | None:
        """Return a limit such as `memory.max` in bytes, as the kernel has it; None where there is none."""
        value = self.run(f"cat {self.group}/{name}")
        return None if value == "max" else int(value)

    @cached_property
    def variables(self) -> dict[str, Any]:
        """Variables of the inventory for this board."""
        variables: dict[str, Any] = self.host.ansible.get_variables()
        return variables

    @cached_property
    def login(self) -> Login:
        """How ssh reaches the board."""
        return self._login or login_of(self.variables)

    @cached_property
    def token(self) -> str:
        """The board's first token; read as root, never printed."""
        lines = self.run(f"cat {TOKENS}").splitlines()
        return next(line.split()[1] for line in lines if line.strip() and not line.startswith("#"))

    @cached_property
    def tiers(self) -> TierTable:
        """The table of tiers that the service shares with Ansible."""
        return load_tiers()

    @cached_property
    def tier(self) -> Tier:
        """The tier that the service runs in."""
        with self.service() as client:
            return self.tiers.named(client.call("GET", "/v1/budget")["tier"])

    @cached_property
    def model(self) -> str:
        """Name of the model that the board was given, empty where it has none."""
        return str(self.variables.get("models_name") or self.tier.model)

    @property
    def wanted_limits(self) -> dict[str, int]:
        """Limits that the unit should have, in bytes by the kernel's name: those of the inventory, else the tier's."""
        high, maximum, swap = (
            int(self.variables.get(f"pinch_memory_{name}_mb", 0)) for name in ("high", "max", "swap_max")
        )
        maximum = maximum or self.tier.memory_max_mb
        swaps = self.swap_mechanism != "none"
        megabytes = {
            "memory.max": maximum,
            "memory.high": high or min(self.tier.memory_high_mb, maximum),
            "memory.swap.max": (swap or self.tier.memory_swap_max_mb) if swaps else 0,
        }
        return {name: value * MEBIBYTE for name, value in megabytes.items()}

    @property
    def swap_mechanism(self) -> str:
        """How the board should swap, one of the choices of the role's `swap_mechanism`."""
        return str(self.variables.get("swap_mechanism", "zram"))

    @cached_property
    def listen(self) -> str:
        """Address and port that the board's file of settings names, else the service's default."""
        return str(tomllib.loads(self.run(f"cat {CONFIG}")).get("listen", Settings().listen))

    @cached_property
    def address(self) -> Address:
        """Where programs on the board reach the service."""
        return address(None, Settings(listen=self.listen))

    @cached_property
    def port(self) -> int:
        """Local port that leads to the service.

        The tunnel is opened once, for on a small board a login takes seconds; it outlives restarts of the service.
        """
        if self.login.local:
            return self.address.port
        return self._held.enter_context(tunnel(self.login, self.address))

    def service(self, timeout_s: float = 120.0) -> Client:
        """Return a client of the service with the board's own token."""
        return Client(self.address.host if self.login.local else "127.0.0.1", self.port, self.token, timeout_s)

    def await_service(self, timeout_s: float = BOOT_S) -> None:
        """Wait until the service is ready, as after a boot.

        Raises:
            BoardError: it is not, after `timeout_s`; shows its journal.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                with self.service(10) as client:
                    client.call("GET", "/readyz")
            except (OSError, http.client.HTTPException, RefusedError) as error:
                if time.monotonic() > deadline:
                    journal = self.journal()
                    raise BoardError(f"not ready within {timeout_s:.0f} s: {error}\n{journal}") from error
                time.sleep(1)
            else:
                return

    def close(self) -> None:
        """End the tunnel; who asks for the service again, as after a reboot, opens another."""
        self._held.close()
        self.__dict__.pop("port", None)

    def push(self, file: Path) -> str:
        """Copy a file into the scratch folder on the board and return its path there."""
        target = f"{SCRATCH}/{file.name}"
        self.run(f"mkdir -p {SCRATCH} && chmod 755 {SCRATCH}")
        if self.login.local:
            self.run(f"cp {shlex.quote(str(file))} {target}")
            return target
        with file.open("rb") as content:
            command = [*self.login.ssh(), f"sudo -n sh -c 'cat > {target}'"]
            done = subprocess.run(command, stdin=content, capture_output=True, check=False)
        if done.returncode:
            raise BoardError(
                f"{file.name} cannot be copied to the board: {done.stderr.decode(errors='replace').strip()}"
            )
        return target

    def python(self, script: Path, *arguments: str) -> Any:
        """Run a script of ours on the board, as root and outside the unit, and return the JSON it prints."""
        path = self.push(script)
        printed = self.run(f"python3 -I {path} {' '.join(shlex.quote(each) for each in arguments)}")
        return json.loads(printed)

    def restart(self, *, cold: bool = False) -> None:
        """Restart the unit and wait until systemd has seen READY; `cold` empties the page cache before the start."""
        drop = "sync; echo 3 > /proc/sys/vm/drop_caches;" if cold else ""
        self.run(f"systemctl stop {UNIT}; {drop} systemctl reset-failed {UNIT}; systemctl start {UNIT}")

    def wait_ready(self, timeout_s: float) -> float:
        """Wait until the service answers ready; return the seconds by the board's own clock."""
        probe = Path(__file__).with_name("onboard") / "ready.py"
        return float(self.python(probe, "--port", str(self.address.port), "--timeout", str(timeout_s))["seconds"])


@contextmanager
def tunnel(login: Login, remote: Address) -> Iterator[int]:
    """Forward a free local port to an address that the board reaches; yield the local port.

    Raises:
        BoardError: ssh does not come up.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    forward = [
        "-N",
        "-o",
        "ExitOnForwardFailure=yes",
        "-o",
        "ControlPath=none",
        "-L",
        f"127.0.0.1:{port}:{remote.netloc}",
    ]
    with subprocess.Popen(login.ssh(*forward), stdin=subprocess.DEVNULL, stdout=sys.stderr) as process:
        try:
            deadline = time.monotonic() + TUNNEL_S
            while not _answers(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise BoardError(
                        f"no ssh tunnel to {login.address}: {' '.join(login.ssh())} ended or does not answer"
                    )
                time.sleep(0.1)
            yield port
        finally:
            process.terminate()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1):
            return True
    except OSError:
        return False
