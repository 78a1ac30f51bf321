"""Text as a terminal shows it: widths, wrapping, safe characters, sizes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters, direction overrides and lone surrogates: what could move a cursor, recolour a
terminal or show text in another order than it is stored."""
WORD = re.compile(r"\w+")


def safe(text: str) -> str:
    """Return `text` with every character that could command a terminal written out as its code."""
    return _UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text.replace("\r\n", "\n"))


def one_line(text: str) -> str:
    """Return `text` safe and on one line: for names, paths and sources."""
    return safe(text).replace("\n", "\\n").replace("\t", "\\t")


def width(text: str) -> int:
    """Return the columns `text` takes: wide East Asian characters two, combining marks none."""
    columns = 0
    for character in text:
        if unicodedata.combining(character):
            continue
        columns += 2 if unicodedata.east_asian_width(character) in "WF" else 1
    return columns


def pad(text: str, columns: int, *, right: bool = False) -> str:
    """Return `text` filled with blanks to `columns`, on its left if it is aligned right."""
    blanks = " " * max(0, columns - width(text))
    return blanks + text if right else text + blanks


def wrap(text: str, columns: int) -> list[str]:
    """Break `text` into lines of at most `columns`, at blanks; its own line breaks and indents stay."""
    lines = []
    for raw in text.expandtabs(4).splitlines():
        line = raw.rstrip()
        indent = line[: len(line) - len(line.lstrip())][: columns // 2]
        current = indent
        for word in line.split():
            candidate = f"{current} {word}" if current != indent else indent + word
            if current != indent and width(candidate) > columns:
                lines.append(current)
                candidate = indent + word
            current = candidate
        lines.append(current.rstrip())
    return lines


def fold(text: str) -> str:
    """Return `text` without case and diacritics, as the search compares words."""
    decomposed = unicodedata.normalize("NFD", text.casefold())
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def same_word(word: str, term: str) -> bool:
    """Whether the folded `word` is the folded `term` or shares its stem, near enough to point it out."""
    short, long = sorted((word, term), key=len)
    return word == term or (len(short) >= 4 and long.startswith(short))


def size(count: int | None) -> str:
    """Return bytes as people read them; MB means MiB, as everywhere in Pinch."""
    if count is None:
        return "–"
    if abs(count) < 1024:
        return f"{count} B"
    if abs(count) < 1024 * 1024:
        return f"{count / 1024:.1f} KB"
    if abs(count) < 1024**3:
        return f"{count / 1024**2:.1f} MB"
    return f"{count / 1024**3:.2f} GB"


def table(rows: Sequence[Sequence[str]], right: frozenset[int] = frozenset()) -> list[str]:
    """Return `rows` as aligned lines; the columns in `right` are aligned right."""
    columns = [max(width(row[index]) for row in rows) for index in range(len(rows[0]))]
    return [
        "  ".join(pad(cell, columns[index], right=index in right) for index, cell in enumerate(row)).rstrip()
        for row in rows
    ]
