"""How hits are put in order: words, meaning, and what stands around a turn.

    keyword(turn) = sum over terms of idf * x (k1 + 1) / (x + k1),
                    x = 1 where the turn has the term, + 0.5 for each turn beside it that has it, + 0.3 two away
    keyword(other) = BM25 as FTS5 computes it
    share = 0.6 * keyword / best keyword + 0.4 * similarity / best similarity
    score = (share + 0.3 * best share in the same thread or document + 0.15 where the query names the source) / 1.45

A turn of a conversation often answers a question whose words stand in the turn before it, so the terms around it count
as weaker fields of it do in BM25F (Robertson, Zaragoza and Taylor 2004): added before saturation, not after.
A chunk of a document is long enough to speak for itself, and neighbours only blur it. `docs/ranking.md` has the
figures for each part. All functions are pure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence, Set
from typing import NamedTuple

K1 = 1.2
"""Saturation of BM25: FTS5's own value, so that turns and chunks share a scale."""

_WORD = re.compile(r"[^\W_]+")
_SOURCE_WORDS = 3
"""Words of a source that can be a name; a longer one is an address or a title."""

Position = tuple[int, int]
"""A turn's thread and its place in it."""


class Weights(NamedTuple):
    """What counts how much, where the best keyword score and the best similarity are 1."""

    around: tuple[float, ...] = (0.5, 0.3)
    """A term in a turn one away, two away, and so on, against one in the turn itself."""
    meaning: float = 0.4
    """Share of the similarity where there are both; words have the rest."""
    group: float = 0.3
    """What the best hit of a thread or document lends to the others of it."""
    source: float = 0.15
    """For a hit whose source the query names."""


class Place(NamedTuple):
    """Where an item stands."""

    item: int
    thread: int | None = None
    seq: int = 0
    document: int | None = None
    source: str | None = None

    @property
    def position(self) -> Position | None:
        """Thread and place of a turn; None for what is not in a thread."""
        return None if self.thread is None else (self.thread, self.seq)


class Ranked(NamedTuple):
    """An item in the order of hits."""

    item: int
    score: float
    """From 0 to 1; comparable within one answer only."""
    keyword_rank: int | None
    """Place by words, from 1; None where neither it nor the turns around it have any."""
    semantic_rank: int | None
    """Place by meaning, from 1; None where its similarity is not known."""
    similarity: float | None
    """Cosine with the query, −1 to 1."""


def inverse_frequency(total: int, frequency: int) -> float:
    """Return what a term is worth that `frequency` of `total` texts have, as FTS5 computes it: never below 1e-6."""
    share = (total - frequency + 0.5) / (frequency + 0.5)
    return max(1e-6, math.log(share)) if share > 0 else 1e-6


def turn_scores(
    positions: Iterable[Position],
    holders: Sequence[Set[Position]],
    worths: Sequence[float],
    weights: Weights,
) -> dict[Position, float]:
    """Return the keyword score of each turn.

    Args:
        positions: the turns to score.
        holders: for each term, the turns that have it, at least those within reach of `positions`.
        worths: for each term, its inverse frequency.
        weights: how much the turns around count.
    """
    kernel = [(0, 1.0)]
    for distance, weight in enumerate(weights.around, 1):
        kernel += [(-distance, weight), (distance, weight)]
    scores = {}
    for thread, seq in positions:
        score = 0.0
        for having, worth in zip(holders, worths, strict=True):
            found = sum(weight for offset, weight in kernel if (thread, seq + offset) in having)
            score += worth * found * (K1 + 1) / (found + K1)
        scores[thread, seq] = score
    return scores


def reach(positions: Iterable[Position], weights: Weights) -> set[Position]:
    """Return the turns that `positions` are context of, themselves included."""
    far = len(weights.around)
    return {(thread, seq + offset) for thread, seq in positions for offset in range(-far, far + 1)}


def rank(
    places: Sequence[Place],
    keyword: Mapping[int, float],
    similarity: Mapping[int, float],
    words: frozenset[str],
    weights: Weights,
) -> list[Ranked]:
    """Put items in order, best first; ties keep the order of ids.

    An item that has no vector yet is judged by its words alone, and never hidden.

    Args:
        places: the items.
        keyword: keyword score of those that have one, above 0.
        similarity: cosine with the query of those that have a vector; empty where only words count.
        words: the words of the query, in small letters.
        weights: what counts how much.
    """
    shares = _shares(places, keyword, similarity, weights)
    best: dict[tuple[str, int], float] = {}
    for place in places:
        group = _group(place)
        best[group] = max(best.get(group, 0.0), shares[place.item])
    most = 1 + weights.group + weights.source
    scores = {
        place.item: (
            shares[place.item] + weights.group * best[_group(place)] + weights.source * _named(place.source, words)
        )
        / most
        for place in places
    }
    by_word = _places({item: score for item, score in keyword.items() if score > 0})
    by_meaning = _places(similarity)
    order = sorted(scores, key=lambda item: (-scores[item], item))
    return [Ranked(item, scores[item], by_word.get(item), by_meaning.get(item), similarity.get(item)) for item in order]


def _shares(
    places: Sequence[Place], keyword: Mapping[int, float], similarity: Mapping[int, float], weights: Weights
) -> dict[int, float]:
    most_words = max(keyword.values(), default=0.0)
    most_near = max(similarity.values(), default=0.0)
    meaning = weights.meaning if most_words > 0 and most_near > 0 else float(most_near > 0)
    shares = {}
    for place in places:
        by_word = keyword.get(place.item, 0.0) / most_words if most_words > 0 else 0.0
        near = similarity.get(place.item)
        by_meaning = by_word if near is None or most_near <= 0 else max(0.0, near / most_near)
        shares[place.item] = (1 - meaning) * by_word + meaning * by_meaning
    return shares


def _group(place: Place) -> tuple[str, int]:
    if place.thread is not None:
        return "thread", place.thread
    return ("item", place.item) if place.document is None else ("document", place.document)


def _named(source: str | None, words: frozenset[str]) -> bool:
    if not source:
        return False
    name = [word.casefold() for word in _WORD.findall(source[:256])]
    return 0 < len(name) <= _SOURCE_WORDS and words.issuperset(name)


def _places(scores: Mapping[int, float]) -> dict[int, int]:
    order = sorted(scores, key=lambda item: (-scores[item], item))
    return {item: place for place, item in enumerate(order, 1)}
