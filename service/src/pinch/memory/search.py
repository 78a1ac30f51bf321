"""Recall: a query's hits by word and by meaning, fused, each with the reasons why it is one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import apsw

from pinch.errors import Conflict, PinchError, TooLarge
from pinch.memory import candidates, query, rows, vectors
from pinch.memory.candidates import Scope
from pinch.memory.embedding import Embedder
from pinch.memory.indexer import Indexer
from pinch.memory.model import ModelUnusable
from pinch.memory.ranking import Ranked, Weights, rank
from pinch.memory.store import Store
from pinch.memory.vectors import Vector

HITS_BYTES = 640 * 1024
"""Bytes of UTF-8 that the texts of one answer may have together: ten of the longest memories."""


class RecallRequest(NamedTuple):
    """What to look for; `space` None looks in all of them."""

    query: str
    space: str | None = None
    k: int = 6
    tags: tuple[str, ...] = ()
    mode: str = "hybrid"


class Why(NamedTuple):
    """Why an item is a hit: its place among the hits by word and by meaning, counted from 1."""

    keyword_rank: int | None
    semantic_rank: int | None
    similarity: float | None


class Hit(NamedTuple):
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


class Recalled(NamedTuple):
    """The hits, best first, and how they were found."""

    hits: list[Hit]
    mode: str
    """The mode that answered; `hybrid` is `keyword` where there is no model."""
    degraded: bool
    """Whether the semantic half that was asked for is missing."""


class Recall:
    """Answers queries over one store."""

    def __init__(self, store: Store, embedder: Embedder, indexer: Indexer, semantic: bool) -> None:
        self.store = store
        self.embedder = embedder
        self.indexer = indexer
        self.semantic = semantic
        """Whether the tier has a model at all."""

    async def recall(self, request: RecallRequest) -> Recalled:
        """Return the best `k` hits.

        Raises:
            Conflict: semantic mode on a tier without a model.
            TooLarge: the texts of the hits pass `HITS_BYTES`.
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
            if not self.embedder.trouble and (model is None or not model.active):
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
        model = self.indexer.model
        scope = Scope(space, rows.tagged(request.tags) if request.tags else None)
        near: dict[int, float] | None = None
        if vector is not None and model is not None:
            nearest = vectors.nearest(connection, model, vector, space=space, among=scope.among)
            near = {one.item: one.similarity for one in nearest}

        def similarities(items: Sequence[int]) -> dict[int, float]:
            assert vector is not None
            assert model is not None
            return vectors.similarities(connection, model, vector, items)

        asked = query.read(request.query)
        found = candidates.gather(
            connection,
            asked,
            scope,
            near=near,
            similarities=similarities,
            by_word=request.mode != "semantic",
            limit=max(request.k, candidates.CANDIDATES),
        )
        ranked = rank(found.places, found.keyword, found.similarity, asked.words, Weights())
        return _hits(connection, ranked[: request.k])


def _hits(connection: apsw.Connection, ranked: Sequence[Ranked]) -> list[Hit]:
    items = [one.item for one in ranked]
    # The lengths alone first: what is over the limit is never read.
    size = connection.execute(
        "SELECT ifnull(sum(octet_length(text)), 0) FROM texts WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(items),),
    ).get
    if int(size) > HITS_BYTES:
        raise TooLarge(
            f"the {len(items)} hits have {size} bytes of text; the limit is {HITS_BYTES}",
            param="k",
            hint="ask for fewer",
        )
    tags = rows.tags_of(connection, items)
    found: Any = connection.execute(
        "SELECT items.id, kind, text, source, threads.name, items.at, documents.path, line_first, line_last "
        "FROM json_each(?) CROSS JOIN items ON items.id = value JOIN texts ON texts.id = items.id "
        "LEFT JOIN threads ON threads.id = thread LEFT JOIN documents ON documents.id = document ORDER BY key",
        (json.dumps(items),),
    )
    reasons = {one.item: one for one in ranked}
    return [
        Hit(
            id=f"{'mc'[kind]}{item}",
            kind=("memory", "chunk")[kind],
            text=text,
            score=round(reasons[item].score, 6),
            source=source,
            thread=thread,
            at=rows.rfc3339(at),
            tags=tags[item],
            path=path,
            lines=None if first is None else [first, last],
            why=_why(reasons[item]),
        )
        for item, kind, text, source, thread, at, path, first, last in found
    ]


def _why(one: Ranked) -> Why:
    similarity = None if one.similarity is None else round(one.similarity, 4)
    return Why(one.keyword_rank, one.semantic_rank, similarity)
