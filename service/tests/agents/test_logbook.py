"""The last lines of the log: a reader with a cursor misses none and gets none twice, and memory is bounded."""

from __future__ import annotations

import logging
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.logbook import LIMIT_BYTES, LINE_CHARACTERS, Logbook

MANY = 10**9
TEXTS = st.text(max_size=40) | st.sampled_from(["größer", "🫖" * 1500, "half \ud83d", "x" * 3000, ""])


def logbook(*lines: str) -> Logbook:
    book = Logbook()
    write(book, *lines)
    return book


def write(book: Logbook, *lines: str) -> None:
    for line in lines:
        book.handle(logging.LogRecord("test", logging.INFO, "", 0, line, None, None))


def held(line: str) -> str:
    return line[:LINE_CHARACTERS]


@settings(deadline=None)
@given(st.lists(TEXTS, max_size=12), st.integers(1, 5), st.integers(1, 300))
def test_a_reader_with_a_cursor_gets_each_line_once(lines: list[str], limit: int, max_bytes: int) -> None:
    book = logbook(*lines[: len(lines) // 2])
    found, cursor = [], 0
    for more in ((), lines[len(lines) // 2 :]):
        write(book, *more)
        while (tail := book.tail(cursor, limit, max_bytes)).lines:
            assert len(tail.lines) <= limit
            size = sum(len(line.encode("utf-8", "replace")) + 1 for line in tail.lines)
            assert size <= max_bytes or len(tail.lines) == 1, "a line that is too long comes alone"
            assert not tail.truncated
            assert not tail.reset
            assert tail.cursor > cursor
            found += tail.lines
            cursor = tail.cursor
        assert tail.cursor == tail.size == cursor
    assert found == [held(line) for line in lines]


@settings(deadline=None)
@given(st.lists(TEXTS, min_size=1, max_size=12), st.integers(1, 12), st.integers(1, 3000))
def test_without_a_cursor_the_last_lines_come(lines: list[str], limit: int, max_bytes: int) -> None:
    book = logbook(*lines)
    tail = book.tail(None, limit, max_bytes)
    assert tail.lines == [held(line) for line in lines[-len(tail.lines) :]]
    assert 1 <= len(tail.lines) <= limit
    assert tail.truncated == (len(tail.lines) < len(lines))
    assert tail.cursor == tail.size
    assert not tail.reset
    assert book.tail(tail.cursor, limit, max_bytes).lines == []
    if len(tail.lines) < min(limit, len(lines)):
        size = sum(len(held(line).encode("utf-8", "replace")) + 1 for line in lines[-len(tail.lines) - 1 :])
        assert size > max_bytes, "one more would have fitted"


def test_what_is_held_is_bounded_and_a_reader_that_is_late_is_told() -> None:
    book = logbook("the first")
    cursor = book.tail(None, 1, MANY).cursor
    write(book, *(f"line {number} {'🫖' * 100}" for number in range(1000)))
    tail = book.tail(None, 5000, MANY)
    assert sum(len(line.encode()) + 1 for line in tail.lines) <= LIMIT_BYTES
    assert len(tail.lines) > 50
    late = book.tail(cursor, 5000, MANY)
    assert late.reset
    assert late.lines == tail.lines


@pytest.mark.parametrize("cursor", [1, 10**12])
def test_a_cursor_that_was_never_given_resets(cursor: int) -> None:
    book = logbook(*("x" * 900 for _ in range(100)))
    tail = book.tail(cursor, 2, MANY)
    assert tail.reset
    assert tail.lines == ["x" * 900] * 2
    assert tail.cursor == tail.size


def test_an_empty_book_has_nothing() -> None:
    assert logbook().tail(None, 10, 100) == (0, 0, [], False, False)
    assert logbook().tail(0, 10, 100) == (0, 0, [], False, False)


def test_a_line_that_cannot_be_formatted_does_not_stop_who_writes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)  # or the fault is printed
    log = logging.Logger("test")
    book = Logbook()
    log.addHandler(book)
    log.warning("%d is no number", "one")
    log.warning("the next")
    assert book.tail(None, 10, 1000).lines == ["the next"]


def test_lines_of_many_threads_all_come() -> None:
    book = Logbook()
    begin = threading.Barrier(4)

    def shout(name: int) -> None:
        begin.wait()
        write(book, *(f"{name} {number}" for number in range(500)))

    threads = [threading.Thread(target=shout, args=(name,)) for name in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = book.tail(None, 5000, MANY).lines
    for name in range(4):
        assert [line for line in lines if line.startswith(f"{name} ")] == [f"{name} {n}" for n in range(500)]
