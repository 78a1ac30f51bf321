"""How fast the board answers, against what its SQLite and its imports cost alone.

Absolute times of an emulated board are not a board's; the ratios are what is asserted.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from pinch.tiers import Tier

from tests.appliance import RELEASE, STATE, TOKENS, UNIT, Board
from tests.corpus.snapshot import Built
from tests.report import Figures

ONBOARD = Path(__file__).resolve().parent.parent / "onboard"
PACKAGES = f"{RELEASE}/lib"
KEYWORD_RATIO = 2.0
START_RATIO = 1.3


@pytest.fixture(autouse=True)
def fresh(board: Board, loaded: Built) -> None:
    """The corpus is in the store, and nothing else is going on."""
    board.restart()
    board.await_service()


def test_keyword_recall_costs_little_more_than_its_query(
    board: Board, loaded: Built, tier: Tier, figures: Figures
) -> None:
    address = ["--address", board.address.netloc, "--tokens", TOKENS, "--packages", PACKAGES]
    store = ["--store", f"{STATE}/pinch.db", "--cache-kb", str(tier.sqlite_cache_kb)]
    found = board.python(ONBOARD / "keyword.py", *address, *store, "--queries", board.push(loaded.queries))
    for name, milliseconds in (("keyword recall", found["recall_ms"]), ("bare FTS5 query", found["bare_ms"])):
        figures.add(f"{name}, median", milliseconds["p50"], "ms")
        figures.add(f"{name}, p99", milliseconds["p99"], "ms")
    figures.add("keyword recall / bare FTS5 query", found["ratio"], bound=f"≤ {KEYWORD_RATIO:g}")
    assert found["ratio"] <= KEYWORD_RATIO


def test_start_to_first_recall_costs_little_more_than_its_imports(board: Board, figures: Figures) -> None:
    found = board.python(
        ONBOARD / "start.py",
        *("--address", board.address.netloc, "--tokens", TOKENS, "--unit", UNIT),
        *("--release", RELEASE, "--state", STATE),
    )
    figures.add("bare imports of the third-party modules", found["imports"], "s")
    figures.add("start to first recall, page cache warm", found["process"], "s")
    figures.add("start of the unit, its sandbox included, to first recall", found["unit"], "s")
    ratio = found["process"] / found["imports"]
    figures.add("start to first recall / bare imports", ratio, bound=f"≤ {START_RATIO:g}")
    assert ratio <= START_RATIO
