"""Counters for Prometheus, and the ledger as gauges."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import define, field
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pinch.budget.ledger import Ledger

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


@define(eq=False)
class _LedgerCollector(Collector):
    ledger: Ledger

    def collect(self) -> Iterator[Metric]:
        statement = self.ledger.statement()
        limit = GaugeMetricFamily("pinch_account_limit_bytes", "Limit of each account.", labels=["account"])
        used = GaugeMetricFamily("pinch_account_used_bytes", "Use of each account.", labels=["account"])
        for name, allowed, held in statement.accounts:
            limit.add_metric([name], allowed)
            used.add_metric([name], held)
        yield limit
        yield used
        held_now = statement.sample
        for name, text, value in (
            ("pinch_budget_bytes", "Anonymous memory the service may hold.", statement.budget_bytes),
            ("pinch_resident_bytes", "Resident memory.", held_now.rss_bytes),
            ("pinch_anonymous_bytes", "Resident anonymous memory.", held_now.anonymous_bytes),
            ("pinch_unattributed_bytes", "Anonymous memory no account explains.", statement.unattributed_bytes),
        ):
            yield GaugeMetricFamily(name, text, value)
        if held_now.cgroup is not None:
            yield GaugeMetricFamily(
                "pinch_cgroup_current_bytes", "Memory of the cgroup.", held_now.cgroup.current_bytes
            )
            yield GaugeMetricFamily("pinch_cgroup_oom_kills", "Processes killed for memory.", held_now.cgroup.oom_kill)


@define(eq=False)
class Metrics:
    """What the service counts."""

    ledger: Ledger
    registry: CollectorRegistry = field(factory=lambda: CollectorRegistry(auto_describe=False))
    requests: Counter = field(init=False)
    latency: Histogram = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.registry.register(_LedgerCollector(self.ledger))
        self.requests = Counter("pinch_requests", "Answered requests.", ["route", "status"], registry=self.registry)
        self.latency = Histogram(
            "pinch_request_seconds", "Time to answer.", ["route"], buckets=LATENCY_BUCKETS_S, registry=self.registry
        )

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self.registry)
