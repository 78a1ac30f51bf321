"""Cutting a document into chunks as it streams past, in constant memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

WORD = re.compile(r"[^\W_]+|[^\s]")
WORD_PIECE = 6
"""Letters that one piece of a sub-word vocabulary covers on average in English prose."""
IDEOGRAPHS = r"[\u2e80-\u9fff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff]"
"""Compiled when the first such text comes, not at each start: its ranges are large."""
LINE_LIMIT = 2048
"""Characters after which a line is cut, at a space where there is one."""
CHARACTERS_OF_A_TOKEN = 32
"""A line counts a token for each so many characters, and one at least: gaps take memory too."""
SECTION_SHARE = 4
"""A heading begins a new chunk once the current one holds a quarter of its length."""

HEADING = re.compile(r" {0,3}#{1,6}(\s|$)")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def estimate_tokens(text: str) -> int:
    """Estimate how many sub-word tokens `text` makes, without a tokenizer.

    Every tier must cut at the same places, and the smallest has no tokenizer: a word counts one
    token for each six letters begun, a sign one, an ideograph one.
    """
    total = 0
    for word in WORD.findall(text):
        ideographs = len(re.findall(IDEOGRAPHS, word)) if not word.isascii() else 0
        total += ideographs + -(-(len(word) - ideographs) // WORD_PIECE)
    return total


class Chunk(NamedTuple):
    """A piece of a document; lines count from 1 and include both ends."""

    text: str
    line_first: int
    line_last: int


class _Line(NamedTuple):
    text: str
    number: int
    tokens: int
    in_fence: bool
    """Whether a cut after this line would fall inside a code fence."""

    @property
    def blank(self) -> bool:
        return not self.text.strip()


class Chunker:
    """Feed it text, take chunks; it holds about one chunk and one line, whatever the size of the document.

    Args:
        tokens: length of a chunk, estimated tokens.
        overlap: tokens at a chunk's end that the next one repeats word for word, whole lines only.
    """

    def __init__(self, tokens: int, overlap: int) -> None:
        self.tokens = tokens
        self.overlap = overlap
        self._rest = ""
        self._lines: list[_Line] = []
        self._size = 0
        self._fresh = False
        """Whether `_lines` holds a line that no chunk has yet."""
        self._known = 0
        """Lines at the beginning of `_lines` that the last chunk has already."""
        self._number = 1
        self._within_line = False
        """Whether the next piece goes on with a line that was too long to be one."""
        self._fence = ""

    def feed(self, text: str) -> Iterator[Chunk]:
        """Take more of the document; yield the chunks that are complete."""
        rest = self._rest + text
        start = 0
        while True:
            end = rest.find("\n", start, start + LINE_LIMIT)
            if end >= 0:
                stop, ended = end + 1, True
            elif len(rest) - start >= LINE_LIMIT:
                stop, ended = (
                    rest.rfind(" ", start + LINE_LIMIT // 2, start + LINE_LIMIT) + 1 or start + LINE_LIMIT,
                    False,
                )
            else:
                break
            yield from self._take(rest[start:stop], ended)
            start = stop
        self._rest = rest[start:]

    def finish(self) -> Iterator[Chunk]:
        """Yield what is left when the document has ended."""
        if self._rest:
            rest, self._rest = self._rest, ""
            yield from self._take(rest, ended=True)
        if self._fresh:
            yield from self._emit(len(self._lines))

    def _take(self, text: str, ended: bool) -> Iterator[Chunk]:
        if not self._within_line:
            self._follow_fence(text)
        tokens = max(1, len(text) // CHARACTERS_OF_A_TOKEN, estimate_tokens(text))
        line = _Line(text, self._number, tokens, bool(self._fence))
        starts_section = not self._fence and not self._within_line and HEADING.match(text) is not None
        self._within_line = not ended
        if starts_section and self._fresh and self._size * SECTION_SHARE >= self.tokens:
            yield from self._emit(len(self._lines))
            self._lines, self._size, self._known = [], 0, 0
        while self._fresh and self._size + line.tokens > self.tokens:
            yield from self._emit(self._cut())
        self._lines.append(line)
        self._size += line.tokens
        self._fresh = True
        if ended:
            self._number += 1

    def _follow_fence(self, text: str) -> None:
        mark = FENCE.match(text)
        if mark is None:
            return
        if not self._fence:
            self._fence = mark.group(1)
        elif mark.group(1).startswith(self._fence) and not text[mark.end() :].strip():
            self._fence = ""

    def _cut(self) -> int:
        """Return how many lines the chunk takes: up to a blank line outside code, if one is in its last half."""
        seen = 0
        for count in range(len(self._lines), self._known, -1):
            line = self._lines[count - 1]
            if seen * 2 > self._size:
                break
            if line.blank and not line.in_fence:
                return count
            seen += line.tokens
        return len(self._lines)

    def _emit(self, count: int) -> Iterator[Chunk]:
        """Yield the first `count` lines as a chunk; keep the rest, and before it the overlap."""
        taken = self._lines[:count]
        text = "".join(line.text for line in taken).rstrip()
        if text:
            yield Chunk(text, taken[0].number, taken[-1].number)
        keep, size = count, 0
        while keep > 1 and size + self._lines[keep - 1].tokens <= self.overlap:
            keep -= 1
            size += self._lines[keep].tokens
        self._fresh = count < len(self._lines)
        self._known = count - keep
        self._lines = self._lines[keep:]
        self._size = sum(line.tokens for line in self._lines)
