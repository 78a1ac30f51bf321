"""The items that may answer a query, out of the indexes, and their order.

What it costs is bounded: a term in many texts does not nominate candidates beside rarer ones, it only helps to rank
those that they nominate, and no more rows come back by words than asked for. Statements and their cost are in
`docs/ranking.md`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import apsw
from attrs import frozen

from pinch.memory import ranking
from pinch.memory.query import Query, quoted
from pinch.memory.ranking import Place, Position, Ranked, Weights

CANDIDATES = 100
"""Items by words that are ranked again with what stands around them."""
NOMINATING_ROWS = 2_000
"""Rows that terms nominate together, the rarest term first; the rarest always does."""

_PLACE = "items.id, items.thread, items.seq, items.document, items.source"

Similarities = Callable[[Sequence[int]], Mapping[int, float]]
"""Gives the cosine of items with the query; leaves out those without a vector."""


@frozen
class Scope:
    """Which items may be hits."""

    space: int | None = None
    """Id of the only space, or None for all that are visible."""
    among: tuple[str, tuple[Any, ...]] | None = None
    """SQL that selects the only ids, with its bindings."""

    @property
    def clause(self) -> tuple[str, tuple[Any, ...]]:
        """SQL that is true for rows of `items` in scope, with its bindings."""
        clause, bindings = ("items.space > 0", ()) if self.space is None else ("items.space = ?", (self.space,))
        if self.among is None:
            return clause, bindings
        return f"{clause} AND items.id IN ({self.among[0]})", (*bindings, *self.among[1])


@frozen
class Term:
    """A term that the index has."""

    text: str
    frequency: int
    """Texts that have it."""


def find(
    connection: apsw.Connection,
    query: Query,
    scope: Scope,
    *,
    near: Mapping[int, float] | None = None,
    similarities: Similarities | None = None,
    by_word: bool = True,
    limit: int = CANDIDATES,
    weights: Weights = Weights(),  # noqa: B008 - frozen
) -> list[Ranked]:
    """Return the items that answer a query, best first.

    Args:
        connection: a reading one.
        query: what is asked.
        scope: where to look.
        near: cosine of the items nearest to the query by meaning, best first; None where only words count.
        similarities: cosine of the others, needed with `near`.
        by_word: whether words count; False leaves meaning alone.
        limit: items that words nominate.
        weights: what counts how much.
    """
    terms = known_terms(connection, query) if by_word else []
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
        worths = [ranking.inverse_frequency(text_count(connection), term.frequency) for term in terms]
        scores = ranking.turn_scores(turns, holders(connection, terms, turns), worths, weights)
        keyword |= {turns[position]: score for position, score in scores.items()}
    similarity = dict(near or {})
    if near is not None and similarities is not None:
        similarity |= similarities([item for item in places if item not in similarity])
    found = {item: score for item, score in keyword.items() if score > 0}
    return ranking.rank([*places.values()], found, similarity, query.words, weights)


def known_terms(connection: apsw.Connection, query: Query) -> list[Term]:
    """Return the query's terms that any text has, the rarest first."""
    counted = [
        Term(
            term, int(connection.execute("SELECT count(*) FROM items_fts WHERE items_fts MATCH ?", (quoted(term),)).get)
        )
        for term in query.terms
    ]
    return sorted((term for term in counted if term.frequency), key=lambda term: term.frequency)


def text_count(connection: apsw.Connection) -> int:
    """Return how many texts there are, counting those removed: ids are not used again, and reading one is free."""
    return int(connection.execute("SELECT ifnull(max(id), 0) FROM texts").get)


def expressions(terms: Sequence[Term]) -> list[str]:
    """Return the FTS5 expressions to try until one gives enough, for terms with the rarest first."""
    if not terms:
        return []
    count, rows = 1, terms[0].frequency
    while count < len(terms) and rows + terms[count].frequency <= NOMINATING_ROWS:
        rows += terms[count].frequency
        count += 1
    rare = " OR ".join(quoted(term.text) for term in terms[:count])
    if count == len(terms):
        return [rare]
    common = " OR ".join(quoted(term.text) for term in terms[count:])
    return [f"({rare}) AND ({common} OR {rare})", f"{rare} OR {common}"]


def nominate(connection: apsw.Connection, terms: Sequence[Term], scope: Scope, limit: int) -> list[tuple[Place, float]]:
    """Return the items that have the terms, best first, each with its BM25 (higher is better)."""
    clause, bindings = scope.clause
    found: list[tuple[Place, float]] = []
    for expression in expressions(terms):
        rows = connection.execute(
            f"SELECT {_PLACE}, -items_fts.rank FROM items_fts CROSS JOIN items ON items.id = items_fts.rowid "
            f"WHERE items_fts MATCH ? AND {clause} ORDER BY items_fts.rank LIMIT ?",
            (expression, *bindings, limit),
        )
        found = [(Place(*row[:-1]), row[-1]) for row in rows]
        if len(found) >= limit:
            break
    return found


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


def holders(connection: apsw.Connection, terms: Sequence[Term], turns: Iterable[Position]) -> list[set[Position]]:
    """Return, for each term, the turns that have it, of the threads of `turns`."""
    threads = json.dumps(sorted({thread for thread, _ in turns}))
    return [
        set(
            connection.execute(
                "SELECT items.thread, items.seq FROM items_fts CROSS JOIN items ON items.id = items_fts.rowid "
                "WHERE items_fts MATCH ? AND items.thread IN (SELECT value FROM json_each(?))",
                (quoted(term.text), threads),
            )
        )
        for term in terms
    ]
