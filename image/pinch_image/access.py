"""Getting into a board: a key pair of its own, ssh's options, and waiting until it lets us in."""

from __future__ import annotations

import re
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from .failure import ImageError

USER, HOST = "pi", "127.0.0.1"
# How a kernel or systemd says that it is beyond help; waiting longer is of no use.
DEAD = re.compile(
    r"Kernel panic - not syncing|systemd\[1\]: Freezing execution|\(initramfs\) $|You are in emergency mode"
)
TAIL_LINES = 25
CONTROL = re.compile(r"\x1b\[[0-9;?!]*[a-zA-Z]|[\x00-\x08\x0b-\x1f]")


@dataclass(frozen=True)
class Access:
    """How a board is entered."""

    port: int
    key: Path
    known_hosts: Path

    def command(self, *remote: str) -> list[str]:
        """Return the ssh command that runs `remote` on the board, or a shell."""
        options = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "StrictHostKeyChecking": "accept-new",
            "UserKnownHostsFile": str(self.known_hosts),
            "LogLevel": "ERROR",
            "ConnectTimeout": "60",
        }
        flags = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.key), "-p", str(self.port), *flags, f"{USER}@{HOST}", *remote]

    def greeted(self) -> bool:
        """Tell whether an ssh server answers; QEMU itself accepts connections long before."""
        try:
            with socket.create_connection((HOST, self.port), timeout=5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    def entered(self) -> bool:
        """Tell whether a login succeeds."""
        try:
            done = subprocess.run(
                self.command("true"), stdin=subprocess.DEVNULL, capture_output=True, timeout=90, check=False
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0


def make_key(path: Path) -> str:
    """Return the public key of the pair at `path`, made if it is not there."""
    public = path.with_suffix(".pub")
    if not (path.exists() and public.exists()):
        path.unlink(missing_ok=True)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "pinch-emulator", "-f", str(path)], check=True
        )
    return public.read_text(encoding="ascii")


def free_port(preferred: int | None = None) -> int:
    """Return a loopback port that nobody listens on, the preferred one if it is free."""
    for port in (preferred, 0):
        if port is None:
            continue
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise ImageError("No free port on 127.0.0.1: end something that listens there.")


def wait_for_ssh(access: Access, serial: Path, alive: Callable[[], bool], limit_s: float) -> float:
    """Wait until a login succeeds and return the seconds it took. Raises ImageError with the serial log's tail."""
    started = time.monotonic()
    while (waited := time.monotonic() - started) < limit_s:
        if not alive():
            raise ImageError(f"QEMU ended before the board answered ssh.\n{tail(serial)}")
        if DEAD.search(_text(serial)[-20000:]):
            raise ImageError(
                f"The board stopped while it booted, {waited:.0f} s in; the end of {serial}:\n{tail(serial)}"
            )
        if access.greeted() and access.entered():
            return time.monotonic() - started
        time.sleep(1)
    raise ImageError(
        f"The board did not answer ssh within {limit_s:.0f} s (a busy machine needs a larger --timeout); "
        f"the end of {serial}:\n{tail(serial)}"
    )


def tail(path: Path) -> str:
    """Return the last lines of a console's log, without its colours."""
    lines = [line for line in CONTROL.sub("", _text(path)).splitlines() if line.strip()]
    return "\n".join(lines[-TAIL_LINES:])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
