"""The process that keeps one emulated board under power, from `up` until it is off.

QEMU carries the kernel's command line from its start to its end, and a Pi reads it from the card at every boot. So QEMU
ends at each reset, the board's own reboots included, and is started anew with what the card says then. QEMU never
outlives this process: killing it is the power cut.
"""

from __future__ import annotations

import fcntl
import json
import socket
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from .failure import ImageError
from .firmware import kernel_arguments, read_cmdline
from .qmp import Session

# Why QEMU ended, in its own words, where a real board would boot again.
RESETS = frozenset({"guest-reset", "host-qmp-system-reset"})
# A busy machine takes its time to start QEMU.
START_LIMIT_S = 60.0


@dataclass(frozen=True)
class Plan:
    """What is run: QEMU's command without its `-append`, and the files in the board's folder, as paths.

    `before` and `after` are the words of the kernel's command line around those of the card on the disk `firmware`.
    """

    command: list[str]
    before: list[str]
    after: list[str]
    firmware: str
    serial: str
    boots: str
    power: str


@dataclass(frozen=True)
class Boot:
    """The last boot since the board was switched on; the first has number 1."""

    number: int
    arguments: str
    complaint: str | None


def main() -> int:
    """Run the plan in the file that is the only argument; return the exit status."""
    plan = Plan(**json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
    try:
        return supervise(plan)
    except (ImageError, OSError) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def supervise(plan: Plan) -> int:
    """Boot the board until it switches itself off, and return QEMU's exit status. Raises ImageError and OSError."""
    with Path(plan.power).open("w") as power:
        try:
            fcntl.flock(power, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ImageError(f"an earlier QEMU still runs this board ({plan.power} is held); end it first.") from None
        number = 0
        while True:
            number += 1
            card = read_cmdline(Path(plan.firmware))
            boot = Boot(number, kernel_arguments(plan.before, card.words, plan.after), card.complaint)
            reason, status = _boot(plan, boot, power.fileno())
            if reason not in RESETS:
                return status


def _boot(plan: Plan, boot: Boot, power: int) -> tuple[str | None, int]:
    """Run QEMU once and return why it ended and with which status. It holds `power` open as long as it is there."""
    serial = Path(plan.serial)
    if serial.exists():
        serial.rename(serial.with_name(f"previous-{serial.name}"))
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            monitor = f"socket,id=supervisor,fd={theirs.fileno()}"
            qemu = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "--"),
                    *(*plan.command, "-append", boot.arguments, "-no-reboot"),
                    *("-chardev", monitor, "-mon", "chardev=supervisor,mode=control"),
                ],
                stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), power),
            )
        reason = None
        try:
            ours.settimeout(START_LIMIT_S)
            session = Session(ours)
            ours.settimeout(None)
            _record(Path(plan.boots), boot)
            for event in session.events():
                if event["event"] == "SHUTDOWN":
                    reason = event["data"]["reason"]
        except OSError as error:
            # What QEMU said itself, in the same log, says more.
            sys.stderr.write(f"QEMU's monitor: {error}\n")
            qemu.kill()
        return reason, qemu.wait()


def _record(path: Path, boot: Boot) -> None:
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(boot)), encoding="utf-8")
    partial.rename(path)


if __name__ == "__main__":
    sys.exit(main())
