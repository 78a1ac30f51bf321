"""Server-sent events come out the same however the network cuts them, and none is longer than the limit."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.agents.sse import EventStream, EventTooLong

LIMIT = 10_000
ENDS = st.sampled_from([b"\n", b"\r", b"\r\n"])
DATA = st.binary(max_size=30).map(lambda data: data.replace(b"\r", b"").replace(b"\n", b""))
FIELDS = st.one_of(
    DATA.map(lambda data: b"data: " + data),
    DATA.map(lambda data: b"data:" + data),
    st.sampled_from(
        [b"", b"", b"", b": a comment", b"event: x", b"id: 5", b"data", b"datax: 5", b" data: 5", b"retry"]
    ),
)
STREAMS = st.lists(st.tuples(FIELDS, ENDS), max_size=30)


def fed(chunks: Sequence[bytes], limit: int = LIMIT) -> list[bytes]:
    stream = EventStream(limit)
    return [event for chunk in chunks for event in stream.feed(chunk)]


def cut(whole: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({min(place, len(whole)) for place in places})
    return [whole[begin:end] for begin, end in zip([0, *ends], [*ends, len(whole)], strict=True)]


def expected(lines: Sequence[bytes]) -> list[bytes]:
    """Return what WHATWG HTML, section 9.2.6, makes of lines; `data` without a colon is not asked for."""
    events, data = [], []
    for line in lines:
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            events.append(b"\n".join(data))
            data = []
    return events


def lines_of(whole: bytes) -> list[bytes]:
    return whole.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")[:-1]


@settings(deadline=None)
@given(STREAMS, st.lists(st.integers(0, 1500), max_size=40), st.booleans())
def test_the_cuts_of_the_network_and_the_ends_of_lines_make_no_difference(
    parts: list[tuple[bytes, bytes]], places: list[int], marked: bool
) -> None:
    whole = b"".join(field + end for field, end in parts)
    sent = codecs.BOM_UTF8 * marked + whole
    events = fed(cut(sent, places))
    assert events == expected(lines_of(whole))
    assert events == fed([sent[place : place + 1] for place in range(len(sent))]) == fed([sent])


def test_a_return_and_its_feed_in_two_chunks_are_one_end() -> None:
    assert fed([b"data: a\r", b"\ndata: b\r", b"", b"\n\r", b"\n"]) == [b"a\nb"]
    assert fed([b"data: a\r", b"\r", b"data: b\r", b"\n", b"\n"]) == [b"a", b"b"]
    assert fed([b"data: a\r", b"", b"\ndata: b\n\n"]) == [b"a\nb"], "a chunk of nothing changes nothing"


def test_an_event_that_has_not_ended_is_none() -> None:
    assert fed([b"data: a\n\ndata: b\n"]) == [b"a"]
    assert fed([b"data: a\n\ndata: b"]) == [b"a"]


@settings(deadline=None)
@given(st.integers(1, 400), st.integers(0, 6), st.integers(1, 50))
def test_an_event_is_let_through_exactly_up_to_the_limit(size: int, more: int, step: int) -> None:
    line = b"data: " + b"x" * size
    whole = b"\n".join([line] * (1 + more)) + b"\n\n"
    chunks = [whole[place : place + step] for place in range(0, len(whole), step)]
    limit = len(line) * (1 + more)
    assert fed(chunks, limit) == [b"\n".join([b"x" * size] * (1 + more))]
    with pytest.raises(EventTooLong):
        fed(chunks, limit - 1)


@pytest.mark.parametrize("piece", [b"x", b"data: x", b": ", b"data:x\n"])
def test_what_never_ends_is_given_up_at_the_limit(piece: bytes) -> None:
    with pytest.raises(EventTooLong):
        fed([piece] * (2 * LIMIT // len(piece)))


def test_many_events_are_together_longer_than_the_limit() -> None:
    assert len(fed([b"data: " + b"x" * 90 + b"\n\n"] * 1000, 100)) == 1000
