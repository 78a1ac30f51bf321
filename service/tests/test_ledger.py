"""The ledger: what may be held, what is, and what happens when it cannot fit."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pinch.budget.ledger import Ledger, OverBudget
from pinch.budget.sampling import read_cgroup

from service.tests.serving import Service
from tests.running import ServiceError


@given(st.dictionaries(st.text(min_size=1, max_size=5), st.integers(0, 50_000), min_size=1), st.integers(1, 100))
def test_accounts_are_accepted_exactly_when_they_fit(accounts_kb: dict[str, int], budget_mb: int) -> None:
    if sum(accounts_kb.values()) <= budget_mb * 1024:
        ledger = Ledger.checked("small", budget_mb, accounts_kb)
        assert sum(ledger.limits.values()) <= ledger.budget_bytes
    else:
        with pytest.raises(OverBudget):
            Ledger.checked("small", budget_mb, accounts_kb)


def test_the_account_that_passes_the_budget_is_named() -> None:
    with pytest.raises(OverBudget, match=r"account sqlite does not fit: .* come to 12\.0 MB, and the budget is 10 MB"):
        Ledger.checked("small", 10, {"runtime": 8 * 1024, "sqlite": 4 * 1024})


def test_a_service_whose_budget_cannot_fit_does_not_start(tmp_path: Path) -> None:
    service = Service(tmp_path, PINCH_TIER="minimal", PINCH_BUDGET_MB="35")
    with pytest.raises(ServiceError, match=r"status 78:[\s\S]*account connections does not fit[\s\S]*budget is 35 MB"):
        service.start()


@pytest.mark.parametrize(
    ("setting", "account"),
    [("PINCH_GATEWAY_MAX_CONNECTIONS", "connections"), ("PINCH_GATEWAY_MAX_BODY_KB", "connections"),
     ("PINCH_EMBEDDING_QUERY_CACHE_KB", "query_cache")],
)  # fmt: skip
def test_a_setting_that_takes_more_than_its_account_has_to_fit_too(tmp_path: Path, setting: str, account: str) -> None:
    service = Service(tmp_path, PINCH_TIER="full", **{setting: "60000"})
    with pytest.raises(ServiceError, match=rf"status 78:[\s\S]*does not fit[\s\S]*{account} [0-9]{{2,}} MB"):
        service.start()


def test_the_budget_lists_every_account_and_adds_up(full: Service) -> None:
    body = full.get("/v1/budget")
    assert body["tier"] == "full"
    accounts = {account["name"]: account for account in body["accounts"]}
    assert set(accounts) == {"runtime", "sqlite", "connections", "ingest", "sessions", "bus", "model", "query_cache"}
    assert sum(account["limit_bytes"] for account in accounts.values()) <= body["budget_bytes"]
    used = sum(account["used_bytes"] for account in accounts.values())
    assert body["anonymous_bytes"] == used + body["unattributed_bytes"]
    assert body["rss_bytes"] == body["anonymous_bytes"] + body["mapped_bytes"]
    assert body["pressure_signal"] in {"psi", "memory.current", "meminfo"}


def test_a_cgroup_without_limits_is_read_as_such(tmp_path: Path) -> None:
    for name, text in {
        "memory.current": "4096",
        "memory.max": "max",
        "memory.high": "8192",
        "memory.events": "low 0\noom_kill 3",
    }.items():
        (tmp_path / name).write_text(text + "\n", "ascii")
    group = read_cgroup(tmp_path)
    assert (group.current_bytes, group.max_bytes, group.high_bytes) == (4096, None, 8192)
    assert (group.swap_bytes, group.oom_kill) == (0, 3)


def test_a_reading_before_the_start_has_settled_changes_nothing_later() -> None:
    ledger = Ledger.checked("small", 100, {"runtime": 50 * 1024, "sqlite": 1024})
    ledger.open("sqlite", lambda: 1000)
    early = {name: used for name, _, used in ledger.statement().accounts}
    ledger.settle_runtime()
    late = {name: used for name, _, used in ledger.statement().accounts}
    assert min(early["runtime"], late["runtime"]) > 4 * 1024 * 1024


def test_a_runtime_account_takes_what_nobody_else_claims() -> None:
    ledger = Ledger.checked("small", 100, {"runtime": 50 * 1024, "sqlite": 1024})
    ledger.open("sqlite", lambda: 1000)
    ledger.settle_runtime()
    statement = ledger.statement()
    assert {name: used for name, _, used in statement.accounts}["sqlite"] == 1000
    assert abs(statement.unattributed_bytes) < 8 * 1024 * 1024
