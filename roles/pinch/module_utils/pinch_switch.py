"""Changing a board over from what runs to a generation, and back where that one is not healthy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from ansible.module_utils.pinch_generations import Generation, Generations

LOOK_S = 0.2
STILL_S = 3.0
"""Seconds without work after which a start that was rehearsed is given up; each is one without answers."""
WORK_US = 30_000
"""Processor time in microseconds that counts as work; threads that look around now and then use less."""
DROP_INS = "Look for drop-ins with `systemctl cat pinch.service`"
SETTINGS = "/etc/pinch/pinch.toml"


class SwitchError(Exception):
    """A generation that was not healthy; the message says what happened to the board."""


class Wishes(NamedTuple):
    """How a generation is judged."""

    patience_s: float
    """Seconds that the start may take."""
    memory_max: int = 0
    """Bytes that the kernel must let it have at most; 0 asks nothing."""
    thorough: bool = False
    """Whether it has to remember, recall and pass `pinch doctor` too."""
    back: bool = False
    """Whether this goes back: the generation keeps the one before it."""


class Outcome(NamedTuple):
    """What a switch did."""

    before: str
    """Release that ran, empty where none did."""
    seconds: float
    """From the restart until it was ready, 0 where nothing was restarted."""


class Fault(NamedTuple):
    """What is wrong with a generation that was started."""

    reason: str
    start: str
    """InvocationID of the start in which it was seen."""


class Switch:
    """One board between two generations."""

    def __init__(
        self, board: Any, generations: Generations, clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self.board = board
        self.generations = generations
        self._clock = clock
        self._pause = pause

    def settled(self, wanted: Generation) -> bool:
        """Whether `wanted` is what is installed, starts at boot, and runs."""
        running = self.board.running()
        found = (running.release, running.deployment, self.board.linked())
        return (
            found == (wanted.release, wanted.deployment, wanted.release)
            and running.active
            and running.enabled
            and self.board.launched()
            and not self.board.differing(wanted.files)
        )

    def await_ready(self, wanted: Generation, patience_s: float) -> None:
        """Wait until what runs is ready.

        Raises:
            SwitchError: it is not.
        """
        fault = self._fault(wanted, Wishes(patience_s), "", {})
        if fault:
            raise SwitchError(f"{fault.reason}. Its last words: {self.board.words(fault.start) or 'none'}")

    def keep_what_runs(self, paths: Mapping[str, str]) -> None:
        """Keep the generation that runs, where it is healthy, whole on disk, and was not kept yet."""
        running, linked = self.board.running(), self.board.linked()
        kept = self.generations.find(running.release)
        if not running.active or running.release != linked:
            return
        if kept is not None and kept.deployment == running.deployment:
            return
        present = Generation(linked, self.board.texts(paths), self.board.model(), kept.before if kept else "")
        if SETTINGS not in present.files or present.deployment != running.deployment:
            return
        if not self.board.service(present.files[SETTINGS]).not_ready():
            self.generations.keep(present, proven=True)

    def change(self, wanted: Generation, wishes: Wishes) -> Outcome:
        """Run `wanted`; where it is not healthy, run again what was healthy before.

        Raises:
            SwitchError: it was not healthy; says whether the board runs what it ran before.
        """
        self.keep_what_runs(wanted.files)
        earlier = self.generations.proven()
        known = self.board.failing_checks() if wishes.thorough and earlier else {}
        begin = self._clock()
        before = self.board.running().invocation
        self.board.install(wanted.release, wanted.files, set(), wanted.model)
        self.board.restart()
        fault = self._fault(wanted, wishes, before, known)
        if fault is None:
            ready = self._clock()
            return self._settle(wanted, earlier, ready - begin, back=wishes.back)
        # First the way back: to read the journal takes a small board seconds without answers.
        went = self._back(wanted, earlier, wishes, begin)
        words = self.board.words(fault.start)
        raise SwitchError(
            f"release {wanted.release} is not healthy: {fault.reason}. Its last words: {words or 'none'}. {went}"
        )

    def _settle(self, wanted: Generation, earlier: Generation | None, seconds: float, *, back: bool) -> Outcome:
        replaced = earlier.release if earlier and earlier.release != wanted.release else ""
        kept = self.generations.find(wanted.release)
        before = kept.before if kept and (back or not replaced) else replaced
        self.generations.keep(wanted._replace(before=before, model=self.board.model()), proven=True)
        return Outcome(replaced, round(seconds, 1))

    def _back(self, wanted: Generation, earlier: Generation | None, wishes: Wishes, begin: float) -> str:
        if earlier is None or (earlier.release, earlier.deployment) == (wanted.release, wanted.deployment):
            return "There is nothing to go back to: it stays, and systemd goes on trying to start it"
        self.board.install(earlier.release, earlier.files, wanted.files.keys() - earlier.files.keys(), earlier.model)
        self.board.kill()
        before = self.board.running().invocation
        self.board.restart()
        fault = self._fault(earlier, Wishes(max(wishes.patience_s, 60)), before, {})
        if fault:
            return (
                f"Going back to {earlier.release} did not help either: {fault.reason}. See `journalctl -u pinch`; "
                "where it speaks of the store, `pinch snapshot load` the newest file of /var/lib/pinch-snapshots"
            )
        down = self._clock() - begin
        return f"Rolled back: {earlier.release} runs again with its settings, {down:.1f} s after the first restart"

    def _fault(self, wanted: Generation, wishes: Wishes, before: str, known: Mapping[str, str]) -> Fault | None:
        """Wait for the start after the one called `before`, and say what is wrong with it, None where nothing is."""
        service = self.board.service(wanted.files[SETTINGS])
        reason, running = self._unready(service, wishes, before)
        if not reason and (running.release, running.deployment) != (wanted.release, wanted.deployment):
            found = f"release {running.release or 'unknown'} with deployment {running.deployment[:8] or 'none'}"
            reason = f"what runs is {found}; expected {wanted.release} with {wanted.deployment[:8]}. {DROP_INS}"
        if not reason and wishes.memory_max and running.memory_max != wishes.memory_max:
            reason = f"the kernel limits it to {running.memory_max} bytes; expected {wishes.memory_max}. {DROP_INS}"
        if not reason and wishes.thorough:
            reason = self._thorough_fault(service, known)
        return Fault(reason, running.invocation) if reason else None

    def _unready(self, service: Any, wishes: Wishes, before: str) -> tuple[str, Any]:
        """Wait until the start after the one called `before` is ready; return why it is not, and what runs."""
        begin = still_since = self._clock()
        first: Any = None
        worked_us = 0
        while True:
            running = self.board.running()
            reason = "it has not begun to start"
            if running.invocation != before:
                # Another start than the first means that it ended in between, however short the look at it was.
                first = first or running
                if running.ended or running.invocation != first.invocation:
                    return "it ended at its start", first
                reason = service.not_ready()
            if not reason:
                return "", self.board.running()
            now = self._clock()
            if first is None or abs(running.worked_us - worked_us) > WORK_US or running.waits_for_disk:
                worked_us, still_since = running.worked_us, now
            if wishes.thorough and now - still_since >= STILL_S:
                return f"it has done nothing for {STILL_S:.0f} s, and {reason}", first
            if now - begin >= wishes.patience_s:
                return f"it was not ready within {wishes.patience_s:.0f} s: {reason}", first or running
            self._pause(LOOK_S)

    def _thorough_fault(self, service: Any, known: Mapping[str, str]) -> str:
        fault: str = service.fault()
        if fault:
            return fault
        fresh = {name: found for name, found in self.board.failing_checks().items() if name not in known}
        return "; ".join(f"pinch doctor fails {name}: {found}" for name, found in sorted(fresh.items()))
