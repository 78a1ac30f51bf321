"""A session's file survives a cut at any byte and an editor: whole lines stay, the rest is told and never lost."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.agents import journal
from pinch.agents.journal import Changed, Contents, Entry, Head

LIMIT = 128 * 1024
HEAD = Head("main", "an-id", 1_790_000_000_000)
AT = 1_790_000_000_123
TEXTS = st.text(max_size=60) | st.sampled_from(["größer", "水壺 🫖", "a\nb\r\nc", "\u2028\x85\x00", '"\\', "\ufeff"])
CALLS = st.lists(st.fixed_dictionaries({"id": TEXTS, "name": TEXTS, "arguments": TEXTS}), max_size=3)
MORE: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "user": st.just({}),
    "assistant": st.just({}) | st.fixed_dictionaries({"calls": CALLS}),
    "tool": st.fixed_dictionaries({"call": TEXTS, "name": TEXTS}),
    "resumed": st.just({}),
    "end": st.fixed_dictionaries({"state": TEXTS}, optional={"stop": TEXTS, "error": TEXTS}),
}
ENTRIES = st.sampled_from(sorted(MORE)).flatmap(
    lambda kind: st.builds(Entry, st.just(kind), TEXTS, st.integers(0, 4_000_000_000_000), TEXTS, MORE[kind])
)


def said(number: int, text: str = "the kettle") -> Entry:
    return Entry("user", f"run-{number}", AT + number, text)


def load(path: Path, limit: int = LIMIT) -> Contents:
    return journal.load(path, "main", limit)


def add(path: Path, contents: Contents, *entries: Entry) -> None:
    journal.append(path, contents.whole_bytes, contents.stamp, entries)


def edited(path: Path, *lines: str) -> Path:
    """Make a file as an editor would leave it."""
    path.write_text("".join(lines), "utf-8", newline="")
    return path


def line(number: int, text: str = "the kettle", end: str = "\n") -> str:
    return journal.entry_line(said(number, text)).decode()[:-1] + end


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "main.jsonl"


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(ENTRIES, min_size=1, max_size=3), max_size=5))
def test_what_was_appended_is_what_is_read(groups: list[list[Entry]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main.jsonl"
        stamp = journal.create(path, HEAD)
        for group in groups:
            stamp = journal.append(path, stamp.bytes, stamp, group)
        contents = load(path)
        assert contents.head == HEAD
        assert contents.entries == [entry for group in groups for entry in group]
        assert contents.stamp == stamp
        assert (contents.whole_bytes, contents.torn_bytes, contents.unread) == (stamp.bytes, 0, b"")
        journal.rewrite(path, HEAD, contents.entries)
        assert load(path).entries == contents.entries


@settings(deadline=None, max_examples=60)
@given(st.lists(ENTRIES, min_size=1, max_size=5), st.data())
def test_a_cut_at_any_byte_leaves_every_whole_line(entries: list[Entry], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main.jsonl"
        journal.create(path, HEAD)
        add(path, load(path), *entries)
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:cut])
        lines = whole[:cut].split(b"\n")
        rest = lines.pop()
        complete = [journal.entry_line(entry)[:-1] for entry in entries]
        # A line of which only the end is missing says all there is to say.
        expected = entries[: max(0, len(lines) - 1)] + (
            entries[len(lines) - 1 : len(lines)] if rest in complete else []
        )
        contents = load(path)
        assert contents.entries == expected
        assert contents.unread == b""
        ends_whole = not rest or rest in complete or rest == whole.split(b"\n")[0]
        assert contents.torn_bytes == (0 if ends_whole else len(rest))
        add(path, contents, said(99), said(100))
        after = load(path)
        assert after.entries == [*expected, said(99), said(100)]
        assert (after.torn_bytes, after.unread) == (0, b"")
        assert after.head.key == "main"


@settings(deadline=None, max_examples=60)
@given(
    st.binary(max_size=4000)
    | st.lists(st.sampled_from([b"\n", b"\r", b"{", b"\0", b"[[", b'"']), max_size=50).map(b"".join)
)
def test_binary_garbage_is_set_aside_and_the_session_goes_on(garbage: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main.jsonl"
        path.write_bytes(garbage)
        contents = load(path)
        assert contents.entries == []
        add(path, contents, said(1))
        after = load(path)
        assert after.entries == [said(1)]
        whole = [part for part in garbage.split(b"\n")[:-1] if part.strip()]
        assert after.unread == b"".join(part + b"\n" for part in whole)


@pytest.mark.parametrize(
    "wrong",
    [
        "kettle",
        "{}",
        "[]",
        "5",
        "null",
        '"text"',
        '{"type": "user", "run": "a", "at": "2026-01-01T00:00:00Z"}',
        '{"type": "user", "run": 5, "at": "2026-01-01T00:00:00Z", "text": ""}',
        '{"type": "user", "run": "a", "at": "2026-01-01T00:00:00", "text": "no zone"}',
        '{"type": "user", "run": "a", "at": "yesterday", "text": ""}',
        '{"type": "user", "run": "a", "at": 5, "text": ""}',
        '{"type": "user", "run": "a", "at": "9999-12-31T23:59:59.9999999Z", "text": "rounds past the calendar"}',
        '{"type": "user", "run": "a", "at": "0001-01-01T00:00:00+14:00", "text": "before the calendar"}',
        '{"type": "shout", "run": "a", "at": "2026-01-01T00:00:00Z", "text": ""}',
        '{"type": ["user"], "run": "a", "at": "2026-01-01T00:00:00Z", "text": ""}',
        '{"type": "tool", "run": "a", "at": "2026-01-01T00:00:00Z", "text": "", "call": 5, "name": "x"}',
        '{"type": "end", "run": "a", "at": "2026-01-01T00:00:00Z", "text": ""}',
        '{"type": "end", "run": "a", "at": "2026-01-01T00:00:00Z", "text": "", "state": "final", "stop": NaN}',
        '{"type": "assistant", "run": "a", "at": "2026-01-01T00:00:00Z", "text": "", "calls": [{"id": "x"}]}',
        '{"type": "assistant", "run": "a", "at": "2026-01-01T00:00:00Z", "text": "", "calls": "x"}',
        '{"type": "session", "at": "2026-01-01T00:00:00Z"}',
        "[" * 100_000,
        '{"at": ' + "9" * 5000 + "}",
    ],
)
def test_a_line_that_is_no_entry_is_skipped_and_kept_aside(path: Path, wrong: str) -> None:
    journal.create(path, HEAD)
    add(path, load(path), said(1))
    with path.open("a", encoding="utf-8") as file:
        file.write(wrong + "\n" + line(2))
    contents = load(path)
    assert contents.entries == [said(1), said(2)]
    assert contents.unread == wrong.encode() + b"\n"
    assert journal.set_aside(path, contents.unread).read_bytes() == contents.unread
    journal.rewrite(path, contents.head, contents.entries)
    assert load(path).entries == contents.entries


def test_editors_leave_carriage_returns_marks_blank_lines_and_open_ends(path: Path) -> None:
    edited(path, "\ufeff", line(1, end="\r\n"), "\r\n", "  \n", line(2, end="\r\n"), line(3, end=""))
    contents = load(path)
    assert contents.entries == [said(1), said(2), said(3)]
    assert (contents.torn_bytes, contents.unread) == (0, b"")
    assert contents.stamp == journal.stamp_of(path)
    add(path, contents, said(4))
    assert load(path).entries == [said(1), said(2), said(3), said(4)]


def test_an_open_last_line_that_is_no_entry_is_torn_and_gone_with_the_next_one(path: Path) -> None:
    edited(path, line(1), line(2)[:-9])
    contents = load(path)
    assert contents.entries == [said(1)]
    assert contents.torn_bytes == len(line(2)) - 9
    assert path.read_bytes().endswith(line(2)[:-9].encode()), "reading alone changes nothing"
    add(path, contents, said(3))
    assert path.read_bytes().decode() == line(1) + line(3)


def test_lone_surrogates_do_not_come_in(path: Path) -> None:
    edited(path, json.dumps({"type": "user", "run": "a", "at": "2026-01-01T00:00:00Z", "text": "half \ud83d"}) + "\n")
    (entry,) = load(path).entries
    assert entry.text == "half ?"


@pytest.mark.parametrize("key", ["other", "../../etc/passwd", "", "index"])
def test_the_name_of_the_file_counts_not_the_key_in_it(path: Path, key: str) -> None:
    journal.create(path, HEAD._replace(key=key))
    assert load(path).head == HEAD


def test_a_file_without_a_head_has_the_same_one_each_time(path: Path) -> None:
    edited(path, line(1))
    assert load(path).head == load(path).head
    assert load(path).head.created_at == AT + 1
    other = edited(path.with_name("other.jsonl"), line(1))
    assert journal.load(other, "other", LIMIT).head.id != load(path).head.id


def test_of_two_heads_the_first_counts(path: Path) -> None:
    journal.create(path, HEAD)
    second = path.with_name("second.jsonl")
    journal.create(second, HEAD._replace(id="another"))
    path.write_bytes(path.read_bytes() + second.read_bytes())
    contents = load(path)
    assert contents.head == HEAD
    assert contents.unread == second.read_bytes()


def test_of_a_hundred_megabytes_the_end_is_read_and_nothing_is_lost(path: Path) -> None:
    many = 100 * 2**20 // len(line(1, "x" * 1000)) + 1
    path.write_bytes(line(1, "x" * 1000).encode() * many + line(2).encode())
    size = path.stat().st_size
    assert size > 100 * 2**20
    contents = load(path)
    assert contents.entries[-1] == said(2)
    assert contents.skipped_bytes > size - 5 * LIMIT
    assert sum(len(journal.entry_line(entry)) for entry in contents.entries) == size - contents.skipped_bytes
    add(path, contents, said(3))
    assert load(path).entries[-2:] == [said(2), said(3)]
    aside = journal.set_aside(path, b"the last\n", contents.skipped_bytes)
    assert aside.stat().st_size == contents.skipped_bytes + 9
    assert aside.read_bytes() == path.read_bytes()[: contents.skipped_bytes] + b"the last\n"


@pytest.mark.parametrize("end", ["", "\n"])
def test_a_line_longer_than_all_that_is_read_is_left_and_the_next_one_whole(path: Path, end: str) -> None:
    edited(path, line(1), "x" * 50_000, end)
    before = path.read_bytes()
    contents = load(path, 1000)
    assert contents.entries == []
    assert contents.skipped_bytes >= len(before)
    add(path, contents, said(2))
    assert load(path, 1000).entries == [said(2)]
    assert path.read_bytes() == before.rstrip(b"\n") + b"\n" + line(2).encode()
    size = path.stat().st_size
    load(path, 1000)
    assert path.stat().st_size == size, "reading does not make it longer each time"


@pytest.mark.parametrize(
    "what", ["grown", "truncated", "replaced", "replaced by one as long", "changed in place", "removed"]
)
def test_a_file_that_somebody_else_changed_is_not_written_over(path: Path, what: str) -> None:
    journal.create(path, HEAD)
    add(path, load(path), said(1))
    contents = load(path)
    theirs = path.read_bytes()
    if what == "grown":
        theirs += line(2).encode()
    elif what == "truncated":
        theirs = theirs[: -len(line(1))]
    else:
        theirs = theirs.replace(b"kettle", b"teapot")
    if what.startswith("replaced"):
        theirs += line(2).encode() if what == "replaced" else b""
        other = path.with_name("other")
        other.write_bytes(theirs)
        os.utime(other, ns=(0, path.stat().st_mtime_ns))
        other.rename(path)
    elif what == "removed":
        path.unlink()
    else:
        path.write_bytes(theirs)
        os.utime(path, ns=(0, contents.stamp.changed_ns + 1))
    with pytest.raises(Changed):
        add(path, contents, said(3))
    if what == "removed":
        assert not path.exists()
        return
    assert path.read_bytes() == theirs
    add(path, load(path), said(3))
    assert path.read_bytes() == theirs + line(3).encode()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=6))
def test_a_stamp_is_another_after_each_write(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "main.jsonl"
        stamps = [journal.create(path, HEAD)]
        for number, size in enumerate(sizes):
            stamps.append(journal.append(path, stamps[-1].bytes, stamps[-1], [said(number, "x" * size)]))
            assert journal.stamp_of(path) == stamps[-1]
        assert len(set(stamps)) == len(stamps)
