"""The order of hits: words and meaning both count, neighbours help, and nothing exact is hidden."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pinch.memory import memories, query, rows
from pinch.memory.candidates import CANDIDATES, Scope, gather, holders
from pinch.memory.memories import NewMemory
from pinch.memory.ranking import Place, Weights, inverse_frequency, rank, reach, turn_scores

NONE = frozenset[str]()
scores = st.dictionaries(st.integers(1, 30), st.floats(1e-6, 50), max_size=30)
cosines = st.dictionaries(st.integers(1, 30), st.floats(-1, 1), max_size=30)


@pytest.fixture
def store() -> Iterator[apsw.Connection]:
    connection = apsw.Connection(":memory:")
    connection.execute(resources.files("pinch.memory").joinpath("schema.sql").read_text("utf-8"))
    yield connection
    connection.close()


def remember(
    store: apsw.Connection, *texts: str, thread: str | None = None, space: str = "home", source: str = ""
) -> None:
    new = [NewMemory(text, space, thread=thread, source=source or None) for text in texts]
    memories.remember(store, new, now=0)


def recall(store: apsw.Connection, text: str, space: str | None = "home") -> list[str]:
    scope = Scope(None if space is None else rows.space_id(store, space))
    asked = query.read(text)
    found = gather(store, asked, scope)
    order = rank(found.places, found.keyword, found.similarity, asked.words, Weights())
    return [store.execute("SELECT text FROM texts WHERE id = ?", (one.item,)).get for one in order]


# the formula


@settings(deadline=None)
@given(scores, cosines)
def test_every_item_is_ranked_once_between_0_and_1(keyword: dict[int, float], similarity: dict[int, float]) -> None:
    places = [Place(item, thread=item % 3 or None, seq=item) for item in sorted({*keyword, *similarity})]
    ranked = rank(places, keyword, similarity, NONE, Weights())
    assert sorted(one.item for one in ranked) == [place.item for place in places]
    assert all(0 <= one.score <= 1 for one in ranked)
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)


@settings(deadline=None)
@given(scores, cosines)
def test_reasons_are_the_places_by_words_and_by_meaning(
    keyword: dict[int, float], similarity: dict[int, float]
) -> None:
    places = [Place(item) for item in sorted({*keyword, *similarity})]
    for one in rank(places, keyword, similarity, NONE, Weights()):
        assert (one.keyword_rank is None) == (one.item not in keyword)
        assert (one.semantic_rank is None) == (one.item not in similarity)
        assert one.similarity == similarity.get(one.item)
        if one.keyword_rank == 1:
            assert keyword[one.item] == max(keyword.values())
        if one.semantic_rank == 1:
            assert similarity[one.item] == max(similarity.values())


@settings(deadline=None)
@given(scores)
def test_words_alone_keep_their_order(keyword: dict[int, float]) -> None:
    ranked = rank([Place(item) for item in keyword], keyword, {}, NONE, Weights())
    assert [one.item for one in ranked] == sorted(keyword, key=lambda item: (-keyword[item], item))


@settings(deadline=None)
@given(cosines.filter(lambda found: any(value > 0 for value in found.values())))
def test_the_best_keyword_hit_beats_whatever_shares_no_word(similarity: dict[int, float]) -> None:
    exact = 31
    items = [*similarity, exact]
    for near in ({}, {exact: 0.0}, {exact: -1.0}):
        ranked = rank([Place(item) for item in items], {exact: 3.0}, {**similarity, **near}, NONE, Weights())
        assert ranked[0].item == exact


def test_an_item_without_a_vector_yet_is_judged_by_its_words() -> None:
    ranked = rank([Place(1), Place(2)], {1: 5.0, 2: 4.0}, {2: 0.9}, NONE, Weights())
    assert ranked[0].item == 1
    assert ranked[0].similarity is None


def test_a_thread_lends_its_best_to_the_others() -> None:
    places = [Place(1, thread=7, seq=0), Place(2, thread=7, seq=9), Place(3, thread=8, seq=0)]
    ranked = rank(places, {1: 4.0, 2: 1.0, 3: 1.0}, {}, NONE, Weights())
    assert [one.item for one in ranked] == [1, 2, 3]


def test_a_source_that_the_query_names_comes_first() -> None:
    places = [Place(1, source="Ben"), Place(2, source="Ada Byron"), Place(3, source="https://example.org/ada/byron/x")]
    words = frozenset({"what", "did", "ada", "byron", "say"})
    assert [one.item for one in rank(places, {1: 1.0, 2: 1.0, 3: 1.0}, {}, words, Weights())] == [2, 1, 3]


@settings(deadline=None)
@given(st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_rarer_term_is_worth_more(total: int, frequency: int) -> None:
    frequency = min(frequency, total)
    assert inverse_frequency(total, frequency) > 0
    assert inverse_frequency(total, frequency) >= inverse_frequency(total, min(total, frequency + 1))


def test_terms_of_neighbours_count_less_with_distance_and_not_across_threads() -> None:
    positions = [(1, 0), (1, 1), (1, 2), (1, 3), (2, 1)]
    found = turn_scores(positions, [{(1, 0)}], [1.0], Weights())
    assert found[1, 0] > found[1, 1] > found[1, 2] > found[1, 3] == found[2, 1] == 0
    assert found[1, 0] == pytest.approx(1.0)


def test_two_terms_in_two_turns_beat_one_term_twice() -> None:
    split = turn_scores([(1, 1)], [{(1, 1)}, {(1, 0)}], [1.0, 1.0], Weights())[1, 1]
    same = turn_scores([(1, 1)], [{(1, 1), (1, 0)}, set()], [1.0, 1.0], Weights())[1, 1]
    assert split > same


def test_reach_is_as_far_as_neighbours_count() -> None:
    assert reach([(4, 10)], Weights()) == {(4, seq) for seq in range(8, 13)}
    assert reach([(4, 10)], Weights(around=())) == {(4, 10)}


# on a real index


def test_the_turn_that_answers_is_found_through_the_one_that_asks(store: apsw.Connection) -> None:
    remember(
        store, "Ada: good morning", "Ben: Where does Carol keep the spare key?", "Ada: Under the blue pot.", thread="a"
    )
    remember(store, "Ada: the pot is broken", "Ben: a pity", thread="b")
    hits = recall(store, "spare key Carol")
    assert hits[0] == "Ben: Where does Carol keep the spare key?"
    assert set(hits) == {hits[0], "Ada: Under the blue pot.", "Ada: good morning"}


@pytest.mark.parametrize("typed", ["水壺", "水壺 where", "👨‍👩‍👧‍👦"])
def test_what_the_index_has_no_word_of_is_found_in_the_text(store: apsw.Connection, typed: str) -> None:
    text = "我們把水壺放在左邊的架子上 👨‍👩‍👧‍👦"
    remember(store, "where is it", text, "我們", "👩")
    assert text in recall(store, typed)
    remember(store, text, space="work")
    assert recall(store, typed).count(text) == 1


def test_memories_outside_a_thread_are_no_context(store: apsw.Connection) -> None:
    remember(store, "The spare key", "Unrelated")
    assert recall(store, "spare") == ["The spare key"]


def test_other_spaces_are_no_context_and_no_hits(store: apsw.Connection) -> None:
    remember(store, "spare key", space="work", thread="a")
    remember(store, "spare tyre", thread="a")
    assert recall(store, "spare key") == ["spare tyre"]
    assert set(recall(store, "spare key", space=None)) == {"spare key", "spare tyre"}


def test_a_small_space_is_searched_whole_beside_a_large_one(store: apsw.Connection) -> None:
    remember(store, *(f"pebble {number} on the beach" for number in range(10 * CANDIDATES)), space="large")
    remember(store, "one pebble among so many other stones that its rank in the whole store is low")
    assert len(recall(store, "pebble")) == 1


def test_a_word_that_is_everywhere_hides_no_rare_one(store: apsw.Connection) -> None:
    remember(store, *(f"common common common text {number}" for number in range(5 * CANDIDATES)))
    remember(store, "a rare text " + "with many words " * 50)
    assert recall(store, "common rare")[0].startswith("a rare text")


@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["ab", "cd", "ef", "gh", "ij"]), min_size=1, max_size=12),
    st.sampled_from(["ab", "cd", "ef", "gh", "ij"]),
)
def test_every_text_with_the_word_is_a_hit(texts: list[str], word: str) -> None:
    connection = apsw.Connection(":memory:")
    connection.execute(resources.files("pinch.memory").joinpath("schema.sql").read_text("utf-8"))
    remember(connection, *(f"{text} {number}" for number, text in enumerate(texts)), thread="a")
    expected = {f"{text} {number}" for number, text in enumerate(texts) if text == word}
    assert expected <= set(recall(connection, word))
    assert recall(connection, word)[: len(expected)] or not expected


def test_a_common_term_is_looked_for_only_where_it_counts(store: apsw.Connection) -> None:
    remember(store, *[f"kettle {number}" for number in range(500)], thread="years")
    assert holders(store, ["kettle", "7"], {(1, 6): 7, (1, 7): 8}) == [{(1, 6), (1, 7)}, {(1, 7)}]
