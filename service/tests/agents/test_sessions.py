"""Sessions on disk: found again after any end, one at a time at each file, bounded in number and in memory."""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path

import pytest
from cachetools import TTLCache
from pinch.agents import journal
from pinch.agents import sessions as module
from pinch.agents.journal import Contents, Entry
from pinch.agents.session import Summary, check_key
from pinch.agents.sessions import INDEX_FILE, Sessions
from pinch.errors import Busy, Conflict, Invalid, NotFound

WAIT_S = 60
AT = 1_790_000_000_000
Opener = Callable[..., Awaitable[Sessions]]


class Archived:
    """An archive that remembers, or refuses."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, Entry]] = []
        self.refuses = False

    async def __call__(self, key: str, entries: Sequence[Entry]) -> None:
        if self.refuses:
            raise Busy("on purpose")
        await asyncio.sleep(0)
        self.entries += [(key, entry) for entry in entries]


@pytest.fixture
def archived() -> Archived:
    return Archived()


@pytest.fixture
async def opened(tmp_path: Path, archived: Archived) -> AsyncIterator[Opener]:
    """Opens the folder as another start of the service would; only `stop` ends one cleanly."""
    running: list[Sessions] = []

    async def begin(**options: int) -> Sessions:
        limits = {"file_limit": 4096, "count_limit": 100, "cache_bytes": 100_000, **options}
        sessions = Sessions(tmp_path / "sessions", archive=archived, **limits)
        await sessions.start()
        running.append(sessions)
        return sessions

    yield begin
    for sessions in running:
        await sessions.stop()


def user(run: str, text: str = "the kettle") -> Entry:
    return Entry("user", run, AT, text)


def answer(run: str, text: str = "on the shelf") -> list[Entry]:
    return [Entry("assistant", run, AT + 1, text), Entry("end", run, AT + 2, "", {"state": "final"})]


async def say(sessions: Sessions, key: str, run: str, text: str = "the kettle", *, ended: bool = True) -> None:
    async with sessions.hold(key, create=True) as held:
        await sessions.append(held, user(run, text))
        if ended:
            await sessions.append(held, *answer(run))


async def texts(sessions: Sessions, key: str) -> list[str]:
    async with sessions.hold(key) as held:
        return [entry.text for entry in held.entries if entry.kind == "user"]


def beneath(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def shown(sessions: Sessions) -> set[Summary]:
    return set(sessions.listing())


@pytest.mark.parametrize(
    "key",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../b",
        "/etc/passwd",
        "a/b",
        "a\\b",
        "a\0b",
        "-a",
        ".hidden",
        "a b",
        "ä",
        "a\n",
        "x" * 121,
        "٣",
    ],
)
async def test_a_key_names_a_file_in_the_folder_and_no_other(opened: Opener, tmp_path: Path, key: str) -> None:
    sessions = await opened()
    for work in (say(sessions, key, "1"), texts(sessions, key), sessions.reset(key), sessions.delete(key)):
        with pytest.raises(Invalid):
            await work
    assert beneath(tmp_path) == ["sessions"]


@pytest.mark.parametrize(
    "key", ["a", "x" * 120, "a..b", "agent:main:user+1@host", "index", "index.json", "a.partial", "a.jsonl"]
)
async def test_every_other_key_does(opened: Opener, key: str) -> None:
    sessions = await opened()
    assert check_key(key) == key
    await say(sessions, key, "1", "hello")
    await say(sessions, "other", "1")
    await sessions.stop()
    again = await opened()
    assert shown(again) == shown(sessions)
    assert len(again) == 2
    assert await texts(again, key) == ["hello"]


@pytest.mark.parametrize("clean", [True, False])
async def test_a_start_finds_the_same_sessions(opened: Opener, tmp_path: Path, clean: bool) -> None:
    sessions = await opened()
    for number in range(5):
        await say(sessions, f"s{number}", "1", f"hello {number}", ended=bool(number))
    if clean:
        await sessions.stop()
    assert (tmp_path / "sessions" / INDEX_FILE).exists() == clean
    again = await opened()
    assert shown(again) == shown(sessions)
    assert again.unfinished() == ["s0"]
    assert {one.title for one in again.listing()} == {f"hello {number}" for number in range(5)}
    assert [one.key for one in again.listing("HELLO 3")] == ["s3"]


async def test_after_a_clean_stop_only_what_changed_is_read(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = await opened()
    for key in ("kept", "changed", "gone"):
        await say(sessions, key, "1")
    await sessions.stop()
    with (tmp_path / "sessions" / "changed.jsonl").open("ab") as file:
        file.write(journal.entry_line(user("2", "by hand")))
    (tmp_path / "sessions" / "gone.jsonl").unlink()
    read: list[str] = []
    load = journal.load

    def loaded(path: Path, key: str, limit: int) -> Contents:
        read.append(key)
        return load(path, key, limit)

    monkeypatch.setattr(journal, "load", loaded)
    again = await opened()
    assert read == ["changed"]
    assert {one.key: one.messages for one in again.listing()} == {"kept": 2, "changed": 3}
    assert again.unfinished() == ["changed"]


@pytest.mark.parametrize(
    "index",
    [
        "",
        "kettle",
        "{}",
        "5",
        "null",
        "[1]",
        "[[1, 2]]",
        "[[1, 2, 3]]",
        '[[1, 2, {"key": "s"}]]',
        "[" * 200_000,
        "\0",
        "wrong types",
    ],
)
async def test_a_damaged_index_is_made_anew(opened: Opener, tmp_path: Path, index: str) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    await sessions.stop()
    file = tmp_path / "sessions" / INDEX_FILE
    if index == "wrong types":
        rows = json.loads(file.read_bytes())
        rows[0][2] = {name: [] if name == "updated_at" else value for name, value in rows[0][2].items()}
        index = json.dumps(rows)
    file.write_text(index, "utf-8")
    again = await opened()
    assert shown(again) == shown(sessions)


async def test_what_a_kill_left_half_made_is_cleared_away(opened: Opener, tmp_path: Path) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    for name in ("s.partial", "new.partial", "index.partial"):
        (tmp_path / "sessions" / name).write_bytes(b'{"type": "ses')
    again = await opened()
    assert shown(again) == shown(sessions)
    assert not list((tmp_path / "sessions").glob("*.partial"))


async def test_what_is_no_session_keeps_no_session_from_being_used(opened: Opener, tmp_path: Path) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    folder = tmp_path / "sessions"
    (folder / "folder.jsonl").mkdir()
    (folder / "dangling.jsonl").symlink_to("nowhere")
    (folder / ".hidden.jsonl").write_text("x")
    (folder / "notes.txt").write_text("x")
    again = await opened()
    assert shown(sessions) <= shown(again)
    damage = {one.key: one.damage for one in again.listing()}
    assert damage == {"s": "", "folder": "it cannot be read: Is a directory", "dangling": damage["dangling"]}
    assert "cannot be read" in damage["dangling"]
    with pytest.raises(Conflict, match="Is a directory"):
        await texts(again, "folder")
    assert await texts(again, "s") == ["the kettle"]


async def test_damage_is_told_and_a_torn_line_gone_with_the_next(opened: Opener, tmp_path: Path) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    with (tmp_path / "sessions" / "s.jsonl").open("ab") as file:
        file.write(b"kettle\n\xff\xfe\n" + journal.entry_line(user("2"))[:-5])
    again = await opened()
    (summary,) = again.listing()
    assert "2 lines are no entries" in summary.damage
    assert "a last line that was not finished" in summary.damage
    await say(again, "s", "3")
    assert await texts(await opened(), "s") == ["the kettle"] * 2


async def test_a_copy_is_a_session_of_its_own(opened: Opener, tmp_path: Path) -> None:
    sessions = await opened()
    await say(sessions, "a", "1", "original")
    folder = tmp_path / "sessions"
    (folder / "b.jsonl").write_bytes((folder / "a.jsonl").read_bytes())
    for again in (sessions, await opened()):
        async with again.hold("b") as held:
            await again.append(held, user(f"to-b-{id(again)}", "copy"))
    last = await opened()
    assert {one.key for one in last.listing()} == {"a", "b"}
    assert await texts(last, "a") == ["original"]
    assert await texts(last, "b") == ["original", "copy", "copy"]


async def test_a_key_in_a_file_leads_nowhere_else(opened: Opener, tmp_path: Path) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    file = tmp_path / "sessions" / "s.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"key":"s"', b'"key":"../../stolen"'))
    again = await opened()
    assert [one.key for one in again.listing()] == ["s"]
    async with again.hold("s") as held:
        file.write_bytes(file.read_bytes() + journal.entry_line(user("2", "by hand")))
        await again.append(held, user("3", "later"))
    assert await texts(again, "s") == ["the kettle", "by hand", "later"]
    assert not any("stolen" in name for name in beneath(tmp_path))


@pytest.mark.parametrize("how", ["grown", "in place", "replaced", "removed"])
async def test_what_an_editor_does_is_seen_at_the_next_look(opened: Opener, tmp_path: Path, how: str) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    assert await texts(sessions, "s") == ["the kettle"], "it is in memory"
    file = tmp_path / "sessions" / "s.jsonl"
    data = file.read_bytes()
    before = file.stat().st_mtime_ns
    if how == "grown":
        file.write_bytes(data + journal.entry_line(user("2", "by hand")))
    elif how == "in place":
        file.write_bytes(data.replace(b"kettle", b"teapot"))
        os.utime(file, ns=(0, before + 1_000_000))
    elif how == "replaced":
        other = tmp_path / "other"
        other.write_bytes(data.replace(b"kettle", b"teapot"))
        os.utime(other, ns=(0, before))
        other.rename(file)
    else:
        file.unlink()
        with pytest.raises(NotFound):
            await texts(sessions, "s")
        assert len(sessions) == 0
        return
    assert await texts(sessions, "s") == (["the kettle", "by hand"] if how == "grown" else ["the teapot"])
    assert sessions.listing()[0].file_bytes == file.stat().st_size


async def test_an_editor_in_the_middle_of_a_turn_loses_nothing(opened: Opener, tmp_path: Path) -> None:
    sessions = await opened()
    file = tmp_path / "sessions" / "s.jsonl"
    async with sessions.hold("s", create=True) as held:
        await sessions.append(held, user("1", "first"))
        file.write_bytes(file.read_bytes() + journal.entry_line(user("2", "by hand")))
        await sessions.append(held, *answer("1"))
        file.unlink()
        await sessions.append(held, user("3", "after it was removed"))
    assert await texts(sessions, "s") == ["after it was removed"]
    assert await texts(await opened(), "s") == ["after it was removed"]


async def test_one_who_never_stops_writing_is_told_as_a_conflict(
    opened: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    file = tmp_path / "sessions" / "s.jsonl"
    load = journal.load

    def loaded(path: Path, key: str, limit: int) -> Contents:
        contents = load(path, key, limit)
        with file.open("ab") as other:
            other.write(b"\n")
        return contents

    monkeypatch.setattr(journal, "load", loaded)
    async with sessions.hold("s") as held:
        file.write_bytes(file.read_bytes() + b"\n")
        with pytest.raises(Conflict, match="someone else"):
            await sessions.append(held, user("2"))


async def test_compaction_keeps_the_newest_whole_runs_and_open_ones(opened: Opener, archived: Archived) -> None:
    sessions = await opened(file_limit=10**6)
    await say(sessions, "s", "open", "never answered", ended=False)
    for number in range(20):
        await say(sessions, "s", f"r{number}", f"{number} {'x' * 200}")
    sessions = await opened()
    before = sessions.listing()[0]
    assert before.file_bytes > 4096
    await sessions.compact("s")
    summary = sessions.listing()[0]
    assert summary.file_bytes < 4096 / 2 + 500
    assert summary.id == before.id
    for view in (sessions, await opened()):
        async with view.hold("s") as held:
            runs = list(dict.fromkeys(entry.run for entry in held.entries))
            kept = len(runs) - 1
            assert kept >= 2
            assert runs == ["open", *(f"r{number}" for number in range(20 - kept, 20))]
            assert all(held.ended(run) for run in runs[1:])
            assert held.open_runs() == ["open"]
    dropped = [entry for number in range(20 - kept) for entry in ("user", "assistant", "end")]
    assert [(key, entry.kind) for key, entry in archived.entries] == [("s", kind) for kind in dropped]
    again = list(archived.entries)
    await sessions.compact("s")
    assert archived.entries == again, "one that is short enough is left alone"


async def test_a_file_is_only_shortened_when_what_goes_is_kept(
    opened: Opener, tmp_path: Path, archived: Archived
) -> None:
    sessions = await opened(file_limit=10**6)
    for number in range(20):
        await say(sessions, "s", f"r{number}", "x" * 300)
    sessions = await opened()
    data = (tmp_path / "sessions" / "s.jsonl").read_bytes()
    archived.refuses = True
    with pytest.raises(Busy):
        await sessions.compact("s")
    assert (tmp_path / "sessions" / "s.jsonl").read_bytes() == data
    for _ in range(3):
        with pytest.raises(Busy):
            await say(sessions, "s", "new", "no room until it is shortened")
    assert (tmp_path / "sessions" / "s.jsonl").read_bytes() == data
    archived.refuses = False
    await say(sessions, "s", "new", "there is room again")
    assert (await texts(sessions, "s"))[-1] == "there is room again"
    assert sessions.listing()[0].file_bytes < 4096


async def test_one_run_that_is_too_long_for_a_session_does_not_block_it(opened: Opener, archived: Archived) -> None:
    sessions = await opened()
    await say(sessions, "s", "giant", "x" * 12_000)
    await say(sessions, "s", "next", "after it")
    assert await texts(sessions, "s") == ["after it"]
    assert [entry.run for _, entry in archived.entries] == ["giant"] * 3


async def test_open_runs_alone_may_fill_a_session_and_then_it_takes_no_more(opened: Opener) -> None:
    sessions = await opened()
    await say(sessions, "s", "giant", "x" * 12_000, ended=False)
    with pytest.raises(Conflict, match="could not be compacted"):
        await say(sessions, "s", "next")
    async with sessions.hold("s") as held:
        await sessions.append(held, *answer("giant"))
    await say(sessions, "s", "next")


async def test_what_an_editor_wrote_while_it_was_compacted_is_not_lost(
    opened: Opener, tmp_path: Path, archived: Archived, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = await opened(file_limit=10**6)
    for number in range(20):
        await say(sessions, "s", f"r{number}", "x" * 300)
    sessions = await opened()
    file = tmp_path / "sessions" / "s.jsonl"

    async def archive(_key: str, _entries: Sequence[Entry]) -> None:
        with file.open("ab") as other:
            other.write(journal.entry_line(user("hand", "by hand")))

    monkeypatch.setattr(sessions, "archive", archive)
    with pytest.raises(Conflict, match="someone else"):
        await sessions.compact("s")
    monkeypatch.setattr(sessions, "archive", archived)
    await sessions.compact("s")
    assert "by hand" in await texts(sessions, "s")


async def test_what_could_not_be_read_is_beside_the_file_after_compaction(opened: Opener, tmp_path: Path) -> None:
    sessions = await opened(file_limit=10**6)
    file = tmp_path / "sessions" / "s.jsonl"
    await say(sessions, "s", "1")
    for number in range(100):
        await say(sessions, "s", f"r{number}", "y" * 300)
        with file.open("ab") as other:
            other.write(f"by hand {number}\n".encode())
    whole = file.read_bytes()
    assert len(whole) > 4 * 4096
    again = await opened()
    (summary,) = again.listing()
    assert "bytes were skipped" in summary.damage
    assert "lines are no entries" in summary.damage
    await again.compact("s")
    (summary,) = again.listing()
    assert summary.damage == ""
    assert (await texts(again, "s"))[-1] == "y" * 300
    aside = file.with_suffix(".unread").read_bytes()
    assert all(f"by hand {number}\n".encode() in aside for number in range(100))
    assert whole.startswith(aside[: len(whole) - 4 * 4096])
    await again.delete("s")
    assert not list(file.parent.glob("s.*"))


async def test_memory_is_bounded_in_bytes_and_given_back(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_TTL_S", 0.05)
    sessions = await opened(file_limit=10**6, cache_bytes=20_000)
    for number in range(30):
        await say(sessions, f"s{number}", "1", "x" * 2000)
        assert sessions.used <= 20_000 + len(sessions) * module.SUMMARY_BYTES
    held = sessions.used - len(sessions) * module.SUMMARY_BYTES
    assert held > 5000, "nothing is kept: the test proves nothing"
    async with sessions.hold("s29") as one:
        assert sessions.used - len(sessions) * module.SUMMARY_BYTES >= one.memory_bytes
        assert sessions.trim() > 0
        assert sessions.used == one.memory_bytes + len(sessions) * module.SUMMARY_BYTES
    await say(sessions, "large", "1", "x" * 30_000)
    assert sessions.used - len(sessions) * module.SUMMARY_BYTES <= 20_000
    assert await texts(sessions, "large") == ["x" * 30_000]


async def test_what_nobody_uses_leaves_memory_by_itself(opened: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CACHE_TTL_S", 0.05)
    sessions = await opened()
    sessions._cache = TTLCache(10**6, 0.05, getsizeof=lambda one: one.memory_bytes)
    await say(sessions, "s", "1")
    assert sessions.used > module.SUMMARY_BYTES
    async with asyncio.timeout(WAIT_S):
        while sessions._cache.currsize:  # noqa: ASYNC110 - a timer of the loop's empties it
            await asyncio.sleep(0.01)
    assert sessions.used == module.SUMMARY_BYTES
    assert await texts(sessions, "s") == ["the kettle"]


@pytest.mark.parametrize("seed", range(4))
async def test_many_at_once_some_cancelled_never_interleave(opened: Opener, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    sessions = await opened(file_limit=10**7, cache_bytes=chance.choice([0, 10**6]))
    inside: set[str] = set()
    acknowledged: dict[str, list[str]] = {key: [] for key in "abc"}

    async def work(key: str, run: str) -> None:
        async with sessions.hold(key, create=True) as held:
            assert key not in inside, "two at once in one session"
            inside.add(key)
            try:
                await sessions.append(held, user(run, f"1 {'x' * 300}"), user(run, "2"))
                acknowledged[key].append(run)
                await asyncio.sleep(0)
                await sessions.append(held, *answer(run))
            finally:
                inside.remove(key)

    tasks = []
    for number in range(120):
        tasks.append(asyncio.create_task(work(chance.choice("abc"), str(number))))
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(0)
        if not chance.randrange(3):
            chance.choice(tasks).cancel()
    async with asyncio.timeout(WAIT_S):
        results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} == {type(None), asyncio.CancelledError}
    assert not sessions._turns
    assert not sessions._working
    again = await opened(file_limit=10**7)
    for key, runs in acknowledged.items():
        async with again.hold(key) as held, sessions.hold(key) as same:
            assert held.entries == same.entries
            assert held.damage == ""
            found = [entry.run for entry in held.entries]
            assert set(runs) <= set(found)
            for run in set(found):
                begin = found.index(run)
                count = found.count(run)
                assert found[begin : begin + count] == [run] * count, "two runs are mixed"
                assert count in {2, 4}, "half of what was added in one go"
            assert len([run for run in runs if found.count(run) > 4]) == 0


async def test_no_more_sessions_than_there_may_be(opened: Opener) -> None:
    sessions = await opened(count_limit=3)
    for key in "abc":
        await say(sessions, key, "1")
    with pytest.raises(Conflict, match="3 sessions"):
        await say(sessions, "d", "1")
    await say(sessions, "a", "2")
    await sessions.delete("b")
    await say(sessions, "d", "1")
    again = await opened(count_limit=3)
    with pytest.raises(Conflict):
        await say(again, "e", "1")
    assert {one.key for one in again.listing()} == set("acd")


async def test_at_once_no_more_are_made_than_there_may_be(opened: Opener) -> None:
    sessions = await opened(count_limit=3)
    results = await asyncio.gather(*(say(sessions, f"s{n}", "1") for n in range(12)), return_exceptions=True)
    assert len(sessions) == 3
    assert sum(result is None for result in results) == 3
    assert len(list(sessions.folder.glob("*.jsonl"))) == 3


async def test_delete_and_reset(opened: Opener) -> None:
    sessions = await opened()
    await say(sessions, "s", "1", "old")
    before = sessions.listing()[0].id
    summary = await sessions.reset("s")
    assert summary.id != before
    assert (summary.messages, summary.open) == (0, False)
    assert await texts(sessions, "s") == []
    await say(sessions, "s", "1", "new")
    assert await texts(await opened(), "s") == ["new"]
    await sessions.delete("s")
    assert len(sessions) == 0
    for work in (sessions.delete("s"), texts(sessions, "s")):
        with pytest.raises(NotFound):
            await work
    with pytest.raises(NotFound):
        await sessions.reset("s")
    await say(sessions, "s", "1", "again")
    assert await texts(sessions, "s") == ["again"]


async def test_who_waits_for_a_session_that_is_deleted_is_told(opened: Opener) -> None:
    sessions = await opened()
    await say(sessions, "s", "1")
    async with sessions.hold("s"):
        deleting = asyncio.create_task(sessions.delete("s"))
        await asyncio.sleep(0)
        waiting = asyncio.create_task(texts(sessions, "s"))
        await asyncio.sleep(0)
    await deleting
    with pytest.raises(NotFound):
        await waiting
