"""Counters for Prometheus, and the ledger as gauges.

The service counts in plain numbers and imports Prometheus' library when somebody asks: most boards are never scraped.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, cast

from pinch.budget.ledger import Ledger

if TYPE_CHECKING:
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

LATENCY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of the histogram's buckets, seconds; one more takes what is slower."""


class _Latency:
    def __init__(self) -> None:
        self.counts: list[int] = [0] * (len(LATENCY_BUCKETS_S) + 1)
        self.total_s = 0.0


class Metrics:
    """What the service counts."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._requests: dict[tuple[str, str], int] = {}
        self._latencies: dict[str, _Latency] = {}

    def count(self, route: str, status: int, seconds: float) -> None:
        """Count an answered request of a route."""
        key = (route, str(status))
        self._requests[key] = self._requests.get(key, 0) + 1
        latency = self._latencies.get(route)
        if latency is None:
            latency = self._latencies[route] = _Latency()
        latency.counts[bisect_left(LATENCY_BUCKETS_S, seconds)] += 1
        latency.total_s += seconds

    def text(self) -> bytes:
        """Return everything in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest

        registry = CollectorRegistry(auto_describe=False)
        registry.register(cast("Collector", self))
        return generate_latest(registry)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics, as Prometheus' library asks a collector to."""
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily("pinch_requests", "Answered requests.", labels=["route", "status"])
        for labels, count in list(self._requests.items()):
            requests.add_metric(labels, count)
        yield requests
        latencies = HistogramMetricFamily("pinch_request_seconds", "Time to answer.", labels=["route"])
        for route, latency in list(self._latencies.items()):
            bounds = [*map(str, LATENCY_BUCKETS_S), "+Inf"]
            buckets = list(zip(bounds, accumulate(latency.counts), strict=True))
            latencies.add_metric([route], buckets, latency.total_s)
        yield latencies
        yield from self._gauges()

    def _gauges(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

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
