"""Who waits for a run hears everything of it, in order, up to its end, however slowly it listens."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.agents.events import Delta, Event, Finished, ToolUse
from pinch.agents.followers import Follower, Followers

WAIT_S = 10


def delta(text: str, run: str = "r") -> Delta:
    return Delta("main", run, text, "main")


def finished(text: str, run: str = "r") -> Finished:
    return Finished("main", run, "final", text, 0, session="main")


async def told(followers: Followers, *events: Event) -> None:
    for event in events:
        await followers.handle(event)


async def heard(follower: Follower) -> tuple[str, Finished]:
    text = ""
    async with asyncio.timeout(WAIT_S):
        while not isinstance(event := await follower.next(), Finished):
            text += event.text
    return text, event


@settings(deadline=None)
@given(st.lists(st.tuples(st.text(max_size=8), st.booleans()), max_size=20))
def test_all_that_is_said_is_heard_however_slowly(pieces: list[tuple[str, bool]]) -> None:
    async def listen() -> None:
        followers = Followers()
        with followers.follow("main", "r") as slow, followers.follow("main", "r") as quick:
            hearing = asyncio.create_task(heard(quick))
            text = ""
            for piece, look in pieces:
                await told(followers, delta(piece), ToolUse("main", "r", "start", "x", "c", "{}", "main"))
                if look:
                    event = await slow.next()
                    assert isinstance(event, Delta)
                    text += event.text
            end = finished("".join(piece for piece, _ in pieces))
            await told(followers, end)
            rest, last = await heard(slow)
            assert (text + rest, last) == (end.text, end)
            assert await hearing == (end.text, end)
            assert await heard(slow) == ("", end), "the end stays"

    asyncio.run(listen())


async def test_what_waits_is_one_piece() -> None:
    followers = Followers()
    with followers.follow("main", "r") as follower:
        await told(followers, delta("a"), delta("b"), delta("c"), finished("abc"))
        assert await follower.next() == delta("abc")
        assert await follower.next() == finished("abc")


async def test_other_runs_and_lanes_are_not_heard() -> None:
    followers = Followers()
    with followers.follow("main", "r") as follower, followers.follow("other", "r") as other:
        await told(followers, delta("no", "s"), finished("no", "s"), delta("yes"), finished("yes"))
        assert await heard(follower) == ("yes", finished("yes"))
        waiting = asyncio.create_task(other.next())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()


async def test_nothing_stays_of_who_has_gone() -> None:
    followers = Followers()
    with followers.follow("main", "r"), followers.follow("main", "r"):
        pass
    await told(followers, delta("a"), finished("a"))
    assert followers._waiting == {}
