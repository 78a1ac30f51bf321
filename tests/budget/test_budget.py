"""The budget: 2,000 documents, ten clients and live ingest for a minute, inside the tier's MemoryMax.

Nothing here is ever skipped: a board on which the budget cannot be tested has not proven it.
"""

from __future__ import annotations

import pytest
from pinch.tiers import MEBIBYTE, Tier

from tests.appliance import Board
from tests.budget.scenario import STEADY, Limits, Run, run_load, tier_limits
from tests.corpus.questions import load_questions
from tests.corpus.snapshot import Built
from tests.report import Figures

TOO_LITTLE = 0.6
"""Share of the limit under which the same load must fail, or the test would prove nothing."""
ANSWERED = {"minimal": 0.5, "light": 0.75, "full": 0.75}
"""Share of the questions whose document must be among the first hits; generous bounds."""


@pytest.fixture(scope="module")
def limits(board: Board, tier: Tier) -> Limits:
    """The unit's own limits, read back from the kernel."""
    found = tier_limits(board)
    assert found == Limits(tier.memory_high_mb * MEBIBYTE, tier.memory_max_mb * MEBIBYTE)
    return found


@pytest.fixture(scope="module")
def held(board: Board, loaded: Built, limits: Limits, tier: Tier) -> Run:
    """The load under the tier's limit."""
    return run_load(board, loaded, limits, tier)


def test_the_load_holds_under_the_limit(held: Run, tier: Tier, figures: Figures) -> None:
    held.tell(figures)
    assert held.breaches(tier) == []


def test_anonymous_memory_stays_within_the_tiers_figure(held: Run, tier: Tier, figures: Figures) -> None:
    bound = STEADY[tier.name]
    figures.add("anonymous, median", held.steady_anonymous / MEBIBYTE, "MB", f"≤ {bound} MB")
    figures.add("anonymous, peak", held.peak("anon") / MEBIBYTE, "MB")
    assert held.steady_anonymous <= bound * MEBIBYTE


def test_questions_find_their_documents_among_two_thousand(
    board: Board, loaded: Built, tier: Tier, figures: Figures
) -> None:
    least = ANSWERED[tier.name]
    questions = load_questions()
    found = {}
    with board.service() as client:
        for question in questions:
            answer = client.recall(question.text, k=6)
            assert not answer["degraded"]
            found[question.text] = {hit["path"] for hit in answer["hits"]} & set(question.documents)
    share = sum(map(bool, found.values())) / len(found)
    figures.add(
        f"questions whose document is among 6 hits of {loaded.chunks} chunks", share * 100, "%", f"≥ {least * 100:g} %"
    )
    assert share >= least, [text for text, paths in found.items() if not paths]


def test_the_same_load_fails_under_sixty_percent_of_the_limit(
    board: Board, loaded: Built, limits: Limits, tier: Tier, figures: Figures
) -> None:
    """Without this the green run proves nothing: it might measure the wrong group, or too little work."""
    run = run_load(board, loaded, limits.scaled(TOO_LITTLE), tier)
    run.tell(figures)
    assert run.memory_breaches() != []
