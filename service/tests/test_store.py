"""The store from within: its one writer, its readers, and what they say when they close."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import apsw
import pytest
from pinch.errors import Busy, StoreUnusable
from pinch.memory import documents
from pinch.memory.chunking import Chunker
from pinch.memory.database import APPLICATION_ID, DatabaseConfig, connect
from pinch.memory.documents import Upload
from pinch.memory.store import Store

Scenario = Callable[[Store], Coroutine[Any, Any, None]]
LIMIT = 1000


@pytest.fixture
def play(tmp_path: Path) -> Callable[[Scenario], None]:
    """Runs a scenario on a store of its own."""

    async def run(scenario: Scenario) -> None:
        config = DatabaseConfig(tmp_path / "pinch.db", "FULL", 2, 512, 8 << 20, LIMIT)
        store = Store(config)
        store.open()
        try:
            await store.recover()
            await scenario(store)
        finally:
            await store.close()

    return lambda scenario: asyncio.run(run(scenario))


def nothing(_: apsw.Connection) -> None:
    return None


def count(table: str) -> Callable[[apsw.Connection], int]:
    return lambda connection: int(connection.execute(f"SELECT count(*) FROM {table}").get)


def test_writes_that_come_while_the_store_closes_are_told_so(play: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        held = threading.Event()
        first = asyncio.create_task(store.writer.run(lambda _: held.wait(30)))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        store.writer.refuse()
        stopped = loop.run_in_executor(None, store.writer.stop)
        with pytest.raises(Busy, match="being replaced"):
            await asyncio.wait_for(store.writer.run(nothing), 5)
        held.set()
        assert await first, "what was taken is finished"
        await stopped
        with pytest.raises(Busy):
            await asyncio.wait_for(store.writer.run(nothing), 5)

    play(scenario)


def test_reads_that_wait_while_the_store_closes_are_told_so(play: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        held = threading.Event()
        running = [asyncio.create_task(store.readers.run(lambda _: held.wait(30))) for _ in range(2)]
        waiting = asyncio.create_task(store.readers.run(nothing))
        await asyncio.sleep(0.1)
        store.readers.refuse()
        stopped = asyncio.get_running_loop().run_in_executor(None, store.readers.stop)
        held.set()
        assert all(await asyncio.gather(*running))
        with pytest.raises(Busy):
            await asyncio.wait_for(waiting, 5)
        await stopped

    play(scenario)


def test_what_takes_long_is_cut_and_keeps_no_read_waiting(play: Callable[[Scenario], None]) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"

    async def scenario(store: Store) -> None:
        long = [
            asyncio.create_task(store.readers.run_long(lambda connection: connection.execute(endless).get)),
            asyncio.create_task(store.readers.run(lambda connection: connection.execute(endless).get)),
        ]
        assert await asyncio.wait_for(store.readers.run(count("items")), 30) == 0
        store.readers.refuse()
        await asyncio.get_running_loop().run_in_executor(None, store.readers.stop)
        for task in long:
            with pytest.raises(Busy):
                await task

    play(scenario)


def test_waiting_writes_are_bounded_in_bytes(play: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        held = threading.Event()
        first = asyncio.create_task(store.writer.run(lambda _: held.wait(30), LIMIT * 3))
        await asyncio.sleep(0)
        with pytest.raises(Busy, match=f"the account holds {LIMIT}"):
            await store.writer.run(nothing, 1)
        free = asyncio.create_task(store.writer.run(nothing))
        held.set()
        assert await first, "one alone passes, however long it is"
        await free
        await store.writer.run(nothing, LIMIT)
        assert store.writer.waiting_bytes == 0

    play(scenario)


def test_a_read_sees_one_moment(play: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        looked, written = threading.Event(), threading.Event()

        def twice(connection: apsw.Connection) -> tuple[int, int]:
            before = count("meta")(connection)
            looked.set()
            assert written.wait(30)
            return before, count("meta")(connection)

        reading = asyncio.create_task(store.readers.run(twice))
        await asyncio.get_running_loop().run_in_executor(None, looked.wait, 30)
        await store.writer.run(lambda connection: connection.execute("INSERT INTO meta VALUES ('more', 1)").fetchall())
        written.set()
        before, after = await reading
        assert before == after
        assert await store.readers.run(count("meta")) == before + 1

    play(scenario)


def test_a_large_document_vanishes_at_once_and_its_chunks_in_pieces(play: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        upload = Upload(store.writer, "default", "a.md", 0, Chunker(64, 8))
        await upload.feed(b"".join(b"line %d of the kettle and the shelf it stands on\n" % n for n in range(3000)))
        stored = await upload.finish()
        assert stored.document.chunks > 3 * documents.BATCH
        held = threading.Event()
        store.writer.chore, sweep = (lambda connection: held.is_set() and sweep(connection)), store.writer.chore
        await store.writer.run(lambda connection: documents.remove(connection, "default", "a.md"))
        left = await store.readers.run(count("items"))
        assert left == stored.document.chunks - documents.BATCH
        assert await store.readers.run(count("items WHERE space > 0")) == 0
        assert await store.readers.run(count("documents")) == 0
        held.set()
        while left:
            await store.writer.run(nothing)
            now = await store.readers.run(count("items"))
            assert now <= left
            left = now
        assert await store.readers.run(count("texts")) == 0

    play(scenario)


def test_an_upload_that_is_given_up_after_its_end_stays_whole(play: Callable[[Scenario], None]) -> None:
    async def scenario(store: Store) -> None:
        upload = Upload(store.writer, "default", "a.md", 0, Chunker(64, 8))
        await upload.feed(b"the kettle stands on the shelf\n" * 3000)
        await upload.finish()
        await upload.abandon()
        assert await store.readers.run(count("documents WHERE live")) == 1

    play(scenario)


def test_a_swap_that_cannot_open_what_it_put_in_place_leaves_a_closed_store(tmp_path: Path) -> None:
    newer = tmp_path / "newer.db"
    connection = apsw.Connection(str(newer))
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = 999").fetchall()
    connection.close()

    async def scenario() -> None:
        store = Store(DatabaseConfig(tmp_path / "pinch.db", "FULL", 2, 512, 8 << 20, LIMIT))
        store.open()
        with pytest.raises(StoreUnusable):
            await store.swap(newer)
        assert store.closed
        with pytest.raises(Busy):
            await store.readers.run(nothing)
        await store.close()

    asyncio.run(scenario())


@pytest.mark.parametrize(("synchronous", "level"), [("full", 2), ("off", 0)])
def test_every_setting_of_a_connection_takes_effect(tmp_path: Path, synchronous: str, level: int) -> None:
    connection = connect(DatabaseConfig(tmp_path / "pinch.db", synchronous, 2, 512, 8 << 20, LIMIT))
    wanted = {"synchronous": level, "cache_size": -512, "mmap_size": 0, "trusted_schema": 0, "temp_store": 1}
    assert {name: connection.pragma(name) for name in wanted} == wanted
    connection.close()
