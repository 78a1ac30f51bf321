"""One emulated board: its disk, its keys, and its switches."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from . import access, disk, host, qmp
from .access import Access
from .boards import Board
from .card import Card, Origin
from .failure import ImageError
from .machine import KERNEL_ARGUMENTS, Wiring, command_line, credential_words, key_credential
from .process import POLL_S, Process, spawn
from .supervisor import Boot, Plan

HERE = Path(__file__).resolve().parent.parent
# Another process may take the free port before QEMU does.
START_ATTEMPTS = 3
# How long a killed QEMU may take to let go, and a reset one to be started again.
LET_GO_S = 30.0
Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Run:
    """What must be remembered of a board that was switched on, as long as its card exists; `pid` is its supervisor."""

    pid: int
    started: int
    port: int
    offline: bool
    image: str
    system: str | None = None


class Instance:
    """A board whose everything is in one folder, so that another folder is another board."""

    def __init__(self, board: Board, folder: Path) -> None:
        self.board = board
        self.folder = folder.absolute()
        self.serial = self.folder / "serial.log"
        self._card = Card(self.folder, board.name)
        self._qmp = self.folder / "qmp"
        self._record = self.folder / "run.json"
        self._plan = self.folder / "plan.json"
        self._boots = self.folder / "boot.json"
        self._power = self.folder / "power"
        self._log = self.folder / "qemu.log"

    def up(
        self,
        system: str | None,
        find_image: Callable[[str], Path],
        *,
        offline: bool,
        fresh: bool,
        limit_s: float,
        append: str = "",
    ) -> dict[str, object]:
        """Switch the board on and return how to reach it once ssh lets us in; one that is on is only waited for.

        `find_image` returns the image of a system, for a new card; without `system` that is the board's first. Raises
        ImageError; a board that was switched on and did not boot is switched off again.
        """
        if system and system not in self.board.systems:
            raise ImageError(f"{self.board.kind} does not run {system!r}; it runs {', '.join(self.board.systems)}.")
        with self._locked():
            if fresh:
                self._switch_off()
                self._card.remove()
                self._known_hosts.unlink(missing_ok=True)
            if system and self._card.there() and (holds := self._card.origin().system) != system:
                raise ImageError(f"{self.board.name}'s card holds {holds}, not {system}: take a new one, --fresh.")
            if run := self._running():
                if run.offline != offline:
                    has = "no network" if run.offline else "a network"
                    raise ImageError(f"{self.board.name} runs with {has} already; switch it off first: down.")
                self._wait(run, limit_s)
                return self.report()
            if not self._card.there():
                wanted = system or self.board.systems[0]
                self._card.make(find_image(wanted), wanted)
            run = self._start(self._card.origin(), offline, append)
            try:
                seconds = self._wait(run, limit_s)
            except BaseException:
                self._kill(run)
                raise
            return self.report() | {"boot_seconds": round(seconds, 1)}

    def cut(self) -> dict[str, object]:
        """Take the power away: neither the board nor QEMU gets to write another byte."""
        with self._locked():
            self._kill(self._needed())
            return self.report()

    def reset(self) -> dict[str, object]:
        """Press the reset button; the board boots the same card again, and `up` waits for it."""
        with self._locked():
            process, before = self._process(self._needed()), self._boot()
            qmp.execute(self._qmp, "system_reset")
            limit = time.monotonic() + LET_GO_S
            while self._boot() == before and process.alive() and time.monotonic() < limit:
                time.sleep(POLL_S)
            return self.report()

    def down(self, limit_s: float) -> dict[str, object]:
        """Shut the board down in order and wait; after `limit_s` seconds it is cut. Off already is fine."""
        with self._locked():
            if run := self._running():
                with suppress(ImageError):
                    qmp.execute(self._qmp, "system_powerdown")
                if not self._process(run).wait(limit_s):
                    sys.stderr.write(f"emulator: {self.board.name} did not shut down in {limit_s:.0f} s, power cut\n")
                    self._kill(run)
            self._qmp.unlink(missing_ok=True)
            return self.report()

    def ssh(self, remote: list[str]) -> list[str]:
        """Return the command that enters the board. Raises ImageError if it is off."""
        return self.entrance(self._needed()).command(*remote)

    def report(self) -> dict[str, object]:
        """Return all there is to know about the board, whether it runs or not."""
        run, on, boot = self._last(), self._running(), self._boot()
        return {
            "board": self.board.name,
            "kind": self.board.kind,
            "system": run.system if run else None,
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
            "boots": boot.number if boot else None,
            "kernel_arguments": boot.arguments if boot else None,
            "complaint": boot.complaint if boot else None,
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

    def _start(self, origin: Origin, offline: bool, append: str) -> Run:
        credentials = self.folder / "credentials"
        credential = key_credential(access.USER, access.make_key(self._key))
        credentials.write_text(credential, encoding="ascii")
        image = Path(origin.image)
        architecture = disk.read_manifest(image)["architecture"]
        last = self._last()
        for _ in range(START_ATTEMPTS):
            port = access.free_port(last.port if last else None)
            for old in (self.serial, self._boots):
                old.unlink(missing_ok=True)
            wiring = Wiring(
                architecture=architecture,
                kernel=image / disk.KERNEL,
                initramfs=image / disk.INITRAMFS,
                disk=self._card.root,
                firmware=self._card.firmware,
                credentials=credentials,
                serial=self.serial,
                qmp=self._qmp,
                port=port,
                offline=offline,
            )
            plan = Plan(
                command=command_line(self.board, wiring, len(os.sched_getaffinity(0))),
                before=[*self.board.bootargs, *KERNEL_ARGUMENTS, *credential_words(architecture, credential)],
                after=append.split(),
                firmware=str(self._card.firmware),
                serial=str(self.serial),
                boots=str(self._boots),
                power=str(self._power),
            )
            host.need_tools(plan.command[0])
            self._plan.write_text(json.dumps(asdict(plan)), encoding="utf-8")
            supervisor = [sys.executable, "-m", "pinch_image.supervisor", str(self._plan)]
            process = spawn(supervisor, self._log, {"PYTHONPATH": str(HERE)})
            run = Run(process.pid, process.started, port, offline, str(image), origin.system)
            self._record.write_text(json.dumps(asdict(run)), encoding="ascii")
            while not (boot := self._boot()) and process.alive():
                process.wait(POLL_S)
            if boot:
                if boot.complaint:
                    sys.stderr.write(f"emulator: {self.board.name} {boot.complaint}\n")
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
            self._kill(run)

    def _kill(self, run: Run) -> None:
        """End the supervisor and with it QEMU, and wait until neither holds the board's power any more."""
        self._process(run).kill()
        if not self._power.exists():
            return
        limit = time.monotonic() + LET_GO_S
        with self._power.open("r") as power:
            while True:
                try:
                    fcntl.flock(power, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > limit:
                        raise ImageError(
                            f"QEMU of {self.board.name} did not end when killed; its disk may hang."
                        ) from None
                    time.sleep(POLL_S)

    def _needed(self) -> Run:
        if run := self._running():
            return run
        raise ImageError(f"{self.board.name} is off (state in {self.folder}); switch it on first: image/emulator up.")

    def _running(self) -> Run | None:
        run = self._last()
        return run if run and self._process(run).alive() else None

    def _last(self) -> Run | None:
        return self._read(self._record, Run)

    def _boot(self) -> Boot | None:
        return self._read(self._boots, Boot)

    def _read(self, path: Path, kind: Callable[..., Kept]) -> Kept | None:
        try:
            return kind(**json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError):
            raise ImageError(f"{path} is damaged; remove {self.folder} and start over.") from None

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
