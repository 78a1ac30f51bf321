"""What a model is shown of a session: within its window, the newest first, and nothing a provider would refuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.agents.conversation import RECALLED, build, recalled
from pinch.agents.journal import Entry
from pinch.memory.chunking import estimate_tokens
from pinch.memory.search import Hit, Why

from tests.provider.conversation import objection

WORDS = st.lists(st.sampled_from(["kettle", "a", "水壺", "don't", "=", "internationalisation"]), max_size=30).map(
    " ".join
)

WHY = Why(1, None, None)


def user(run: str, text: str = "the kettle") -> Entry:
    return Entry("user", run, 0, text)


def answer(run: str, text: str = "on the shelf") -> Entry:
    return Entry("assistant", run, 0, text)


def calls(run: str, *names: str) -> Entry:
    return Entry("assistant", run, 0, "", {"calls": [{"id": name, "name": "x", "arguments": "{}"} for name in names]})


def result(run: str, name: str, text: str = "found") -> Entry:
    return Entry("tool", run, 0, text, {"call": name, "name": "x"})


def end(run: str) -> Entry:
    return Entry("end", run, 0, "", {"state": "final"})


def hit(text: str, number: int = 1) -> Hit:
    return Hit(f"m{number}", "memory", text, 1.0, None, None, "2026-01-01T00:00:00Z", [], None, None, WHY)


def shown(entries: Sequence[Entry], run: str, **options: Any) -> list[Mapping[str, Any]]:
    given: dict[str, Any] = {"instructions": "Be brief.", "hits": [], "tokens": 6000, "recall_tokens": 1000, **options}
    messages = build(entries, run, **given)
    assert not objection({"model": "m", "messages": messages}), messages
    return messages


def told(messages: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in messages]


def weight(messages: Sequence[Mapping[str, Any]]) -> int:
    return sum(
        4 + estimate_tokens(message["content"]) + sum(estimate_tokens(str(c)) for c in message.get("tool_calls", []))
        for message in messages
    )


@settings(deadline=None)
@given(st.lists(st.tuples(WORDS, WORDS), max_size=12), WORDS, st.integers(256, 800))
def test_the_newest_whole_runs_come_as_far_as_the_window_goes(
    runs: list[tuple[str, str]], last: str, tokens: int
) -> None:
    entries = []
    for number, (question, reply) in enumerate(runs):
        entries += [user(str(number), question), answer(str(number), reply), end(str(number))]
    entries.append(user("last", last))
    messages = shown(entries, "last", tokens=tokens)
    assert messages[0] == {"role": "system", "content": "Be brief."}
    assert messages[-1] == {"role": "user", "content": last}
    whole = [pair for run in runs for pair in (("user", run[0]), ("assistant", run[1]))]
    earlier = told(messages[1:-1])
    assert earlier == whole[len(whole) - len(earlier) :]
    assert len(earlier) % 2 == 0, "a run is shown whole or not"
    assert weight(messages) <= tokens
    if len(earlier) < len(whole):
        before = whole[len(whole) - len(earlier) - 2 :][:2]
        assert weight(messages) + sum(4 + estimate_tokens(text) for _, text in before) > tokens


def test_the_run_itself_and_the_instructions_are_there_however_long_they_are() -> None:
    entries = [user("a"), answer("a"), user("b", "kettle " * 1000)]
    messages = shown(entries, "b", tokens=256, instructions="Be brief. " * 200)
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"] == "kettle " * 1000


def test_no_instructions_are_no_message() -> None:
    assert told(shown([user("a")], "a", instructions="")) == [("user", "the kettle")]


def test_interleaved_runs_are_each_in_one_piece_in_the_order_in_which_they_began() -> None:
    entries = [
        user("a", "1"),
        user("b", "2"),
        user("c", "3"),
        answer("a", "one"),
        end("a"),
        answer("b", "two"),
        end("b"),
    ]
    assert told(shown(entries, "c"))[1:] == [
        ("user", "1"),
        ("assistant", "one"),
        ("user", "2"),
        ("assistant", "two"),
        ("user", "3"),
    ]
    assert told(shown(entries, "b"))[1:] == [("user", "1"), ("assistant", "one"), ("user", "2"), ("assistant", "two")]
    assert told(shown(entries, "a"))[1:] == [("user", "1"), ("assistant", "one")], "what came later is not shown"


@pytest.mark.parametrize(
    ("rounds", "roles"),
    [
        ([calls("a", "1", "2"), result("a", "1"), result("a", "2")], "assistant tool tool"),
        ([calls("a", "1", "2"), result("a", "2"), result("a", "1")], "assistant tool tool"),
        ([calls("a", "1", "2"), result("a", "1")], ""),
        ([calls("a", "1")], ""),
        ([result("a", "1")], ""),
        ([calls("a", "1"), answer("a"), result("a", "1")], "assistant"),
        ([calls("a", "1"), result("a", "1"), result("a", "1")], "assistant tool"),
        ([calls("a", "1", "1"), result("a", "1"), result("a", "1")], ""),
        ([calls("a", "1"), result("a", "1"), result("a", "other")], "assistant tool"),
        ([calls("a", "0"), result("a", "0"), calls("a", "0")], "assistant tool"),
        ([calls("a", "0"), result("a", "0"), calls("a", "0"), result("a", "0")], "assistant tool assistant tool"),
        ([calls("a", "0"), calls("a", "0"), result("a", "0")], "assistant tool"),
        (
            [calls("a", "1", "2"), result("a", "1"), Entry("resumed", "a", 0), calls("a", "3"), result("a", "3")],
            "assistant tool",
        ),
        ([result("a", "1"), calls("a", "1")], ""),
    ],
)
def test_calls_without_all_their_results_are_left_out(rounds: list[Entry], roles: str) -> None:
    own = shown([user("a"), *rounds], "a")
    assert [message["role"] for message in own] == ["system", "user", *roles.split()]
    earlier = shown([user("a"), *rounds, user("b")], "b")
    assert [message["role"] for message in earlier] == ["system", "user", *roles.split(), "user"]


@settings(deadline=None)
@given(
    st.lists(
        st.one_of(
            st.builds(user, st.sampled_from("ab")),
            st.builds(answer, st.sampled_from("ab"), st.sampled_from(["", "yes"])),
            st.builds(calls, st.sampled_from("ab"), st.sampled_from("12")),
            st.builds(calls, st.sampled_from("ab"), st.sampled_from("12"), st.sampled_from("123")),
            st.builds(result, st.sampled_from("ab"), st.sampled_from("123")),
            st.builds(end, st.sampled_from("ab")),
            st.builds(lambda run: Entry("resumed", run, 0), st.sampled_from("ab")),
        ),
        max_size=14,
    )
)
def test_whatever_a_file_holds_a_provider_takes_it(entries: list[Entry]) -> None:
    for run in ("a", "b", "gone"):
        shown(entries, run, tokens=300)


@settings(deadline=None)
@given(st.lists(st.text(max_size=300) | WORDS, max_size=8), st.integers(0, 300))
def test_memories_stay_within_their_share(texts: list[str], tokens: int) -> None:
    told = recalled([hit(text, number) for number, text in enumerate(texts)], tokens)
    assert estimate_tokens(told) <= tokens
    if told:
        assert told.startswith(RECALLED)
        assert "[m0]" in told


def test_the_best_memory_comes_first_and_the_last_is_cut() -> None:
    text = recalled([hit("the kettle", 1), hit("teapots everywhere " * 200, 2), hit("never", 3)], 120)
    assert "[m1] 2026-01-01\nthe kettle" in text
    assert "[m2] 2026-01-01\nteapots" in text
    assert text.endswith("…")
    assert recalled([], 1000) == recalled([hit("x")], 0) == ""


def test_memories_follow_the_instructions_and_count_against_the_window() -> None:
    entries = [user("a", "kettle " * 120), answer("a"), user("b")]
    assert len(shown(entries, "b", tokens=256)) == 4
    messages = shown(entries, "b", tokens=256, hits=[hit("teapot " * 400)], recall_tokens=200)
    assert messages[0]["content"].startswith(f"Be brief.\n\n{RECALLED}")
    assert [message["role"] for message in messages] == ["system", "user"]
