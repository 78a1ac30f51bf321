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


class Switch:
    """One board between two generations."""

    def __init__(
        self, board: Any, generations: Generations, clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep, now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.board = board
        self.generations = generations
        self._clock = clock
        self._pause = pause
        self._now = now

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
        fault = self._fault(wanted, Wishes(patience_s), None, {})
        if fault:
            raise SwitchError(f"{fault}. Its last words: {self.board.words() or 'none'}")

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
        self.board.refresh(wanted.files)
        self.board.install(wanted.release, wanted.files, set(), wanted.model)
        begin = self._clock()
        start = self.board.restart()
        fault = self._fault(wanted, wishes, start, known)
        if not fault:
            ready = self._clock()
            self.board.enable()
            return self._settle(wanted, earlier, ready - begin, back=wishes.back)
        # First the way back: to read the journal takes a small board seconds without answers.
        failed_at = self._now()
        went = self._back(wanted, earlier, wishes, begin, ended=start.succeeded is False)
        self.board.enable()
        words = self.board.words(failed_at) or "none"
        raise SwitchError(f"release {wanted.release} is not healthy: {fault}. Its last words: {words}. {went}")

    def _settle(self, wanted: Generation, earlier: Generation | None, seconds: float, *, back: bool) -> Outcome:
        replaced = earlier.release if earlier and earlier.release != wanted.release else ""
        kept = self.generations.find(wanted.release)
        before = kept.before if kept and (back or not replaced) else replaced
        self.generations.keep(wanted._replace(before=before, model=self.board.model()), proven=True)
        return Outcome(replaced, round(seconds, 1))

    def _back(
        self, wanted: Generation, earlier: Generation | None, wishes: Wishes, begin: float, *, ended: bool
    ) -> str:
        if earlier is None or (earlier.release, earlier.deployment) == (wanted.release, wanted.deployment):
            return "There is nothing to go back to: it stays, and systemd goes on trying to start it"
        self.board.install(earlier.release, earlier.files, wanted.files.keys() - earlier.files.keys(), earlier.model)
        if not ended:
            self.board.kill()
        fault = self._fault(earlier, Wishes(max(wishes.patience_s, 60)), self.board.restart(), {})
        if fault:
            return (
                f"Going back to {earlier.release} did not help either: {fault}. See `journalctl -u pinch`; where it "
                "speaks of the store, `pinch snapshot load` the newest file of /var/lib/pinch-snapshots"
            )
        down = self._clock() - begin
        return f"Rolled back: {earlier.release} runs again with its settings, {down:.1f} s after the first restart"

    def _fault(self, wanted: Generation, wishes: Wishes, start: Any, known: Mapping[str, str]) -> str:
        """Wait for a start, None where none was asked for, and say what is wrong with it, empty where nothing is."""
        service = self.board.service(wanted.files[SETTINGS])
        deadline = self._clock() + wishes.patience_s
        unready = self._await_start(start, wishes) or self._await_answer(service, deadline)
        if unready:
            return unready
        running = self.board.running()
        if (running.release, running.deployment) != (wanted.release, wanted.deployment):
            found = f"release {running.release or 'unknown'} with deployment {running.deployment[:8] or 'none'}"
            return f"what runs is {found}; expected {wanted.release} with {wanted.deployment[:8]}. {DROP_INS}"
        if wishes.memory_max and running.memory_max != wishes.memory_max:
            return f"the kernel limits it to {running.memory_max} bytes; expected {wishes.memory_max}. {DROP_INS}"
        return self._thorough_fault(service, known) if wishes.thorough else ""

    def _await_start(self, start: Any, wishes: Wishes) -> str:
        """Wait until a start, None where there is none, has succeeded; return why it has not."""
        begin = still_since = self._clock()
        mark = 0
        while start is not None and not start.succeeded:
            if start.succeeded is False:
                return "it ended at its start"
            now, worked_us = self._clock(), start.worked_us
            if worked_us is None or abs(worked_us - mark) > WORK_US or start.waits_for_disk:
                mark, still_since = worked_us or 0, now
            still = wishes.thorough and now - still_since >= STILL_S
            if still or now - begin >= wishes.patience_s:
                start.leave()
                late = f"it was not ready within {wishes.patience_s:.0f} s"
                return f"it has done nothing for {STILL_S:.0f} s and is not ready" if still else late
            self._pause(LOOK_S)
        return ""

    def _await_answer(self, service: Any, deadline: float) -> str:
        """Wait until the service says that it is ready; return why it does not."""
        while True:
            reason: str = service.not_ready()
            if not reason:
                return ""
            if self._clock() >= deadline:
                return f"it was not ready in time: {reason}"
            if self.board.running().ended:
                return "it ended at its start"
            self._pause(LOOK_S)

    def _thorough_fault(self, service: Any, known: Mapping[str, str]) -> str:
        fault: str = service.fault()
        if fault:
            return fault
        fresh = {name: found for name, found in self.board.failing_checks().items() if name not in known}
        return "; ".join(f"pinch doctor fails {name}: {found}" for name, found in sorted(fresh.items()))
