"""What a query becomes: always valid for the index, and never losing a word that was typed."""

from __future__ import annotations

import time
from collections.abc import Iterator

import apsw
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pinch.memory.query import READ_CHARACTERS, TERM_LIMIT, quoted, read, stop_words, terms

TOKENIZE = "porter unicode61 remove_diacritics 2"
HOSTILE = [
    '"', '""', "*", "a*", "NEAR(a b)", "a AND b", "NOT", "a OR", "(", "col:x", "^a", "a + b", "-", "'", "\\", "\0",
    "a\0b", "\ud800", "x\udfffy", "😀", "👩‍👩‍👧", "日本語の質問", "ملاحظة", "हिन्दी", "e\u0301", "\u0301", "\ue000",
    "{a}", "items_fts",
]  # fmt: skip

anything = st.text(st.characters(), max_size=200) | st.sampled_from(HOSTILE)
spoken = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)


@pytest.fixture(scope="module")
def index() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute(f"CREATE VIRTUAL TABLE index_of USING fts5 (text, tokenize = '{TOKENIZE}')")
    yield connection
    connection.close()


def found(index: apsw.Connection, query: str) -> set[str]:
    match = " OR ".join(quoted(term) for term in terms(query))
    if not match:
        return set()
    return {text for (text,) in index.execute("SELECT text FROM index_of WHERE index_of MATCH ?", (match,))}


def tokens(index: apsw.Connection, text: str) -> list[str]:
    """What the index itself makes of a text."""
    index.execute("DELETE FROM index_of")
    index.execute("INSERT INTO index_of VALUES (?)", (text,))
    index.execute("CREATE VIRTUAL TABLE IF NOT EXISTS vocabulary USING fts5vocab (index_of, instance)")
    return [term for (term,) in index.execute("SELECT term FROM vocabulary ORDER BY offset")]


@settings(deadline=None)
@given(anything)
@example("a" * 100_000)
@example("a-" * 50_000)
@example('"' * 100_000)
@example('"a' * 50_000)
@example("e\u0301" * 50_000)
@example("AND OR NOT NEAR " * 7_000)
def test_any_query_is_valid_for_the_index(index: apsw.Connection, query: str) -> None:
    for term in terms(query):
        index.execute("SELECT count(*) FROM index_of WHERE index_of MATCH ?", (quoted(term),)).fetchall()
    found(index, query)


@settings(deadline=None)
@given(anything)
def test_terms_are_few_distinct_and_without_quotes(query: str) -> None:
    of_query = terms(query)
    assert len(of_query) <= TERM_LIMIT
    assert len({term.casefold() for term in of_query}) == len(of_query)
    assert not any('"' in term or "\0" in term or not term.strip() for term in of_query)


@settings(deadline=None)
@given(spoken)
@example("the")
@example("I")
@example("state-of-the-art")
@example("don't")
@example("O'Brien's")
@example("x\ue000y")
@example("हिन्दी")
@example("cafe\u0301")
@example("ǅ")
@example("🏱")
@example("🫠")
def test_a_word_typed_as_stored_is_found(index: apsw.Connection, word: str) -> None:
    if " " in word or len(word.split()) != 1 or not tokens(index, word):
        return
    assert found(index, word) == {word}


@settings(deadline=None)
@given(st.lists(st.from_regex(r"[a-z]{3,12}", fullmatch=True), min_size=1, max_size=TERM_LIMIT))
def test_a_query_of_stop_words_keeps_them_and_another_drops_them(words: list[str]) -> None:
    told = [word for word in words if word not in stop_words()]
    assert terms(" ".join(words)) == tuple(dict.fromkeys(told or words))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("When did Caroline go to the support group?", ("Caroline", "go", "support", "group")),
        ("the who", ("the", "who")),
        ("Who works at WHO in the US?", ("works", "WHO", "US")),
        ("WHAT IS THE RENT", ("RENT",)),
        ("cats AND dogs NOT birds", ("cats", "dogs", "birds")),
        ("what is Anna's train to Prague", ("Anna", "train", "Prague")),
        ("vitamin D", ("vitamin", "D")),
        ("node-fetch 3.13.1", ("node-fetch", "3.13.1", "node", "fetch", "3", "13", "1")),
        ('the "white rabbit" again', ("white rabbit", "white", "rabbit")),
        ("snake_case", ("snake_case", "snake", "case")),
        ("?!… –", ()),
        ("party 🎉 tonight", ("🎉", "party", "tonight")),
        ("", ()),
    ],
)
def test_what_is_looked_for(query: str, expected: tuple[str, ...]) -> None:
    assert terms(query) == expected


def test_a_term_that_is_nothing_to_the_index_costs_no_other(index: apsw.Connection) -> None:
    tokens(index, "a party tonight")
    assert terms("🎉 party")[0] == "🎉"
    assert found(index, "🎉 party") == {"a party tonight"}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("where is 水壺?", ("水壺",)),
        ("水壺はどこですか", ("水壺はどこですか", "水壺")),
        ("서울에서 👨‍👩‍👧‍👦!", ("서울에서", "👨‍👩‍👧‍👦")),
        ("กาต้มน้ำ", ("กาต้มน้ำ",)),
        ("Café – naïve “ملاحظة” हिन्दी", ()),
        ("水" * 500, ()),
    ],
)
def test_what_is_looked_for_letter_by_letter(query: str, expected: tuple[str, ...]) -> None:
    assert read(query).literals == expected


def test_words_keep_what_terms_drop() -> None:
    assert read("What did Ada say?").words == {"what", "did", "ada", "say"}


@pytest.mark.parametrize("unit", ["a", "a-", "a ", '"a', "e\u0301", "a\u0903", "'s", "🙂", "日本"])
def test_a_long_query_costs_little(unit: str) -> None:
    begin = time.process_time()
    terms(unit * (100_000 // len(unit)))
    assert time.process_time() - begin < 2


def test_the_list_of_stop_words_is_clean() -> None:
    assert all(word == word.casefold() and word.isalpha() for word in stop_words())
    assert READ_CHARACTERS >= 8_192
