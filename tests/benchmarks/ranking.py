"""`python -m tests.benchmarks.ranking`: what each part of the ranking is worth, on LoCoMo, without a service.

All conversations stand in one store, a space for each, and are searched by the product's own code. `--leave-one-out`
chooses the weights on all conversations but one and measures on that one. Results are in `docs/ranking.md`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from itertools import product
from pathlib import Path

import apsw
from attrs import define, field, frozen
from pinch.memory import candidates, memories, query, rows, vectors
from pinch.memory.candidates import Candidates, Scope
from pinch.memory.memories import NewMemory
from pinch.memory.model import Session, load_session, quantize, read_manifest
from pinch.memory.ranking import Weights, rank
from pinch.memory.vectors import ModelRow, Vector

from tests.benchmarks import conversations
from tests.benchmarks.conversations import ADVERSARIAL, Conversation, MissingDataError, Question
from tests.cache import REPOSITORY

K = 10
DEPTH = 100
SCHEMA = REPOSITORY / "service" / "src" / "pinch" / "memory" / "schema.sql"
AROUND = ((0.4, 0.2), (0.5, 0.3), (0.6, 0.4))


@frozen(eq=False)
class Asked:
    """A question with all that a search for it needs."""

    conversation: str
    question: Question
    vector: Vector
    scope: Scope


Order = Callable[[Asked], list[int]]
"""Gives the items for a question, best first."""
Test = Callable[[Asked], bool]
"""Tells whether a question counts."""


@define(eq=False)
class Study:
    """A store with every conversation, and the questions about them."""

    connection: apsw.Connection
    model: ModelRow
    turns: dict[int, frozenset[str]]
    """Ids of the turns that an item stands for: a text said twice in a session is stored once."""
    asked: list[Asked]
    gathered: dict[tuple[Asked, tuple[float, ...], str], Candidates] = field(factory=dict)

    def near(self, asked: Asked) -> dict[int, float]:
        """Return what is near by meaning."""
        found = vectors.nearest(self.connection, self.model, asked.vector, space=asked.scope.space)
        return {near.item: near.similarity for near in found}

    def gather(self, asked: Asked, weights: Weights, mode: str = "hybrid") -> Candidates:
        """Return the product's candidates."""
        return candidates.gather(
            self.connection,
            query.read(asked.question.text),
            asked.scope,
            near=None if mode == "keyword" else self.near(asked),
            similarities=lambda items: vectors.similarities(self.connection, self.model, asked.vector, items),
            by_word=mode != "semantic",
            weights=weights,
        )

    def fts(self, asked: Asked, terms: Sequence[str]) -> list[int]:
        """Return what FTS5 finds for any of the terms, by BM25."""
        match = " OR ".join(query.quoted(term) for term in terms)
        clause, bindings = asked.scope.clause
        sql = (
            "SELECT items.id FROM items_fts CROSS JOIN items ON items.id = items_fts.rowid "
            f"WHERE items_fts MATCH ? AND {clause} ORDER BY items_fts.rank LIMIT {DEPTH}"
        )
        return [item for (item,) in self.connection.execute(sql, (match, *bindings))] if match else []

    def weighed(self, weights: Weights, mode: str = "hybrid") -> Order:
        """Return the product's order with other weights; candidates are gathered once for each `around`."""

        def order(asked: Asked) -> list[int]:
            key = asked, weights.around, mode
            if key not in self.gathered:
                self.gathered[key] = self.gather(asked, weights, mode)
            found = self.gathered[key]
            words = query.read(asked.question.text).words
            return [one.item for one in rank(found.places, found.keyword, found.similarity, words, weights)]

        return order

    def shares(self, order: Order) -> dict[Asked, float]:
        """Return, for each question, the share of its evidence that is in the first ten."""
        shares = {}
        for asked in self.asked:
            found = frozenset[str]().union(*(self.turns[item] for item in order(asked)[:K]))
            shares[asked] = len(found & asked.question.evidence) / len(asked.question.evidence)
        return shares


def recall(shares: Mapping[Asked, float], counts: Test) -> float:
    """Return recall@10 over the questions that count."""
    return statistics.fmean(share for asked, share in shares.items() if counts(asked))


def words_of(asked: Asked) -> list[str]:
    """Return every word of a question once."""
    return sorted(query.read(asked.question.text).words)


def fused(lists: Sequence[Sequence[int]], constant: int = 60) -> list[int]:
    """Return the order by reciprocal rank fusion."""
    scores: dict[int, float] = {}
    for found in lists:
        for place, item in enumerate(found, 1):
            scores[item] = scores.get(item, 0.0) + 1 / (constant + place)
    return sorted(scores, key=lambda item: -scores[item])


def orders(study: Study) -> Iterator[tuple[str, Order]]:
    """Yield what is compared: baselines, the product, and the product with one thing changed."""

    def every_word(asked: Asked) -> list[int]:
        return study.fts(asked, words_of(asked))

    def told(asked: Asked) -> list[int]:
        return study.fts(asked, query.terms(asked.question.text))

    def near(asked: Asked) -> list[int]:
        return list(study.near(asked))

    yield "FTS5, every word", every_word
    yield "FTS5, no stop words", told
    yield "vectors alone", near
    yield "RRF (k = 60) of vectors and FTS5, every word", lambda asked: fused([every_word(asked), near(asked)])
    yield "RRF (k = 60) of vectors and FTS5, no stop words", lambda asked: fused([told(asked), near(asked)])
    for name, weights in {
        "product": Weights(),
        "without the turns around": Weights(around=()),
        "without the turns two away": Weights(around=(0.5,)),
        "without the thread": Weights(group=0),
        "without the source": Weights(source=0),
        "turns around 0.6, 0.4": Weights(around=(0.6, 0.4)),
        "turns around 0.5, 0.3, 0.2": Weights(around=(0.5, 0.3, 0.2)),
        "meaning 0.3": Weights(meaning=0.3),
        "meaning 0.5": Weights(meaning=0.5),
        "meaning 0.6": Weights(meaning=0.6),
    }.items():
        yield name, study.weighed(weights)
    yield "product, mode keyword", study.weighed(Weights(), "keyword")
    yield "product, mode keyword, without the turns around", study.weighed(Weights(around=()), "keyword")
    yield "product, mode semantic", study.weighed(Weights(), "semantic")


def table(study: Study) -> None:
    """Print recall@10 of each order: over the questions that have an answer, over all, and for each conversation."""
    names = sorted({asked.conversation for asked in study.asked})
    print("| order | with an answer | all | " + " | ".join(names) + " |")
    print("|---|" + "---:|" * (2 + len(names)))
    for name, order in orders(study):
        shares = study.shares(order)
        figures = [recall(shares, answerable), recall(shares, lambda _: True)]
        figures += [recall(shares, answerable_of({one})) for one in names]
        print(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |", flush=True)


def answerable(asked: Asked) -> bool:
    """Whether the question has an answer."""
    return asked.question.category != ADVERSARIAL


def answerable_of(names: Set[str]) -> Test:
    """Return the test for questions with an answer about some of the conversations."""
    return lambda asked: answerable(asked) and asked.conversation in names


def leave_one_out(study: Study) -> None:
    """Print, for each conversation, the weights that are best on the others and what they reach on it."""
    names = {asked.conversation for asked in study.asked}
    grid = [
        Weights(around=around, meaning=meaning, group=group, source=source)
        for around, meaning, group, source in product(AROUND, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), (0.1, 0.15))
    ]
    tried = {weights: study.shares(study.weighed(weights)) for weights in grid}
    ours = study.shares(study.weighed(Weights()))
    left_out: dict[Asked, float] = {}
    for name in sorted(names):
        best = max(grid, key=lambda weights: recall(tried[weights], answerable_of(names - {name})))
        left_out |= {asked: share for asked, share in tried[best].items() if asked.conversation == name}
        here = answerable_of({name})
        print(f"{name}: {recall(tried[best], here):.3f} with {best}; {recall(ours, here):.3f} with the product's")
    everything = sorted(recall(shares, answerable) for shares in tried.values())
    print(f"left out: {recall(left_out, answerable):.4f}; the product's weights: {recall(ours, answerable):.4f}")
    print(f"the {len(grid)} of the grid: {everything[0]:.4f} to {everything[-1]:.4f}")


def prepare(found: Sequence[Conversation], session: Session) -> Study:
    """Fill a store in memory."""
    connection = apsw.Connection(":memory:")
    connection.enable_load_extension(True)
    connection.load_extension(vectors.extension_path())
    connection.execute(SCHEMA.read_text("utf-8"))
    manifest = session.manifest
    model = vectors.register(connection, manifest.name, manifest.sha256, manifest.dimensions)
    study = Study(connection, model, {}, [])
    for conversation in found:
        stored = memories.remember(
            connection,
            [
                NewMemory(
                    turn.text(captions=True),
                    conversation.name,
                    source=turn.speaker,
                    thread=f"session {turn.session}",
                )
                for turn in conversation.turns
            ],
            now=0,
        )
        for turn, one in zip(conversation.turns, stored, strict=True):
            item = memories.parse_id(one.id)
            study.turns[item] = study.turns.get(item, frozenset()) | {turn.id}
        scope = Scope(rows.space_id(connection, conversation.name))
        study.asked += [
            Asked(conversation.name, question, quantize(session.embed(manifest.prefix_query + question.text)[0]), scope)
            for question in conversation.questions
        ]
    while waiting := vectors.next_pending(connection, 256):
        ready = [(one, quantize(session.embed(manifest.prefix_document + one.text)[0])) for one in waiting]
        vectors.store(connection, model, ready)
    return study


def main() -> int:
    """Print the figures; return 0 also where the conversations are missing, which is said."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", type=Path, required=True, help="model folder, as `python -m pinch_models build` makes it"
    )
    parser.add_argument(
        "--leave-one-out", action="store_true", help="choose weights without the conversation they are measured on"
    )
    options = parser.parse_args()
    try:
        found = conversations.load()
    except MissingDataError as missing:
        print(f"skipped: {missing}")
        return 0
    study = prepare(found, load_session(read_manifest(options.model), threads=2))
    begin = time.perf_counter()
    (leave_one_out if options.leave_one_out else table)(study)
    print(f"{time.perf_counter() - begin:.0f} s for {len(study.asked)} questions over {len(study.turns)} turns")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
