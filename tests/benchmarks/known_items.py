"""`python -m tests.benchmarks.known_items`: does recall find a passage of a document that is known to be there?

Over the chunks of the corpus, by words alone: a heading that only one chunk has, and five words out of a sentence.
Figures are the share of queries whose chunk is first, and among the first ten. The last rows add a share of the
neighbouring chunks' scores, as the ranking does for turns: documents lose by it.
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Callable, Sequence

import apsw
from attrs import frozen
from pinch.memory import candidates, query
from pinch.memory.candidates import Scope
from pinch.memory.ranking import Weights, rank

from tests.corpus.snapshot import build

SAMPLE = 300
WORDS = 5
SEED = 1
DEPTH = 50

_HEADING = re.compile(r"^#{1,4} +(.{8,80})$", re.MULTILINE)
_SENTENCE = re.compile(r"(?<=[.!?])\s+")

Order = Callable[[str], list[int]]


@frozen
class Known:
    """A query and the only chunk that it was taken from."""

    query: str
    item: int


def headings(texts: Sequence[tuple[int, str]], chance: random.Random) -> list[Known]:
    """Return headings that stand once in the corpus."""
    seen = Counter(heading for _, text in texts for heading in _HEADING.findall(text))
    found = [
        Known(heading, item)
        for item, text in texts
        for heading in _HEADING.findall(text)
        if seen[heading] == 1 and len(query.terms(heading)) > 1
    ]
    return chance.sample(found, min(SAMPLE, len(found)))


def sentences(texts: Sequence[tuple[int, str]], chance: random.Random) -> list[Known]:
    """Return a few words each of a sentence, out of their order."""
    found: list[Known] = []
    for item, text in chance.sample(texts, len(texts)):
        fit = [part for part in _SENTENCE.split(text) if part[:1].isalpha() and 8 <= len(query.terms(part)) <= 20]
        if fit:
            words = list(query.terms(chance.choice(fit)))
            found.append(Known(" ".join(chance.sample(words, WORDS)), item))
        if len(found) == SAMPLE:
            break
    return found


def bare(connection: apsw.Connection) -> Order:
    """Return FTS5's own order."""

    def order(text: str) -> list[int]:
        match = " OR ".join(query.quoted(term) for term in query.terms(text))
        sql = "SELECT rowid FROM items_fts WHERE items_fts MATCH ? ORDER BY rank LIMIT ?"
        return [item for (item,) in connection.execute(sql, (match, DEPTH))]

    return order


def product(connection: apsw.Connection, *, around: float = 0.0) -> Order:
    """Return the product's order, with a share of the neighbouring chunks' scores added where asked for."""

    def order(text: str) -> list[int]:
        asked = query.read(text)
        found = candidates.gather(connection, asked, Scope())
        standing = {(place.document, place.seq): place.item for place in found.places}
        keyword = dict(found.keyword)
        for place in found.places if around else ():
            beside = [standing.get((place.document, place.seq + offset)) for offset in (-1, 1)]
            keyword[place.item] += around * sum(found.keyword[item] for item in beside if item is not None)
        return [one.item for one in rank(found.places, keyword, {}, asked.words, Weights())]

    return order


def main() -> int:
    """Print the figures."""
    corpus = build(semantic=False)
    connection = apsw.Connection(str(corpus.snapshot), flags=apsw.SQLITE_OPEN_READONLY)
    texts = [(int(str(item)), str(text)) for item, text in connection.execute("SELECT id, text FROM texts ORDER BY id")]
    chance = random.Random(SEED)
    sets = {"heading": headings(texts, chance), f"{WORDS} words of a sentence": sentences(texts, chance)}
    orders = {
        "FTS5": bare(connection),
        "product": product(connection),
        "product, neighbours 0.25": product(connection, around=0.25),
        "product, neighbours 0.5": product(connection, around=0.5),
    }
    print(f"{len(texts)} chunks")
    print("| order | " + " | ".join(f"{name}: first | first ten" for name in sets) + " |")
    print("|---|" + "---:|" * (2 * len(sets)))
    for name, order in orders.items():
        cells = []
        for known in sets.values():
            places = [(order(one.query)[:10], one.item) for one in known]
            cells += [sum(item in found[:k] for found, item in places) / len(known) for k in (1, 10)]
        print(f"| {name} | " + " | ".join(f"{cell:.3f}" for cell in cells) + " |", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
