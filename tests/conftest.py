"""What all suites share: the reports, the board and the figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from testinfra.host import Host

from tests.appliance import Board
from tests.fleet.about import PREFIX as ABOUT
from tests.fleet.about import describe
from tests.report import Figures, pytest_addoption, pytest_configure

__all__ = ["pytest_addoption", "pytest_configure"]


@pytest.fixture(scope="session")
def introduced(record_testsuite_property: Callable[[str, object], None]) -> Callable[[Board], None]:
    """Write down once what a board is."""
    known: set[str] = set()

    def introduce(board: Board) -> None:
        name = board.variables["inventory_hostname"]
        if name not in known:
            known.add(name)
            for what, value in describe(board).items():
                record_testsuite_property(f"{ABOUT}: {what}", value)

    return introduce


@pytest.fixture(scope="module")
def board(host: Host, introduced: Callable[[Board], None]) -> Iterator[Board]:
    """The board under test, one for each host of the inventory."""
    board = Board(host)
    board.await_service()
    introduced(board)
    yield board
    board.close()


@pytest.fixture
def figures(record_property: Callable[[str, object], None]) -> Figures:
    """Where a test puts what it measured."""
    return Figures(record_property)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> object:
    """Add the unit's journal to a failure: it mostly says why."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    board = getattr(item, "funcargs", {}).get("board")
    if report.when == "call" and report.failed and isinstance(board, Board):
        report.sections.append(("journal of pinch.service", board.journal()))
