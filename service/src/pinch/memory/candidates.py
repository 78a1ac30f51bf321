"""The items that may answer a query, out of the indexes.

Words nominate through FTS5, meaning through the vectors, and a turn that is nominated brings the turns around it.
Statements and their cost are in `docs/ranking.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import apsw

from pinch.memory import ranking
from pinch.memory.query import Query, quoted
from pinch.memory.ranking import Place, Position, Weights

CANDIDATES = 50
"""Items by words that are ranked again with what stands around them."""
AHEAD = 4
"""How many times as many are looked at, where only those in scope count."""
LITERAL_ROWS = 200
"""Items by a literal."""

_PLACE = "items.id, items.thread, items.seq, items.document, items.source"

Similarities = Callable[[Sequence[int]], Mapping[int, float]]
"""Gives the cosine of items with the query; leaves out those without a vector."""


class Scope(NamedTuple):
    """Which items may be hits."""

    space: int | None = None
    """Id of the only space, or None for all that are visible."""
    among: tuple[str, tuple[Any, ...]] | None = None
    """SQL that selects the only ids, with its bindings."""

    @property
    def everything(self) -> bool:
        """Whether it leaves nothing out that is visible."""
        return self.space is None and self.among is None

    @property
    def clause(self) -> tuple[str, tuple[Any, ...]]:
        """SQL that is true for rows of `items` in scope, with its bindings."""
        clause, bindings = ("items.space > 0", ()) if self.space is None else ("items.space = ?", (self.space,))
        if self.among is None:
            return clause, bindings
        return f"{clause} AND items.id IN ({self.among[0]})", (*bindings, *self.among[1])


class Candidates(NamedTuple):
    """Items that may be hits, and what their order is made of."""

    places: list[Place]
    keyword: dict[int, float]
    """Keyword score of those that have one, above 0."""
    similarity: dict[int, float]
    """Cosine with the query of those that have a vector."""


def gather(
    connection: apsw.Connection,
    query: Query,
    scope: Scope,
    *,
    near: Mapping[int, float] | None = None,
    similarities: Similarities | None = None,
    by_word: bool = True,
    limit: int = CANDIDATES,
    weights: Weights = Weights(),  # noqa: B008 - frozen
) -> Candidates:
    """Return the items that may answer a query.

    Args:
        connection: a reading one.
        query: what is asked.
        scope: where to look.
        near: cosine of the items nearest to the query by meaning, best first; None where only words count.
        similarities: cosine of the others, needed with `near`.
        by_word: whether words count; False leaves meaning alone.
        limit: items that words nominate.
        weights: how much the turns around count.
    """
    terms = query.terms if by_word else ()
    matched = nominate(connection, terms, scope, limit)
    places = {place.item: place for place, _ in matched}
    places |= {place.item: place for place in locate(connection, [item for item in near or () if item not in places])}
    keyword = {place.item: score for place, score in matched}
    turns = {position: place.item for place in places.values() if (position := place.position) is not None}
    if terms and turns:
        positions = ranking.reach((place.position for place, _ in matched if place.position is not None), weights)
        for place in around(connection, positions - turns.keys(), scope):
            places[place.item] = place
            turns[place.thread or 0, place.seq] = place.item
        beside = around(connection, ranking.reach(turns, weights) - turns.keys(), Scope())
        asked = turns | {(place.thread or 0, place.seq): place.item for place in beside}
        scores = ranking.turn_scores(turns, holders(connection, terms, asked), worths(connection, terms), weights)
        keyword |= {turns[position]: score for position, score in scores.items()}
    for literal in query.literals if by_word else ():
        holding = containing(connection, literal, scope)
        worth = ranking.inverse_frequency(text_count(connection), len(holding))
        places |= {place.item: place for place in holding}
        keyword |= {place.item: keyword.get(place.item, 0.0) + worth for place in holding}
    similarity = dict(near or {})
    if near is not None and similarities is not None:
        similarity |= similarities([item for item in places if item not in similarity])
    found = {item: score for item, score in keyword.items() if score > 0}
    return Candidates([*places.values()], found, similarity)


def nominate(connection: apsw.Connection, terms: Sequence[str], scope: Scope, limit: int) -> list[tuple[Place, float]]:
    """Return the items that have any of the terms, best first, each with its BM25 (higher is better)."""
    if not terms:
        return []
    match = " OR ".join(quoted(term) for term in terms)
    clause, bindings = scope.clause
    ahead = limit if scope.everything else AHEAD * limit
    # Sorting by bm25() takes two thirds of the time of FTS5's own ORDER BY rank, but cannot stop early once there
    # are enough in scope: so first the best of all scopes, and the long way only where too few of them are in ours.
    rows: list[Any] = connection.execute(
        f"WITH best AS MATERIALIZED (SELECT rowid, bm25(items_fts) AS score FROM items_fts WHERE items_fts MATCH ? "
        f"ORDER BY score LIMIT ?) SELECT {clause}, -score, {_PLACE} FROM best "
        "CROSS JOIN items ON items.id = best.rowid ORDER BY score",
        (match, ahead, *bindings),
    ).fetchall()
    found = [(Place(*place), score) for inside, score, *place in rows if inside]
    if len(found) < limit and len(rows) == ahead:
        far: list[Any] = connection.execute(
            f"SELECT -items_fts.rank, {_PLACE} FROM items_fts CROSS JOIN items ON items.id = items_fts.rowid "
            f"WHERE items_fts MATCH ? AND {clause} ORDER BY items_fts.rank LIMIT ?",
            (match, *bindings, limit),
        ).fetchall()
        found = [(Place(*place), score) for score, *place in far]
    return found[:limit]


def worths(connection: apsw.Connection, terms: Sequence[str]) -> list[float]:
    """Return the inverse frequency of each term."""
    total = text_count(connection)
    found = []
    for term in terms:
        frequency = connection.execute("SELECT count(*) FROM items_fts WHERE items_fts MATCH ?", (quoted(term),)).get
        found.append(ranking.inverse_frequency(total, int(frequency)))
    return found


def text_count(connection: apsw.Connection) -> int:
    """Return how many texts there are, counting those removed: ids are not used again, and reading one is free."""
    return int(connection.execute("SELECT ifnull(max(id), 0) FROM texts").get)


def containing(connection: apsw.Connection, literal: str, scope: Scope) -> list[Place]:
    """Return items whose text contains `literal`, the newest first; reads texts until there are enough."""
    clause, bindings = scope.clause
    rows = connection.execute(
        f"SELECT {_PLACE} FROM texts CROSS JOIN items ON items.id = texts.id "
        f"WHERE instr(texts.text, ?) AND {clause} ORDER BY texts.id DESC LIMIT ?",
        (literal, *bindings, LITERAL_ROWS),
    )
    return [Place(*row) for row in rows]


def locate(connection: apsw.Connection, items: Sequence[int]) -> list[Place]:
    """Return where items stand."""
    rows = connection.execute(
        f"SELECT {_PLACE} FROM json_each(?) CROSS JOIN items ON items.id = value", (json.dumps(items),)
    )
    return [Place(*row) for row in rows]


def around(connection: apsw.Connection, positions: Iterable[Position], scope: Scope) -> list[Place]:
    """Return the turns at positions; those that do not exist or are out of scope are left out."""
    clause, bindings = scope.clause
    rows = connection.execute(
        f"SELECT {_PLACE} FROM json_each(?) CROSS JOIN items "
        f"ON items.thread = value ->> 0 AND items.seq = value ->> 1 AND {clause}",
        (json.dumps(sorted(positions)), *bindings),
    )
    return [Place(*row) for row in rows]


def holders(connection: apsw.Connection, terms: Sequence[str], turns: Mapping[Position, int]) -> list[set[Position]]:
    """Return, for each term, which of `turns` have it: positions with their items.

    `+` keeps FTS5 from seeking each item by itself: with 32 terms in 20000 turns, and 449 asked about, reading a
    term's list takes 6 ms, the seeks take 68.
    """
    positions = {item: position for position, item in turns.items()}
    items = json.dumps(sorted(positions))
    return [
        {
            positions[int(str(item))]
            for (item,) in connection.execute(
                "SELECT rowid FROM items_fts WHERE items_fts MATCH ? AND +rowid IN (SELECT value FROM json_each(?))",
                (quoted(term), items),
            )
        }
        for term in terms
    ]
