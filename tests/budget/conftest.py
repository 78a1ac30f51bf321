"""The corpus on the board, and the board's own store back afterwards."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pinch.tiers import Tier

from tests.appliance import Board
from tests.budget.scenario import corpus_loaded
from tests.corpus.snapshot import Built, build


@pytest.fixture(scope="module")
def tier(board: Board) -> Tier:
    """The tier that the board runs in."""
    return board.tier


@pytest.fixture(scope="module")
def corpus(tier: Tier) -> Built:
    """The 2,000 documents for this tier; where they cannot be had, what needs them fails."""
    return build(semantic=tier.semantic, tell=lambda line: print(line, file=sys.stderr, flush=True))


@pytest.fixture(scope="module")
def loaded(board: Board, corpus: Built, tier: Tier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Built]:
    """The corpus, loaded into the service; what was in the store before comes back at the end."""
    kept = Path(tmp_path_factory.mktemp("kept")) / "board.snapshot"
    with corpus_loaded(board, corpus, tier, kept):
        yield corpus
