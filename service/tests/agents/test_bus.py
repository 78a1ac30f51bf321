"""The bus: in order, bounded, and whoever waits for room gets it, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.agents.bus import Bus, Topic
from pinch.agents.events import Delta, Finished, Prompt
from pinch.errors import Busy

WAIT_S = 30


class Note(NamedTuple):
    """A message of a test's own."""

    lane: str
    number: int
    cost: int = 10


class Handler:
    """Takes messages, each only when the test lets it."""

    def __init__(self, *, at_once: bool = False) -> None:
        self.taken: list[Note] = []
        self.done: list[Note] = []
        self.gate = asyncio.Event()
        if at_once:
            self.gate.set()

    async def __call__(self, note: Note) -> None:
        self.taken.append(note)
        await self.gate.wait()
        self.done.append(note)


def topic(handler: Callable[[Note], Awaitable[None]], limit: int = 100, at_once: int = 2) -> Topic[Note]:
    made: Topic[Note] = Topic("notes", limit, at_once)
    made.subscribe(handler)
    return made


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(20):
        await asyncio.sleep(0)


async def ended(*tasks: asyncio.Task[None]) -> None:
    async with asyncio.timeout(WAIT_S):
        await asyncio.gather(*tasks)


async def empty(bus: Topic[Any]) -> None:
    async with asyncio.timeout(WAIT_S):
        while bus.used or bus.waiting() or bus._tasks:
            await settle()


async def test_of_a_lane_one_follows_the_other_and_lanes_go_side_by_side() -> None:
    handler = Handler()
    notes = topic(handler)
    for number in range(3):
        notes.put_in(Note("a", number))
        notes.put_in(Note("b", number))
        notes.put_in(Note("c", number))
    await settle()
    assert handler.taken == [Note("a", 0), Note("b", 0)], "two lanes at once, and of each one message"
    assert notes.waiting() == 7
    assert notes.used == 70
    handler.gate.set()
    await empty(notes)
    for lane in "abc":
        assert [note.number for note in handler.done if note.lane == lane] == [0, 1, 2]


async def test_a_handler_that_fails_keeps_nothing_from_the_others() -> None:
    handler = Handler(at_once=True)

    async def fail(_: Note) -> None:
        raise ValueError("on purpose")

    notes = topic(fail, at_once=1)
    notes.subscribe(handler)
    for number in range(3):
        notes.put_in(Note("a", number))
    await empty(notes)
    assert [note.number for note in handler.done] == [0, 1, 2]


async def test_a_full_topic_refuses_who_cannot_wait_and_room_that_is_kept_is_not_given_twice() -> None:
    handler = Handler()
    notes = topic(handler, limit=100, at_once=1)
    notes.put_in(Note("busy", 0))
    await settle()
    with notes.room(60):
        with pytest.raises(Busy), notes.room(41):
            pass
        with notes.room(40):
            pass
        notes.put_in(Note("a", 0, 60))
    assert notes.used == 60
    with pytest.raises(ValueError, match="on purpose"), notes.room(40):
        raise ValueError("on purpose")
    assert notes.used == 60, "room that was not used is free again"
    handler.gate.set()
    await empty(notes)


async def test_one_that_is_alone_may_be_of_any_size() -> None:
    handler = Handler()
    notes = topic(handler, limit=100, at_once=1)
    notes.put_in(Note("busy", 0))
    await settle()
    await notes.put(Note("a", 0, 5000))
    later = asyncio.create_task(notes.put(Note("a", 1, 1)))
    await settle()
    assert not later.done()
    handler.gate.set()
    await ended(later)
    await empty(notes)
    assert handler.done[1:] == [Note("a", 0, 5000), Note("a", 1, 1)]


async def test_who_came_first_gets_room_first_and_a_small_one_does_not_overtake() -> None:
    handler = Handler()
    notes = topic(handler, limit=100, at_once=1)
    notes.put_in(Note("busy", 0))
    await settle()
    notes.put_in(Note("a", 0, 90))
    large = asyncio.create_task(notes.put(Note("a", 1, 80)))
    await settle()
    small = asyncio.create_task(notes.put(Note("a", 2, 1)))
    await settle()
    assert not large.done()
    assert not small.done()
    handler.gate.set()
    await ended(large, small)
    await empty(notes)
    assert [note.number for note in handler.done if note.lane == "a"] == [0, 1, 2]


async def test_one_that_gives_up_does_not_stand_in_the_way() -> None:
    notes = topic(Handler(), limit=100, at_once=1)
    notes.put_in(Note("busy", 0))
    await settle()
    notes.put_in(Note("a", 0, 90))
    large = asyncio.create_task(notes.put(Note("a", 1, 80)))
    await settle()
    small = asyncio.create_task(notes.put(Note("a", 2, 10)))
    await settle()
    assert not small.done()
    large.cancel()
    await ended(small)
    assert notes.used == 100
    await notes.stop()


async def test_one_that_gives_up_when_its_turn_has_come_passes_it_on() -> None:
    notes = topic(Handler(), limit=100, at_once=1)
    notes.put_in(Note("busy", 0))
    await settle()
    notes.put_in(Note("a", 0, 100))
    first = asyncio.create_task(notes.put(Note("b", 0, 100)))
    second = asyncio.create_task(notes.put(Note("c", 0, 100)))
    await settle()
    assert notes.withdraw("a", lambda _: True) == [Note("a", 0, 100)]  # now `first` may go on
    first.cancel()  # and is gone before it does
    await ended(second)
    assert notes.used == 100
    assert notes.waiting() == 1
    await notes.stop()
    assert notes.used == 0


async def test_what_is_withdrawn_is_not_handled_and_its_room_is_free() -> None:
    handler = Handler()
    notes = topic(handler, limit=100, at_once=1)
    for number in range(4):
        notes.put_in(Note("a", number))
    notes.put_in(Note("b", 0))
    await settle()
    tasks = list(notes._tasks)
    assert notes.withdraw("a", lambda note: note.number != 2) == [Note("a", 1), Note("a", 3)]
    assert notes.withdraw("b", lambda _: True) == [Note("b", 0)]
    assert notes.withdraw("c", lambda _: True) == []
    assert notes.used == 10
    handler.gate.set()
    await empty(notes)
    assert handler.done == [Note("a", 0), Note("a", 2)]
    assert [task.exception() for task in tasks] == [None, None]
    notes.put_in(Note("b", 1))
    await empty(notes)
    assert handler.done[-1] == Note("b", 1), "a lane that was emptied is used again"


async def test_stop_drops_what_waits_and_what_comes_later() -> None:
    handler = Handler()
    notes = topic(handler, at_once=1)
    for number in range(3):
        notes.put_in(Note("a", number))
    await settle()
    await notes.stop()
    notes.put_in(Note("a", 9))
    handler.gate.set()
    await settle()
    assert (handler.taken, handler.done) == ([Note("a", 0)], [])
    assert (notes.used, notes.waiting(), notes._tasks) == (0, 0, set())


async def test_pieces_of_an_answer_join_only_while_they_wait() -> None:
    told: list[str] = []
    gate = asyncio.Event()

    async def tell(event: Delta | Finished) -> None:
        told.append(event.text)
        await gate.wait()

    events = Bus(100_000, 4).events
    events.subscribe(tell)  # type: ignore[arg-type]
    for text in ("a", "b", "c"):
        await events.put(Delta("main", "1", text))
        await settle()
    await events.put(Finished("main", "1", "final", "abc", 0))
    await events.put(Delta("main", "2", "d"))
    await events.put(Delta("main", "1", "e"))
    await events.put(Delta("main", "1", "f"))
    await events.put(Delta("other", "1", "g"))
    await settle()
    assert told == ["a", "g"], "one that is handled is not added to"
    assert events.waiting() == 4
    gate.set()
    await empty(events)
    assert sorted(told) == sorted(["a", "bc", "abc", "d", "ef", "g"])
    assert [text for text in told if text != "g"] == ["a", "bc", "abc", "d", "ef"]


async def test_joined_pieces_cost_what_they_are() -> None:
    events = Bus(100_000, 1).events
    gate = asyncio.Event()

    async def wait(_: object) -> None:
        await gate.wait()

    events.subscribe(wait)
    await events.put(Delta("busy", "0", ""))
    await settle()
    for _ in range(100):
        await events.put(Delta("main", "1", "x" * 10))
    assert events.used == Delta("main", "1", "x" * 1000).cost
    await events.stop()
    assert events.used == 0


async def test_prompts_do_not_join() -> None:
    prompts = Bus(100_000, 1).prompts
    for number in range(3):
        prompts.put_in(Prompt("main", str(number), "text"))
    assert prompts.waiting() == 3
    await prompts.stop()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(10, 120))
def test_whatever_happens_nothing_is_lost_and_nobody_waits_for_ever(seed: int, at_once: int, limit: int) -> None:
    asyncio.run(Turmoil(random.Random(seed), at_once, limit).run())


class Turmoil:
    """Puts, offers, withdraws and cancels at random; every message is handled once, unless it was taken off."""

    def __init__(self, chance: random.Random, at_once: int, limit: int) -> None:
        self.chance = chance
        self.at_once = at_once
        self.notes = topic(self.handle, limit, at_once)
        self.handled: dict[str, list[int]] = defaultdict(list)
        self.put: dict[str, list[int]] = defaultdict(list)
        self.gone: set[tuple[str, int]] = set()
        self.running: set[str] = set()
        self.tasks: dict[asyncio.Task[None], Note] = {}

    async def handle(self, note: Note) -> None:
        assert note.lane not in self.running, "two of one lane at once"
        self.running.add(note.lane)
        assert len(self.running) <= self.at_once
        await self.pause()
        self.running.remove(note.lane)
        self.handled[note.lane].append(note.number)
        if not self.chance.randrange(10):
            raise ValueError("on purpose")

    async def pause(self) -> None:
        for _ in range(self.chance.randrange(3)):
            await asyncio.sleep(0)

    async def offer(self, note: Note) -> None:
        try:
            with self.notes.room(note.cost):
                await self.pause()
                self.notes.put_in(note)
                self.put[note.lane].append(note.number)
        except Busy:
            assert self.notes.used + note.cost > self.notes.limit

    async def step(self, note: Note) -> None:
        chosen = self.chance.randrange(6)
        if chosen < 3:
            self.tasks[asyncio.create_task(self.notes.put(note))] = note
            self.put[note.lane].append(note.number)
        elif chosen == 3:
            await self.offer(note)
        elif chosen == 4:
            taken = self.notes.withdraw(note.lane, lambda one: bool(one.number % 2))
            self.gone |= {(one.lane, one.number) for one in taken}
        elif self.tasks:
            self.chance.choice(list(self.tasks)).cancel()
        await self.pause()

    async def run(self) -> None:
        for number in range(60):
            await self.step(Note(self.chance.choice("abc"), number, self.chance.choice([1, 5, 20, 50, 200])))
        async with asyncio.timeout(WAIT_S):
            results = await asyncio.gather(*self.tasks, return_exceptions=True)
        given_up = [note for note, result in zip(self.tasks.values(), results, strict=True) if result is not None]
        self.gone |= {(note.lane, note.number) for note in given_up}
        await empty(self.notes)
        assert not self.notes._waiters
        for lane in "abc":
            expected = [number for number in self.put[lane] if (lane, number) not in self.gone]
            assert sorted(self.handled[lane]) == expected
