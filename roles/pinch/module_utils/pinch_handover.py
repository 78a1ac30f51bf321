"""The store passed from the release that serves to another, with both loaded: nobody waits for a start.

The successor starts in a unit of its own and waits for the store. The unit is then started anew: with its end the
successor serves, and behind it waits the release of before. A successor that fails gives the store back by its end.
One that is healthy serves until the unit has its release and waits behind it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from ansible.module_utils.pinch_generations import Generation
from ansible.module_utils.pinch_judge import Judge, Wishes

KNOWS_TO_WAIT = "PINCH_STATE_WAIT_S="
"""In the unit of a release that knows how to wait."""
END_S = 20.0
"""Seconds that the release which serves may take to end; systemd kills it after 15."""
RETURN_S = 60.0
"""Seconds that the release of before may take at least to serve again."""


class HandoverError(Exception):
    """A successor that was not healthy."""

    def __init__(self, fault: str, words: str, down_s: float | None, lost: str = "") -> None:
        super().__init__(fault)
        self.fault = fault
        self.words = words
        """What it said last."""
        self.down_s = down_s
        """Seconds from the end of the release of before until that served again; None where it did not end."""
        self.lost = lost
        """Why the release of before does not serve again, empty where it does."""


class Handover:
    """One board on which a release serves."""

    def __init__(
        self, board: Any, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self.board = board
        self._clock = clock
        self._pause = pause
        self._now = now

    def possible(self, serving: Generation, wanted: Generation) -> bool:
        """Whether `serving` is what runs, and both know how to wait."""
        running = self.board.running()
        serves = running.active and (running.release, running.deployment) == (serving.release, serving.deployment)
        return serves and all(any(KNOWS_TO_WAIT in text for text in each.files.values()) for each in (serving, wanted))

    def run(self, wanted: Generation, serving: Generation, wishes: Wishes) -> tuple[Any, float]:
        """Let the unit run `wanted` in place of `serving`; return its start, not judged yet, and when it began.

        Raises:
            HandoverError: `wanted` is not healthy; the board has what it had.
        """
        successor = self.board.successor(wanted)
        behind = self._prove(successor, wanted, serving, wishes)
        start, fault = self._place(wanted, serving, behind)
        words = self.board.words() if fault else ""
        if fault:
            # Whether it waits is seen when it is judged, once it has the store.
            start, _ = self._place(serving, wanted, start)
        begin = self._clock()
        successor.stop()
        if fault:
            lost = self._returned(serving, start, wishes)
            raise HandoverError(f"{fault} where it is to stay", words, self._clock() - begin, lost)
        return start, begin

    def _prove(self, successor: Any, wanted: Generation, serving: Generation, wishes: Wishes) -> Any:
        """Let the successor serve, and judge it; return the start of what waits behind it."""
        judge = Judge(successor, self._clock, self._pause)
        start = successor.restart()
        fault = judge.await_store(start)
        if fault:
            raise HandoverError(fault, successor.words(), None)
        begin = self._clock()
        behind = self.board.restart()
        judge.await_turn(END_S)
        fault = judge.fault(wanted, wishes, start)
        if fault:
            failed_at = self._now()
            start.leave()
            successor.kill()
            lost = self._returned(serving, behind, wishes)
            raise HandoverError(fault, successor.words(failed_at), self._clock() - begin, lost)
        return behind

    def _place(self, wanted: Generation, replaced: Generation, before: Any) -> tuple[Any, str]:
        """Let the unit have `wanted` and wait for the store; return its start and why it does not wait."""
        self.board.install(wanted.release, wanted.files, replaced.files.keys() - wanted.files.keys(), wanted.model)
        before.leave()
        start = self.board.restart()
        return start, Judge(self.board, self._clock, self._pause).await_store(start)

    def _returned(self, serving: Generation, start: Any, wishes: Wishes) -> str:
        judge = Judge(self.board, self._clock, self._pause)
        if start.succeeded is False:
            start = self.board.restart()
        fault: str = judge.fault(serving, Wishes(max(wishes.patience_s, RETURN_S)), start)
        return fault
