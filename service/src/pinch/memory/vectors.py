"""Vectors of the stored texts: one sign bit a dimension to find candidates, eight to rank them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import apsw

CANDIDATES = 200
"""Nearest items by sign bits that are ranked again by their 8-bit vectors."""
CHUNK_SIZE = 256
"""Rows that sqlite-vec stores together: a small space costs one such block, 14 KiB at 384 dimensions."""


class ModelRow(NamedTuple):
    """A model as the store knows it."""

    id: int
    name: str
    active: bool
    """Whether recall uses its vectors; a model that is still indexing is not."""


class Pending(NamedTuple):
    """An item without a vector."""

    item: int
    space: int
    digest: bytes
    text: str


class Vector(NamedTuple):
    """One text's embedding as it is stored."""

    int8: bytes
    """One signed byte a dimension, scaled so that the largest is 127."""
    bits: bytes
    """One bit a dimension: whether it is positive."""


class Near(NamedTuple):
    """An item near a query; similarity is the cosine, −1 to 1."""

    item: int
    similarity: float


def extension_path() -> str:
    """Return sqlite-vec's library without importing its package, which would pull in numpy."""
    spec = find_spec("sqlite_vec")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("sqlite-vec is not installed; install pinchd[semantic]")
    return str(Path(spec.origin).with_name("vec0"))


def register(connection: apsw.Connection, name: str, sha256: str, dimensions: int) -> ModelRow:
    """Make the model known and return it; the first one is active at once, a later one when it has indexed all."""
    row = connection.execute("SELECT id, active FROM models WHERE sha256 = ?", (sha256,)).fetchone()
    if row is not None:
        model = ModelRow(row[0], name, bool(row[1]))
    else:
        first = not connection.execute("SELECT 1 FROM models WHERE active").fetchone()
        connection.execute(
            "INSERT INTO models (name, sha256, dimensions, active) VALUES (?, ?, ?, ?)",
            (name, sha256, dimensions, int(first)),
        )
        model = ModelRow(connection.last_insert_rowid(), name, first)
        connection.execute(
            f"CREATE VIRTUAL TABLE vectors_{model.id} USING vec0"
            f"(space INTEGER PARTITION KEY, bits BIT[{dimensions}], chunk_size={CHUNK_SIZE})"
        )
        connection.execute("INSERT OR IGNORE INTO pending SELECT id FROM items")
    _drop_models(connection, "id != ? AND NOT active", model.id)
    return model


def promote(connection: apsw.Connection, model: ModelRow) -> ModelRow:
    """Let recall use `model`, which has indexed everything, and drop the vectors of the one before."""
    connection.execute("UPDATE models SET active = (id = ?)", (model.id,))
    _drop_models(connection, "id != ?", model.id)
    return ModelRow(model.id, model.name, active=True)


def _drop_models(connection: apsw.Connection, which: str, *bindings: int) -> None:
    for (row,) in connection.execute(f"SELECT id FROM models WHERE {which}", bindings).fetchall():
        connection.execute(f"DROP TABLE IF EXISTS vectors_{row}")
        connection.execute("DELETE FROM embeddings WHERE model = ?", (row,))
        connection.execute("DELETE FROM models WHERE id = ?", (row,))


def pending_count(connection: apsw.Connection) -> int:
    """Return how many items wait for a vector."""
    return int(connection.execute("SELECT count(*) FROM pending JOIN items ON items.id = item WHERE space > 0").get)


def next_pending(connection: apsw.Connection, limit: int) -> list[Pending]:
    """Return items that wait for a vector, oldest first; chunks of documents still arriving are left out."""
    found = connection.execute(
        "SELECT item, space, digest, text FROM pending JOIN items ON items.id = item JOIN texts ON texts.id = item "
        "WHERE space > 0 ORDER BY item LIMIT ?",
        (limit,),
    )
    return [Pending(*row) for row in found]


def known(connection: apsw.Connection, model: ModelRow, digest: bytes) -> bytes | None:
    """Return the 8-bit vector of a text that was embedded before, or None."""
    row = connection.execute(
        "SELECT vector FROM embeddings WHERE model = ? AND digest = ?", (model.id, digest)
    ).fetchone()
    return None if row is None else bytes(row[0])


def store(connection: apsw.Connection, model: ModelRow, vectors: Sequence[tuple[Pending, Vector]]) -> None:
    """Index vectors; an item that changed or vanished meanwhile is passed over."""
    for pending, vector in vectors:
        row = connection.execute("SELECT digest FROM items WHERE id = ?", (pending.item,)).fetchone()
        if row is None or row[0] != pending.digest:
            continue
        connection.execute("INSERT OR IGNORE INTO embeddings VALUES (?, ?, ?)", (model.id, pending.digest, vector.int8))
        connection.execute(f"DELETE FROM vectors_{model.id} WHERE rowid = ?", (pending.item,))
        connection.execute(
            f"INSERT INTO vectors_{model.id} (rowid, space, bits) VALUES (?, ?, vec_bit(?))",
            (pending.item, pending.space, vector.bits),
        )
        connection.execute("DELETE FROM pending WHERE item = ?", (pending.item,))


def forget_vanished(connection: apsw.Connection, limit: int = 256) -> int:
    """Take ids out of the index whose items are gone, and texts out of the cache that none has; return how many ids."""
    vanished = [item for (item,) in connection.execute("SELECT item FROM vanished LIMIT ?", (limit,))]
    models = [row for (row,) in connection.execute("SELECT id FROM models")]
    for item in vanished:
        for model in models:
            connection.execute(f"DELETE FROM vectors_{model} WHERE rowid = ?", (item,))
        connection.execute("DELETE FROM vanished WHERE item = ?", (item,))
    return len(vanished)


def forget_unused(connection: apsw.Connection, keep: int) -> int:
    """Trim the cache of vectors whose text is stored no more to `keep` rows; return how many went."""
    unused = "FROM embeddings WHERE NOT EXISTS (SELECT 1 FROM items WHERE items.digest = embeddings.digest)"
    surplus = int(connection.execute(f"SELECT count(*) {unused}").get) - keep
    if surplus > 0:
        connection.execute(
            f"DELETE FROM embeddings WHERE (model, digest) IN (SELECT model, digest {unused} LIMIT ?)", (surplus,)
        )
    return max(0, surplus)


def nearest(
    connection: apsw.Connection,
    model: ModelRow,
    query: Vector,
    *,
    space: int | None,
    among: tuple[str, tuple[Any, ...]] | None = None,
    limit: int = CANDIDATES,
) -> list[Near]:
    """Return the items nearest to `query`, best first.

    Args:
        connection: any connection with sqlite-vec loaded.
        model: whose vectors to search.
        query: the query's vector.
        space: id of the only space to search, or None for all.
        among: SQL that selects the only item ids to consider, with its bindings.
        limit: candidates to rank, at most 4096.
    """
    sql = f"SELECT rowid FROM vectors_{model.id} WHERE bits MATCH vec_bit(?) AND k = ?"
    bindings: list[Any] = [query.bits, limit]
    if space is not None:
        sql += " AND space = ?"
        bindings.append(space)
    if among is not None:
        sql += f" AND rowid IN ({among[0]})"
        bindings.extend(among[1])
    found = connection.execute(
        f"WITH near AS MATERIALIZED ({sql}) "
        "SELECT items.id, 1 - vec_distance_cosine(vec_int8(vector), vec_int8(?)) AS similarity FROM near "
        "JOIN items ON items.id = near.rowid JOIN embeddings ON model = ? AND embeddings.digest = items.digest "
        "ORDER BY similarity DESC",
        (*bindings, query.int8, model.id),
    )
    return [Near(item, similarity) for item, similarity in found]


def similarities(connection: apsw.Connection, model: ModelRow, query: Vector, items: Sequence[int]) -> dict[int, float]:
    """Return the cosine of each of `items` with `query`; those without a vector are left out."""
    found = connection.execute(
        "SELECT items.id, 1 - vec_distance_cosine(vec_int8(vector), vec_int8(?)) FROM json_each(?) "
        "CROSS JOIN items ON items.id = value JOIN embeddings ON model = ? AND embeddings.digest = items.digest",
        (query.int8, json.dumps(items), model.id),
    )
    return dict(found)
