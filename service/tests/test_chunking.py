"""Chunks of a document: nothing lost, lines right, overlap verbatim, memory constant, whatever is fed."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pinch.memory.chunking import LINE_LIMIT, Chunk, Chunker, estimate_tokens

WORDS = st.sampled_from(
    ["kettle", "a", "über", "水", "🫖", "don't", "internationalisation", "x_y", "##", "---", "\t", " "]
)
LINES = st.one_of(
    st.lists(WORDS, max_size=12).map(" ".join),
    st.sampled_from(["", "", "# Heading", "### Third\r", "```python", "```", "~~~", "    code", "#no heading"]),
)
DOCUMENTS = st.lists(LINES, max_size=120).map("\n".join)
SIZES = st.tuples(st.integers(32, 120), st.integers(0, 16))


def cut(text: str, tokens: int = 60, overlap: int = 12, pieces: list[int] | None = None) -> list[Chunk]:
    chunker = Chunker(tokens, overlap)
    found: list[Chunk] = []
    start = 0
    for piece in pieces or []:
        found += chunker.feed(text[start : start + piece])
        start += piece
    found += chunker.feed(text[start:])
    return found + list(chunker.finish())


@given(DOCUMENTS, SIZES)
def test_a_chunk_is_its_lines_word_for_word(text: str, sizes: tuple[int, int]) -> None:
    lines = text.split("\n")
    for chunk in cut(text, *sizes):
        assert chunk.text == "\n".join(lines[chunk.line_first - 1 : chunk.line_last]).rstrip()
        assert chunk.text.strip()


WITH_A_BLANK_LINE_IN_WHAT_IS_SHARED = "\n".join(["", "kettle " * 10, "", "kettle " * 11, "kettle " * 11])


@given(DOCUMENTS, SIZES)
@example(WITH_A_BLANK_LINE_IN_WHAT_IS_SHARED, (32, 11))
def test_no_line_is_lost_and_chunks_go_forward(text: str, sizes: tuple[int, int]) -> None:
    chunks = cut(text, *sizes)
    covered = {number for chunk in chunks for number in range(chunk.line_first, chunk.line_last + 1)}
    for number, line in enumerate(text.split("\n"), 1):
        assert number in covered or not line.strip(), f"line {number} is in no chunk"
    for before, after in pairwise(chunks):
        assert before.line_first <= after.line_first
        assert before.line_last < after.line_last, "a chunk holds nothing new"


@given(DOCUMENTS, SIZES)
def test_what_chunks_share_is_no_more_than_the_overlap(text: str, sizes: tuple[int, int]) -> None:
    lines = text.split("\n")
    for before, after in pairwise(cut(text, *sizes)):
        shared = lines[after.line_first - 1 : before.line_last]
        assert sum(estimate_tokens(line) for line in shared) <= sizes[1]


@given(st.text(), st.lists(st.integers(0, 40), max_size=30))
def test_the_chunks_do_not_depend_on_the_pieces_that_arrive(text: str, pieces: list[int]) -> None:
    assert cut(text, 32, 8, pieces) == cut(text, 32, 8)


@settings(max_examples=30)
@given(st.lists(st.integers(1, 3 * LINE_LIMIT), max_size=8), st.sampled_from(["ab ", "水", "\u00e9", "x", "```", "# "]))
def test_very_long_lines_are_cut_and_kept_whole(lengths: list[int], sign: str) -> None:
    text = "\n".join((sign * length)[:length] for length in lengths)
    chunks = cut(text, 100, 0)
    joined = "".join(chunk.text for chunk in chunks)
    assert "".join(joined.split()) == "".join(text.split())
    assert all(1 <= chunk.line_first <= chunk.line_last <= len(lengths) for chunk in chunks)
    assert cut(text, 100, 0, [LINE_LIMIT - 1, 1, 1, LINE_LIMIT]) == chunks


def test_a_heading_begins_a_chunk_once_the_one_before_has_some_length() -> None:
    text = "# One\n" + "word " * 30 + "\n\n# Two\n" + "word " * 20
    first, second = cut(text, 60, 12)
    assert first.text.startswith("# One")
    assert second.text.startswith("# Two")
    assert second.line_first == 4


def test_a_cut_falls_between_paragraphs() -> None:
    paragraph = "first\n" + "word\n" * 8 + "last"
    chunks = cut("\n\n".join([paragraph] * 12), 64, 0)
    assert len(chunks) > 1
    assert all(chunk.text.startswith("first") and chunk.text.endswith("last") for chunk in chunks)


def test_a_mark_in_the_middle_of_an_endless_line_is_no_heading_and_no_fence() -> None:
    line = ("x" * (LINE_LIMIT // 2) + " ") * 2
    whole = cut(line + "# no heading " + line + "``` no fence " + line + "\n" + "plain " * 30 + "\n# Heading\n", 60, 0)
    assert whole[-1].text == "# Heading"


def test_a_code_fence_is_not_cut_where_a_paragraph_end_is_near() -> None:
    fence = "```python\nfirst = 1\n\nsecond = 2\n```"
    chunks = cut("word " * 45 + "\n\n" + fence + "\n\n" + "word " * 30, 60, 0)
    assert any(fence in chunk.text for chunk in chunks), [chunk.text for chunk in chunks]


@pytest.mark.parametrize("mark", ["# not a heading", "## neither"])
def test_a_comment_in_code_is_no_heading(mark: str) -> None:
    text = "```sh\n" + "echo one two three\n" * 8 + mark + "\n" + "echo four\n" * 3 + "```"
    assert len(cut(text, 400, 0)) == 1


@pytest.mark.parametrize(
    "unit",
    ["word " * 12 + "\n", "\n", " \n", "x", "水", "# h\n", "```\n", "\t"],
    ids=["prose", "blank lines", "spaces", "one endless word", "ideographs", "headings", "fences", "one endless gap"],
)
def test_memory_is_constant_whatever_the_size(unit: str) -> None:
    def peak(length: int) -> int:
        chunker = Chunker(400, 80)
        piece = (unit * (32 * 1024 // len(unit) + 1))[: 32 * 1024]
        tracemalloc.start()
        for _ in range(length // len(piece)):
            for _ in chunker.feed(piece):
                pass
        for _ in chunker.finish():
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(256 * 1024) < peak(96 * 1024) + 64 * 1024


@given(st.text())
def test_an_estimate_is_never_less_than_the_words(text: str) -> None:
    assert estimate_tokens(text) >= len(text.split())
    assert estimate_tokens(text + " word") == estimate_tokens(text) + 1
