"""Whether a unit does what it was started for, seen from its board."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, NamedTuple

from ansible.module_utils.pinch_generations import Generation
from ansible.module_utils.pinch_paths import SETTINGS

LOOK_S = 0.2
STILL_S = 3.0
"""Seconds without work after which a start that was rehearsed is given up; each is one without answers."""
WORK_US = 30_000
"""Processor time in microseconds that counts as work; threads that look around now and then use less."""


class Wishes(NamedTuple):
    """How a generation is judged."""

    patience_s: float
    """Seconds that the start may take."""
    memory_max: int = 0
    """Bytes that the kernel must let it have at most; 0 asks nothing."""
    thorough: bool = False
    """Whether it has to remember and recall too, and to pass `pinch doctor` where it stays."""
    back: bool = False
    """Whether this goes back: the generation keeps the one before it."""


class Judge:
    """One unit of a board, watched."""

    def __init__(
        self, board: Any, clock: Callable[[], float] = time.monotonic, pause: Callable[[float], None] = time.sleep
    ) -> None:
        self.board = board
        self._clock = clock
        self._pause = pause

    def fault(self, wanted: Generation, wishes: Wishes, start: Any) -> str:
        """Wait for a start, None where none was asked for, and say what is wrong with it, empty where nothing is."""
        service = self.board.service(wanted.files[SETTINGS])
        deadline = self._clock() + wishes.patience_s
        unready = self._await_start(start, wishes) or self._await_answer(service, deadline)
        if unready:
            return unready
        running = self.board.running()
        if (running.release, running.deployment) != (wanted.release, wanted.deployment):
            found = f"release {running.release or 'unknown'} with deployment {running.deployment[:8] or 'none'}"
            return (
                f"what runs is {found}; expected {wanted.release} with {wanted.deployment[:8]}. {self._see_drop_ins()}"
            )
        if wishes.memory_max and running.memory_max != wishes.memory_max:
            found = f"the kernel limits it to {running.memory_max} bytes"
            return f"{found}; expected {wishes.memory_max}. {self._see_drop_ins()}"
        return str(service.fault()) if wishes.thorough else ""

    def await_store(self, start: Any, longest_s: float = 900) -> str:
        """Wait until what was started waits for the store, or has it; return why it does neither.

        Somebody else serves meanwhile, so it has the time that systemd gives it, and `longest_s` where that is endless.
        """
        deadline = self._clock() + longest_s
        while self._clock() < deadline:
            given_up = start.succeeded is False
            running = self.board.running()
            begun = running.invocation != start.after
            if begun and (running.waits or running.active):
                return ""
            if begun and running.ended:
                return "it ended at its start"
            if given_up and not begun:
                return "systemd did not start it"
            self._pause(LOOK_S)
        return f"it did not come to its store within {longest_s:.0f} s"

    def await_turn(self, longest_s: float) -> None:
        """Wait until the unit has the store that it waited for, or has ended, or `longest_s` seconds are over."""
        begin = self._clock()
        while self.board.running().waits and self._clock() - begin < longest_s:
            self._pause(LOOK_S)

    def await_serving(self, longest_s: float) -> None:
        """Wait until the unit serves or has ended, or `longest_s` seconds are over."""
        begin = self._clock()
        while self._clock() - begin < longest_s:
            running = self.board.running()
            if running.active or running.ended:
                return
            self._pause(LOOK_S)

    def _see_drop_ins(self) -> str:
        return f"Look for drop-ins with `systemctl cat {self.board.unit}`"

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
