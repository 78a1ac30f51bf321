"""What Prometheus scrapes: counts that add up, and the ledger."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from service.tests.serving import Service


def scrape(service: Service) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    answer = service.call("GET", "/metrics")
    assert answer.status == 200
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(answer.content.decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return found


def test_each_answer_is_counted_once_in_every_place(minimal: Service) -> None:
    key = (("route", "/v1/budget"), ("status", "200"))
    before = scrape(minimal).get("pinch_requests_total", {}).get(key, 0)
    for _ in range(3):
        minimal.get("/v1/budget")
    after = scrape(minimal)
    assert after["pinch_requests_total"][key] == before + 3
    route = ("route", "/v1/budget")
    endless = after["pinch_request_seconds_bucket"][tuple(sorted((route, ("le", "+Inf"))))]
    assert endless == after["pinch_request_seconds_count"][(route,)] >= 3
    assert after["pinch_request_seconds_sum"][(route,)] > 0


def test_the_ledger_is_among_them(minimal: Service) -> None:
    found = scrape(minimal)
    budget = minimal.get("/v1/budget")
    limits = {account["name"]: account["limit_bytes"] for account in budget["accounts"]}
    assert {key[0][1]: value for key, value in found["pinch_account_limit_bytes"].items()} == limits
    assert found["pinch_anonymous_bytes"][()] > 0
