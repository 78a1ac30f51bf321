"""The table of preflight.yml: what an operator reads about a whole inventory."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pinch_fleet.glance import Row, as_json, as_markdown, as_text, make_rows

PLAN = {
    "tier": "full",
    "memory_mb": 3790,
    "nominal_mb": 4096,
    "left_mb": 2263,
    "budget_mb": {"pinch.service": 120, "zram": 947, "host": 300},
}
TIGHT = {**PLAN, "tier": "minimal", "memory_mb": 430, "left_mb": -217, "budget_mb": {"pinch.service": 50, "zswap": 7}}
LOST = {"unreachable": True, "msg": "ssh: connect to host\n 192.0.2.9: Connection refused"}


def fleet() -> list[Row]:
    variables: dict[str, dict[str, Any]] = {
        "kitchen": {"preflight_plan": PLAN, "fleet_reached": {"changed": False}},
        "attic": {"preflight_plan": TIGHT, "fleet_refusal": "it does not add up"},
        "cellar": {"fleet_reached": LOST},
        "loft": {"fleet_refusal": "variable swap_sise_mb is not known"},
    }
    return make_rows(variables, variables)


def test_every_host_has_a_row_in_the_order_of_the_inventory() -> None:
    rows = fleet()
    assert [(row.host, row.verdict) for row in rows] == [
        ("kitchen", "fits"),
        ("attic", "refused"),
        ("cellar", "not reached"),
        ("loft", "refused"),
    ]
    assert rows[2].reason == "ssh: connect to host 192.0.2.9: Connection refused"


def test_columns_are_aligned_and_summed() -> None:
    lines = as_text(fleet()).splitlines()
    head, kitchen, attic, cellar, _, total = lines[:6]
    assert head.split()[:5] == ["host", "tier", "MemTotal", "nominal", "pinch.service"]
    for column in ("MemTotal", "pinch.service", "left"):
        end = head.index(column) + len(column)
        assert all(line[end - 1] != " " and line[end : end + 1] in {"", " "} for line in (kitchen, attic, total))
    assert total.split()[4:] == ["4220", "8192", "170", "947", "300", "7", "2046"]
    assert cellar.split() == ["cellar", "not", "reached"]
    assert lines[-1] == "4 hosts: 1 fit, 2 refused, 1 not reached"
    assert "attic: it does not add up" in lines


def test_a_host_of_which_nothing_is_known_does_not_pass() -> None:
    (row,) = make_rows(["attic"], {"attic": {}})
    assert row.verdict == "refused"
    assert "said nothing" in row.reason


def test_machines_get_the_same_as_people() -> None:
    said = json.loads(as_json(fleet()))
    assert said["totals"] == {"fits": 1, "refused": 2, "not reached": 1}
    assert said["hosts"][0]["budget_mb"] == PLAN["budget_mb"]


def test_hostile_words_stay_words() -> None:
    refusal = "<script>|`x`\x1b[31m\n# head"
    row = make_rows(["a"], {"a": {"fleet_refusal": refusal}})
    markdown, text = as_markdown(row), as_text(row)
    assert "\\<script\\>\\|\\`x\\`" in markdown
    assert "\x1b" not in markdown + text
    assert not [line for line in markdown.splitlines() if line.startswith("# head")]


@given(st.lists(st.tuples(st.text(), st.text()), max_size=5))
def test_the_table_has_one_line_a_host_whatever_they_are_called(hosts: list[tuple[str, str]]) -> None:
    rows = [Row(name, "refused", reason, "", None, None, None, {}) for name, reason in hosts]
    table, _, _ = as_text(rows).partition("\n\n")
    assert len(table.split("\n")) == len(rows) + 2
