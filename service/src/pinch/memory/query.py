"""What a query asks the full-text index for.

A query is anything a person or an agent types: a question, an identifier, a pasted page, text that
means something to FTS5 (`"`, `*`, `NEAR(`, `AND`). Its words become quoted FTS5 strings, which have no syntax left;
the index tokenises and stems them as it did the stored texts. A word joined by punctuation (`node-fetch`,
`3.13.1`, `O'Brien`) and a phrase in double quotes are also looked for whole, as one more term: rare, hence
heavy, so that what was typed exactly comes first without the rest being lost.

What the index has no words of (Chinese, Thai, emoji) is looked for literally.

`terms` is pure; what the terms cost and find is `pinch.memory.candidates`' business.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

READ_CHARACTERS = 32_768
"""Of a longer query, this much is read; a question is far shorter, a pasted page is not."""
TERM_LIMIT = 32
"""Terms of one query; the first ones count."""
PHRASE_WORDS = 16
"""Words of a phrase at most: FTS5 opens one iterator for each."""
FOREIGN_CHARACTERS = 256
"""Characters at most where only the index can tell how many tokens they are, for the same reason."""
LITERAL_LIMIT = 8
"""Literals of one query: each is a pass over the texts in scope."""
LITERAL_CHARACTERS = 64

_WORD = re.compile(r"(?:[^\W_][\u0300-\u036f]*)+")
"""Runs that unicode61 keeps together: letters, digits and the marks that combine with them."""
_CHUNK = re.compile(rf"(?>{_WORD.pattern})(?:[-_./:@+&=~\\'\u2019]{{1,3}}(?>{_WORD.pattern}))*")
"""A word, or words that punctuation makes one: identifiers, versions, paths, addresses, names."""
_QUOTED = re.compile(r'"([^"]{1,1024})"')
_CLITIC = re.compile(r"(?<=\w)['\u2019](?:s|t|d|m|ll|re|ve)(?!\w)", re.IGNORECASE)
_UNSTORABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What separates words and nothing else: controls, and halves of surrogate pairs, which no UTF-8 has."""
_OPERATORS = frozenset({"AND", "OR", "NOT", "NEAR"})
_LETTERS = frozenset({"I", "A", "O"})
_FOREIGN = re.compile("[^\x00-\xbf\u2000-\u206f\\s]")
"""What the index may keep though it is no letter to `_WORD`: its tables are of Unicode 6.1, and younger emoji or
letters, private use and combining marks are none of its separators."""


_UNSPACED = (
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fff\u3005-\u3007\u3040-\u9fff\uac00-\ud7af\uf900-\ufaff"
    "\U00020000-\U0003ffff]+"
    "|[\u2190-\u2bff\U0001f000-\U0001faff][\u200d\ufe0f\u20e3\u2190-\u2bff\U0001f000-\U0001faff]*"
)
"""Runs that the index has no words of: scripts without spaces (Thai, Lao, Burmese, Khmer, Chinese, Japanese; Korean,
whose particles cling), which it takes for one long word, and symbols, most of which it drops.
Compiled when the first such query comes, not at each start: its ranges are large."""
_CONTENT = re.compile("[^\u3040-\u309f]{2,}")
"""Parts of a Japanese run that bear its sense: what is not hiragana."""


class Query(NamedTuple):
    """A query as recall reads it."""

    terms: tuple[str, ...]
    """Words and phrases to look for, without the quotes that FTS5 wants around them; none contains a quote."""
    literals: tuple[str, ...]
    """What to look for letter by letter, because the index does not know it as a word."""
    words: frozenset[str]
    """Every word of it, in small letters, also those too common to look for."""


@cache
def stop_words() -> frozenset[str]:
    """Return the words that say nothing about a text's subject, in small letters."""
    listed = Path(__file__).with_name("stopwords.txt").read_text("utf-8")
    return frozenset(word for line in listed.splitlines() if not line.startswith("#") for word in line.split())


def quoted(term: str) -> str:
    """Return a term as an FTS5 string."""
    return f'"{term}"'


def terms(text: str) -> tuple[str, ...]:
    """Return what to look for, each good for `quoted`; empty where the query has no word."""
    return read(text).terms


def read(text: str) -> Query:
    """Read a query; never fails, whatever the text.

    Stop words are left out unless the query has nothing else; one typed in capitals among small letters stays.
    """
    clean = _CLITIC.sub(" ", _UNSTORABLE.sub(" ", text[:READ_CHARACTERS]))
    chunks = [(chunk, _WORD.findall(chunk)) for chunk in _CHUNK.findall(clean)]
    every = [word for _, words in chunks for word in words]
    loud = not any(character.islower() for character in clean)
    kept = [word for word in every if not _common(word, loud=loud)] or every
    whole = [" ".join(words) for words in map(_WORD.findall, _QUOTED.findall(clean)) if _phrase(words)]
    whole += [chunk for chunk, words in chunks if _phrase(words)]
    whole += _foreign(clean)
    found = [word for word in kept if word.isascii() or len(word) <= FOREIGN_CHARACTERS]
    return Query(
        terms=_distinct([*whole[: TERM_LIMIT // 2], *found]),
        literals=_literals(clean),
        words=frozenset(word.casefold() for word in every),
    )


def _phrase(words: list[str]) -> bool:
    return 1 < len(words) <= PHRASE_WORDS


def _common(word: str, *, loud: bool) -> bool:
    if word.isupper() and not loud and word not in _OPERATORS and word not in _LETTERS:
        return False
    return word.casefold() in stop_words()


def _foreign(clean: str) -> list[str]:
    """Return what stands between spaces and is more to the index than to `_WORD`."""
    if clean.isascii():
        return []
    return [
        chunk
        for chunk in clean.replace('"', " ").split()
        if len(chunk) <= FOREIGN_CHARACTERS and not chunk.isascii() and _FOREIGN.search(_WORD.sub("", chunk))
    ]


def _literals(clean: str) -> tuple[str, ...]:
    if clean.isascii():
        return ()
    runs = [run for run in re.findall(_UNSPACED, clean) if len(run) <= LITERAL_CHARACTERS]
    return _distinct([part for run in runs for part in (run, *_CONTENT.findall(run))])[:LITERAL_LIMIT]


def _distinct(found: list[str]) -> tuple[str, ...]:
    distinct: dict[str, str] = {}
    for term in found:
        distinct.setdefault(term.casefold(), term)
    return tuple(distinct.values())[:TERM_LIMIT]
