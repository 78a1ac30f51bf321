"""Recall: a query's hits by word and by meaning, fused, each with the reasons why it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw
from attrs import define, frozen

from pinch.errors import Conflict, PinchError
from pinch.memory import rows, vectors
from pinch.memory.embedding import Embedder
from pinch.memory.indexer import Indexer
from pinch.memory.model import ModelUnusable
from pinch.memory.store import Store
from pinch.memory.vectors import Near, Vector

KEYWORD_CANDIDATES = 200
RRF_K = 20


@frozen
class RecallRequest:
    """What to look for; `space` None looks in all of them."""

    query: str
    space: str | None = None
    k: int = 6
    tags: tuple[str, ...] = ()
    mode: str = "hybrid"


@define
class Why:
    """Why an item is a hit: its place among the hits by word and by meaning, counted from 1."""

    keyword_rank: int | None
    semantic_rank: int | None
    similarity: float | None


@define
class Hit:
    """One answer to a query."""

    id: str
    kind: str
    text: str
    score: float
    source: str | None
    thread: str | None
    at: str
    tags: list[str]
    path: str | None
    lines: list[int] | None
    why: Why


@define
class Recalled:
    """The hits, best first, and how they were found."""

    hits: list[Hit]
    mode: str
    """The mode that answered; `hybrid` is `keyword` where there is no model."""
    degraded: bool
    """Whether the semantic half that was asked for is missing."""


@define(eq=False)
class Recall:
    """Answers queries over one store."""

    store: Store
    embedder: Embedder
    indexer: Indexer
    semantic: bool
    """Whether the tier has a model at all."""

    async def recall(self, request: RecallRequest) -> Recalled:
        """Return the best `k` hits.

        Raises:
            Conflict: semantic mode on a tier without a model.
            ModelUnusable: semantic mode, and the model cannot be used.
        """
        mode, vector = await self._prepare(request)
        hits = await self.store.readers.run(lambda connection: self._search(connection, request, vector))
        return Recalled(hits, mode, degraded=self.semantic and mode != request.mode)

    async def _prepare(self, request: RecallRequest) -> tuple[str, Vector | None]:
        if request.mode == "keyword":
            return "keyword", None
        if not self.semantic:
            if request.mode == "semantic":
                raise Conflict("this tier has no embedding model", param="mode", hint="use mode keyword or hybrid")
            return "keyword", None
        model = self.indexer.model
        try:
            if model is None or not model.active:
                raise ModelUnusable(
                    "the vectors of a new model are being made", hint="GET /v1/sync shows how far it is"
                )
            return request.mode, await self.embedder.query(request.query)
        except PinchError:
            if request.mode == "semantic":
                raise
            return "keyword", None

    def _search(self, connection: apsw.Connection, request: RecallRequest, vector: Vector | None) -> list[Hit]:
        space = None
        if request.space is not None:
            space = rows.space_id(connection, request.space)
            if space is None:
                return []
        among = rows.tagged(request.tags) if request.tags else None
        words = [] if request.mode == "semantic" else _by_word(connection, request.query, space, among)
        near: list[Near] = []
        if vector is not None and self.indexer.model is not None:
            near = vectors.nearest(connection, self.indexer.model, vector, space=space, among=among)
        whys: dict[int, Why] = {}
        scores: dict[int, float] = {}
        for rank, item in enumerate(words, 1):
            whys[item] = Why(rank, None, None)
            scores[item] = 1 / (RRF_K + rank)
        for rank, one in enumerate(near, 1):
            why = whys.setdefault(one.item, Why(None, None, None))
            why.semantic_rank, why.similarity = rank, round(one.similarity, 4)
            scores[one.item] = scores.get(one.item, 0.0) + 1 / (RRF_K + rank)
        best = sorted(scores, key=lambda item: -scores[item])[: request.k]
        return _hits(connection, [(item, scores[item], whys[item]) for item in best])


def _by_word(
    connection: apsw.Connection, query: str, space: int | None, among: tuple[str, tuple[Any, ...]] | None
) -> list[int]:
    import re

    match = " OR ".join('"' + word + '"' for word in re.findall(r"\w+", query)[:64])
    if not match:
        return []
    sql = "SELECT items_fts.rowid FROM items_fts JOIN items ON items.id = items_fts.rowid WHERE items_fts MATCH ? AND items.space > 0"
    bindings: list[Any] = [match]
    if space is not None:
        sql += " AND items.space = ?"
        bindings.append(space)
    if among is not None:
        sql += f" AND items.id IN ({among[0]})"
        bindings.extend(among[1])
    found = connection.execute(sql + f" ORDER BY items_fts.rank LIMIT {KEYWORD_CANDIDATES}", bindings)
    return [item for (item,) in found]


def _hits(connection: apsw.Connection, best: Sequence[tuple[int, float, Why]]) -> list[Hit]:
    tags = rows.tags_of(connection, [item for item, _, _ in best])
    hits = []
    for item, score, why in best:
        row = connection.execute(
            "SELECT kind, text, source, threads.name, items.at, path, line_first, line_last FROM items "
            "JOIN texts ON texts.id = items.id LEFT JOIN threads ON threads.id = thread "
            "LEFT JOIN documents ON documents.id = document WHERE items.id = ?",
            (item,),
        ).fetchone()
        if row is None:
            continue
        kind, text, source, thread, at, path, first, last = row
        hits.append(
            Hit(
                id=f"{'mc'[kind]}{item}",
                kind=("memory", "chunk")[kind],
                text=text,
                score=round(score, 6),
                source=source,
                thread=thread,
                at=rows.rfc3339(at),
                tags=tags[item],
                path=path,
                lines=None if first is None else [first, last],
                why=why,
            )
        )
    return hits
