"""One emulated board: its disk, its keys, and its switches."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from . import access, disk, qmp
from .access import Access
from .boards import Board
from .failure import ImageError
from .machine import Wiring, command_line, key_credential
from .process import Process, spawn

# Another process may take the free port before QEMU does.
START_ATTEMPTS = 3
SETTLE_S = 0.7


@dataclass(frozen=True)
class Run:
    """What must be remembered of a board that was switched on, as long as its disk exists."""

    pid: int
    started: int
    port: int
    offline: bool
    image: str


def _identity(image: Path) -> str | None:
    try:
        return str(disk.read_manifest(image)["files"][disk.DISK]["sha256"])
    except OSError:
        return None


class Instance:
    """A board whose everything is in one folder, so that another folder is another board."""

    def __init__(self, board: Board, folder: Path) -> None:
        self.board = board
        self.folder = folder.absolute()
        self.serial = self.folder / "serial.log"
        self._card = self.folder / "card.qcow2"
        self._qmp = self.folder / "qmp"
        self._record = self.folder / "run.json"
        self._origin = self.folder / "card.json"
        self._log = self.folder / "qemu.log"

    def up(self, image: Path, offline: bool, fresh: bool, limit_s: float, append: str = "") -> dict[str, object]:
        """Switch the board on and return how to reach it once ssh lets us in; one that is on is only waited for.

        Raises ImageError; a board that was switched on and did not boot is switched off again.
        """
        with self._locked():
            if fresh:
                self._switch_off()
                self._card.unlink(missing_ok=True)
                self._known_hosts.unlink(missing_ok=True)
            if run := self._running():
                if run.offline != offline:
                    has = "no network" if run.offline else "a network"
                    raise ImageError(f"{self.board.name} runs with {has} already; switch it off first: down.")
                self._wait(run, limit_s)
                return self.report()
            self._insert_card(image)
            run = self._start(offline, append)
            try:
                seconds = self._wait(run, limit_s)
            except BaseException:
                self._process(run).kill()
                raise
            return self.report() | {"boot_seconds": round(seconds, 1)}

    def cut(self) -> dict[str, object]:
        """Take the power away: neither the board nor QEMU gets to write another byte."""
        with self._locked():
            self._process(self._needed()).kill()
            return self.report()

    def reset(self) -> dict[str, object]:
        """Press the reset button; the board boots the same disk again in the same QEMU, and `up` waits for it."""
        with self._locked():
            self._needed()
            qmp.execute(self._qmp, "system_reset")
            return self.report()

    def down(self, limit_s: float) -> dict[str, object]:
        """Shut the board down in order and wait; after `limit_s` seconds it is cut. Off already is fine."""
        with self._locked():
            if run := self._running():
                process = self._process(run)
                with suppress(ImageError):
                    qmp.execute(self._qmp, "system_powerdown")
                if not process.wait(limit_s):
                    sys.stderr.write(f"emulator: {self.board.name} did not shut down in {limit_s:.0f} s, power cut\n")
                    process.kill()
            self._qmp.unlink(missing_ok=True)
            return self.report()

    def ssh(self, remote: list[str]) -> list[str]:
        """Return the command that enters the board. Raises ImageError if it is off."""
        return self.entrance(self._needed()).command(*remote)

    def report(self) -> dict[str, object]:
        """Return all there is to know about the board, whether it runs or not."""
        run, on = self._last(), self._running()
        return {
            "board": self.board.name,
            "running": on is not None,
            "host": access.HOST,
            "port": run.port if run else None,
            "user": access.USER,
            "key": str(self._key),
            "known_hosts": str(self._known_hosts),
            "offline": run.offline if run else None,
            "pid": on.pid if on else None,
            "serial": str(self.serial),
            "qmp": str(self._qmp),
            "image": run.image if run else None,
            "state": str(self.folder),
        }

    def entrance(self, run: Run) -> Access:
        """Return how the board is entered in that run."""
        return Access(run.port, self._key, self._known_hosts)

    @property
    def _key(self) -> Path:
        return self.folder / "key"

    @property
    def _known_hosts(self) -> Path:
        return self.folder / "known_hosts"

    def _insert_card(self, image: Path) -> None:
        if self._card.exists():
            return
        # Under another name first: a card half made is never booted.
        partial = self._card.with_suffix(".partial")
        base = image / disk.DISK
        command = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(base), str(partial)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise ImageError(f"qemu-img could not make a card over {base}: {done.stderr.strip()}")
        origin = {"image": str(image), "sha256": _identity(image)}
        self._origin.write_text(json.dumps(origin), encoding="utf-8")
        partial.rename(self._card)

    def _image(self) -> Path:
        """Return the image that the card was made over; over any other its blocks would make no sense."""
        origin = self._read(self._origin)
        image = Path(origin["image"])
        if _identity(image) != origin["sha256"]:
            raise ImageError(
                f"The image that {self.board.name}'s card was made over, {image}, is gone or was built anew: "
                "start with a new card, up --fresh."
            )
        return image

    def _start(self, offline: bool, append: str) -> Run:
        credentials = self.folder / "credentials"
        credentials.write_text(key_credential(access.USER, access.make_key(self._key)), encoding="ascii")
        image = self._image()
        last = self._last()
        for _ in range(START_ATTEMPTS):
            port = access.free_port(last.port if last else None)
            self.serial.unlink(missing_ok=True)
            kernel, initramfs = image / disk.KERNEL, image / disk.INITRAMFS
            wiring = Wiring(
                kernel, initramfs, self._card, credentials, self.serial, self._qmp, port, offline, append=append
            )
            process = spawn(command_line(self.board, wiring, len(os.sched_getaffinity(0))), self._log)
            run = Run(process.pid, process.started, port, offline, str(image))
            self._record.write_text(json.dumps(asdict(run)), encoding="ascii")
            if not process.wait(SETTLE_S):
                return run
            said = self._log.read_text(encoding="utf-8", errors="replace").strip()
            if "host forwarding" not in said:
                break
            last = None
        raise ImageError(f"QEMU did not start {self.board.name}: {said or 'it said nothing'}")

    def _wait(self, run: Run, limit_s: float) -> float:
        return access.wait_for_ssh(self.entrance(run), self.serial, self._process(run).alive, limit_s)

    def _switch_off(self) -> None:
        if run := self._running():
            self._process(run).kill()

    def _needed(self) -> Run:
        if run := self._running():
            return run
        raise ImageError(f"{self.board.name} is off (state in {self.folder}); switch it on first: image/emulator up.")

    def _running(self) -> Run | None:
        run = self._last()
        return run if run and self._process(run).alive() else None

    def _last(self) -> Run | None:
        return Run(**self._read(self._record)) if self._record.exists() else None

    def _read(self, path: Path) -> dict[str, Any]:
        try:
            kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise ImageError(f"{path} is damaged; remove {self.folder} and start over.") from None
        return kept

    @staticmethod
    def _process(run: Run) -> Process:
        return Process(run.pid, run.started)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.folder.mkdir(parents=True, exist_ok=True)
        # Its key is in there.
        self.folder.chmod(0o700)
        with (self.folder / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
