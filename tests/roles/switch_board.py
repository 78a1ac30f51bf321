"""A board without systemd, on which releases are as healthy as a test says; time passes where somebody waits.

There is one store. A unit that comes while another has it waits, and has it when that one ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.roles.sources import load

generations = load("pinch/module_utils/pinch_generations.py")
units = load("pinch/module_utils/pinch_unit.py")


class PowerCut(Exception):
    """The board has no power any more."""


class SeemingService:
    """Answers as a release does that is whole, never gets ready, or cannot be talked with."""

    def __init__(self, unit: SeemingUnit) -> None:
        self.unit = unit

    def not_ready(self) -> str:
        return "" if self.unit.running().active else "/readyz answers 503"

    def fault(self) -> str:
        return "it answers 500 to a memory" if self.unit.health == "answers 500" else ""


class SeemingStart:
    """A start that ends as the release's health says; one that never is ready works all the time or sleeps."""

    def __init__(self, unit: SeemingUnit, after: str) -> None:
        self.unit = unit
        self.after = after
        self.waits_for_disk = unit.board.slow_disk

    @property
    def succeeded(self) -> bool | None:
        now = self.unit.now_running()
        if now.ended or now.active:
            self.unit.settle()
        return False if now.ended else now.active or None

    @property
    def worked_us(self) -> int | None:
        if self.unit.board.slice_unknown:
            return None
        return 0 if self.unit.health == "asleep" else round(self.unit.board.now * 1e6)

    def leave(self) -> None:
        return


class SeemingUnit:
    """One unit of the board, and the release that it runs."""

    def __init__(self, board: SeemingBoard, unit: str, place: str) -> None:
        self.board = board
        self.unit = unit
        self.place = place
        self.release = self.deployment = ""
        self.begun = self.up = False
        self.starts = 0
        self._seen: list[Any] = []
        """Looks that still show what was before the start, as systemd's do for a moment."""

    @property
    def health(self) -> str:
        """How healthy its release is in this unit, or in any."""
        known = self.board.known
        return known.get(f"{self.release} in {self.place}") or known.get(self.release, "whole")

    def running(self) -> Any:
        """Look at the unit."""
        return self._seen.pop() if self._seen else self.now_running()

    def settle(self) -> None:
        """Let looks show what is true: systemd has answered whoever asked for the start."""
        self._seen = []

    def now_running(self) -> Any:
        """Return what is true of the unit."""
        serves = self.board.serving() is self
        return units.Running(
            loaded=True, enabled=self.board.enabled, active=serves and self.health in {"whole", "answers 500"},
            ended=self.begun and not self.up, waits=self.up and not serves, begun=self.begun,
            invocation=str(self.starts or ""),
            release=self.release, deployment=self.deployment, memory_max=0,
        )  # fmt: skip

    def begin(self, release: str, files: Mapping[str, str]) -> SeemingStart:
        before = self.now_running()
        self._seen = [before, before._replace(active=False, ended=True)]
        self.starts += 1
        self.up = False
        self.board.serving()
        self.release, self.deployment = release, generations.Generation("", dict(files), "").deployment
        self.begun, self.up = True, self.health != "ends"
        return SeemingStart(self, before.invocation)

    def stop(self) -> None:
        self.up = False

    def kill(self) -> None:
        self.board.killed.append(self.release)
        self.stop()

    def service(self, settings: str) -> SeemingService:
        return SeemingService(self)

    def words(self, until: float | None = None) -> str:
        return f"ImportError, said before {until}"


class SeemingSuccessor(SeemingUnit):
    """The unit beside the service's own."""

    def __init__(self, board: SeemingBoard, wanted: Any) -> None:
        super().__init__(board, "pinch-successor.service", "the successor")
        self.wanted = wanted

    def restart(self) -> SeemingStart:
        return self.begin(self.wanted.release, self.wanted.files)


class SeemingBoard(SeemingUnit):
    """The board, and the service's own unit on it; `health` is by release, or by `RELEASE in its place`."""

    def __init__(self, home: Path, health: Mapping[str, str]) -> None:
        super().__init__(self, "pinch.service", "its place")
        self.home = home
        self.known = health
        self.installed: dict[str, str] = {}
        self.link = self.shown_model = ""
        self.now = self.silent_s = 0.0
        self.killed: list[str] = []
        self.successors = 0
        self.slow_disk = self.slice_unknown = self.enabled = self.power_cut = False
        self.wrong: Mapping[str, Mapping[str, str]] = {}
        self.beside: SeemingSuccessor | None = None
        self._holder: SeemingUnit | None = None

    def serving(self) -> SeemingUnit | None:
        """Return the unit that has the store."""
        for unit in (self._holder, self, self.beside):
            if unit is not None and unit.up:
                self._holder = unit
                if unit.health != "ends with the store":
                    return unit
                unit.up = False
        self._holder = None
        return None

    def successor(self, wanted: Any) -> SeemingSuccessor:
        self.successors += 1
        self.beside = SeemingSuccessor(self, wanted)
        return self.beside

    def tidy(self) -> bool:
        if self.beside is None:
            return False
        self.beside.stop()
        self.beside = None
        return True

    def linked(self) -> str:
        return self.link

    def model(self) -> str:
        return self.shown_model

    def launched(self) -> bool:
        return bool(self.link)

    def texts(self, paths: Iterable[str]) -> dict[str, str]:
        return {name: text for name, text in self.installed.items() if name in set(paths)}

    def differing(self, wanted: Mapping[str, str]) -> list[str]:
        return [name for name, text in wanted.items() if self.installed.get(name) != text]

    def install(self, release: str, wanted: Mapping[str, str], drop: set[str], model: str) -> None:
        if self.power_cut:
            raise PowerCut
        self.installed = {name: text for name, text in (self.installed | dict(wanted)).items() if name not in drop}
        self.link, self.shown_model = release, model

    def refresh(self, wanted: Iterable[str]) -> None:
        return

    def enable(self) -> None:
        self.enabled = True

    def restart(self) -> SeemingStart:
        return self.begin(self.link, self.installed)

    def failing_checks(self) -> Mapping[str, str]:
        return self.wrong.get(self.release, {})

    def pause(self, seconds: float) -> None:
        """Let time pass; `silent_s` counts what of it nobody answered."""
        self.now += seconds
        unit = self.serving()
        if unit is None or not unit.running().active:
            self.silent_s += seconds
