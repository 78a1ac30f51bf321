"""The ledger: accounts with limits, and what the kernel says the process really holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from pinch.budget.sampling import Sample, sample
from pinch.tiers import KIBIBYTE

RUNTIME = "runtime"
"""The account of the interpreter, its modules and all else that is there once the service has started."""


class OverBudget(ValueError):
    """The accounts cannot hold within the budget."""


def nothing() -> int:
    """Report no use, or release nothing."""
    return 0


class Account(NamedTuple):
    """A named part of the budget."""

    name: str
    limit: int
    """Bytes of anonymous memory it may hold."""
    used: Callable[[], int] = nothing
    """Bytes it holds now."""
    release: Callable[[], int] = nothing
    """Give up what can be made again; returns the bytes it expects back."""


class Statement(NamedTuple):
    """One reading of the whole ledger; everything in bytes."""

    tier: str
    budget_bytes: int
    accounts: tuple[tuple[str, int, int], ...]
    """Name, limit and use of each account."""
    sample: Sample

    @property
    def unattributed_bytes(self) -> int:
        """Anonymous memory that no account explains; negative where accounts claim too much."""
        return self.sample.anonymous_bytes - sum(used for _, _, used in self.accounts)


class Ledger:
    """The set of accounts."""

    def __init__(self, tier: str, budget_bytes: int, limits: Mapping[str, int]) -> None:
        self.tier = tier
        self.budget_bytes = budget_bytes
        self.limits = limits
        """Limit of each account there may be, bytes."""
        self.accounts: dict[str, Account] = {}

    @classmethod
    def checked(cls, tier: str, budget_mb: int, accounts_kb: Mapping[str, int]) -> Ledger:
        """Make a ledger whose accounts fit.

        Raises:
            OverBudget: names the account at which the sum passes the budget.
        """
        budget_kb = budget_mb * KIBIBYTE
        total = 0
        for name, limit in accounts_kb.items():
            total += limit
            if total > budget_kb:
                listed = ", ".join(f"{other} {kb // KIBIBYTE} MB" for other, kb in accounts_kb.items())
                raise OverBudget(
                    f"account {name} does not fit: the accounts of tier {tier} ({listed}) come to "
                    f"{sum(accounts_kb.values()) / KIBIBYTE:.1f} MB, and the budget is {budget_mb} MB; "
                    "raise PINCH_BUDGET_MB or pin a smaller tier"
                )
        return cls(tier, budget_kb * KIBIBYTE, {name: kb * KIBIBYTE for name, kb in accounts_kb.items()})

    def open(self, name: str, used: Callable[[], int], release: Callable[[], int] = nothing) -> Account:
        """Open the account `name`, whose limit the tier sets.

        Raises:
            KeyError: the tier has no such account.
        """
        account = Account(name, self.limits[name], used, release)
        self.accounts[name] = account
        return account

    def settle_runtime(self) -> None:
        """Book what the process holds now, and no other account claims, as the runtime's."""
        others = sum(account.used() for name, account in list(self.accounts.items()) if name != RUNTIME)
        taken = max(0, sample().anonymous_bytes - others)
        self.open(RUNTIME, lambda: taken)

    def statement(self) -> Statement:
        """Read every account and the kernel."""
        if RUNTIME not in self.accounts:
            self.settle_runtime()
        rows = tuple((name, account.limit, account.used()) for name, account in list(self.accounts.items()))
        return Statement(self.tier, self.budget_bytes, rows, sample())
