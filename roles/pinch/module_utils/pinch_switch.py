"""Changing a board over from what runs to a generation, and back where that one is not healthy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from ansible.module_utils.pinch_generations import Generation, Generations
from ansible.module_utils.pinch_handover import RETURN_S, Handover, HandoverError
from ansible.module_utils.pinch_judge import Judge, Wishes
from ansible.module_utils.pinch_paths import SETTINGS


class SwitchError(Exception):
    """A generation that was not healthy; the message says what happened to the board."""


class Outcome(NamedTuple):
    """What a switch did."""

    before: str
    """Release that ran, empty where none did."""
    seconds: float
    """From the end of what served right before it until it was ready, 0 where nothing was restarted."""


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
        self._handover = Handover(board, clock, pause, now)

    def tidy(self) -> None:
        """End a successor that a cut run left, and wait until what waited behind it serves."""
        if self.board.tidy():
            Judge(self.board, self._clock, self._pause).await_serving(RETURN_S)

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
        fault = self._fault(wanted, Wishes(patience_s), None)
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
        replaced = earlier.release if earlier and earlier.release != wanted.release else ""
        kept = self.generations.find(wanted.release)
        wanted = wanted._replace(before=kept.before if kept and (wishes.back or not replaced) else replaced)
        known = self.board.failing_checks() if wishes.thorough and earlier else {}
        self.board.refresh(wanted.files)
        if replaced:
            # Before it is in place, so that a board whose power is cut then knows the way back.
            self.generations.keep(wanted, proven=False)
        try:
            seconds = self._run(wanted, earlier, wishes, known)
        except SwitchError:
            if kept is not None:
                self.generations.keep(kept, proven=False)
            elif replaced:
                self.generations.forget(wanted.release)
            raise
        finally:
            self.board.tidy()
        self.generations.keep(wanted._replace(model=self.board.model()), proven=True)
        return Outcome(replaced, round(seconds, 1))

    def _run(self, wanted: Generation, earlier: Generation | None, wishes: Wishes, known: Mapping[str, str]) -> float:
        """Run `wanted` and see that it stays; return the seconds from the end of what served until it was ready."""
        try:
            start, begin = self._exchange(wanted, earlier, wishes)
            fault = self._fault(wanted, wishes, start)
            ready = self._clock()
            fault = fault or (self._doctor_fault(known) if wishes.thorough else "")
            if not fault:
                self.board.enable()
                return ready - begin
            # First the way back: to read the journal takes a small board seconds without answers.
            failed_at = self._now()
            went = self._back(wanted, earlier, wishes, begin, ended=start.succeeded is False)
            self.board.enable()
            words = self.board.words(failed_at)
        except HandoverError as error:
            fault, words, went = error.fault, error.words, self._kept(error, earlier)
        said = f"{fault}. Its last words: {words or 'none'}"
        raise SwitchError(f"release {wanted.release} is not healthy: {said}. {went}")

    def _exchange(self, wanted: Generation, earlier: Generation | None, wishes: Wishes) -> tuple[Any, float]:
        """Start `wanted` in place of what runs; return its start and when answers ended."""
        if wishes.thorough and earlier is not None and self._handover.possible(earlier, wanted):
            start, begin = self._handover.run(wanted, earlier, wishes)
            return start, begin
        self.board.install(wanted.release, wanted.files, set(), wanted.model)
        begin = self._clock()
        return self.board.restart(), begin

    def _kept(self, error: HandoverError, earlier: Generation) -> str:
        if error.lost:
            return self._lost(earlier, error.lost)
        if error.down_s is None:
            return f"Nothing was changed, and {earlier.release} went on all the time"
        return self._again(earlier, error.down_s)

    def _back(
        self, wanted: Generation, earlier: Generation | None, wishes: Wishes, begin: float, *, ended: bool
    ) -> str:
        if earlier is None or (earlier.release, earlier.deployment) == (wanted.release, wanted.deployment):
            return "There is nothing to go back to: it stays, and systemd goes on trying to start it"
        calm = Wishes(max(wishes.patience_s, RETURN_S))
        if self._handover.possible(wanted, earlier):
            # It serves, only not well enough.
            self.board.tidy()
            with suppress(HandoverError):
                start, begin = self._handover.run(earlier, wanted, calm)
                if not self._fault(earlier, calm, start):
                    return self._again(earlier, self._clock() - begin)
        self.board.install(earlier.release, earlier.files, wanted.files.keys() - earlier.files.keys(), earlier.model)
        if not ended:
            self.board.kill()
        fault = self._fault(earlier, calm, self.board.restart())
        return self._lost(earlier, fault) if fault else self._again(earlier, self._clock() - begin)

    def _again(self, earlier: Generation, down_s: float) -> str:
        return f"Rolled back: {earlier.release} runs again with its settings, after {down_s:.1f} s"

    def _lost(self, earlier: Generation, fault: str) -> str:
        return (
            f"Going back to {earlier.release} did not help either: {fault}. See `journalctl -u pinch -u "
            "pinch-successor`; where it speaks of the store, `pinch snapshot load` the newest file of "
            "/var/lib/pinch-snapshots"
        )

    def _fault(self, wanted: Generation, wishes: Wishes, start: Any) -> str:
        fault: str = Judge(self.board, self._clock, self._pause).fault(wanted, wishes, start)
        return fault

    def _doctor_fault(self, known: Mapping[str, str]) -> str:
        fresh = {name: found for name, found in self.board.failing_checks().items() if name not in known}
        return "; ".join(f"pinch doctor fails {name}: {found}" for name, found in sorted(fresh.items()))
