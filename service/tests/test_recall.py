"""Recall: what was stored is found, and only where it should be."""

from __future__ import annotations

import pytest

from service.tests.serving import Service

EXACT = [
    'quote " inside', "star* and star", "NEAR(a b)", "AND", "OR NOT", "col:umn", "-minus", "^caret", "{curly} [square]",
    "a-b_c.d/e\\f", "C++", "user@example.org", "192.168.0.17", "v1.2.3-rc4", "don't", "naïve café", "Straße",
    "שלום", "مرحبا بالعالم", "水壺", "東京都", "ภาษาไทย", "한국어", "🫖", "👨‍👩‍👧‍👦", "%s", "; DROP TABLE items; --",
    "\u202eabc", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("text", EXACT)
@pytest.mark.parametrize("mode", ["keyword", "hybrid"])
def test_what_is_typed_exactly_as_stored_is_found(minimal: Service, space: str, text: str, mode: str) -> None:
    for number in range(3):
        minimal.remember(f"something else altogether {number}", space=space)
    minimal.remember(text, space=space)
    assert text in minimal.texts(text, space=space, mode=mode)


@pytest.mark.parametrize("text", EXACT)
def test_it_is_found_with_a_model_too(full: Service, space: str, text: str) -> None:
    full.remember("something else", space=space)
    full.remember(text, space=space)
    assert text in full.texts(text, space=space)


@pytest.mark.parametrize(
    ("stored", "typed"),
    [
        ("The blue kettle stands on the shelf", "kettle"),
        ("The blue kettle stands on the shelf", "KETTLE"),
        ("Er trank Kaffee im Café", "cafe"),
        ("hello,world", "world"),
        ("我們把水壺放在左邊的架子上", "水壺"),
        ("昨日、東京で会議がありました", "東京"),
        ("the word kettle at its end: zyzzyva", "zyzzyva"),
    ],
)
def test_a_word_of_a_longer_text_is_found(minimal: Service, space: str, stored: str, typed: str) -> None:
    minimal.remember(stored, space=space)
    assert minimal.texts(typed, space=space, mode="keyword") == [stored]


def test_a_hit_says_where_it_comes_from_and_why(full: Service, space: str) -> None:
    memory = full.remember("The kettle stands on the left shelf.", space=space, tags=["b", "a"], source="chat")
    full.put("notes/kitchen.md", b"# Kitchen\n\nThe kettle boils within two minutes.\n", space)
    full.embedded()
    answer = full.recall("kettle", space=space)
    assert (answer["mode"], answer["degraded"]) == ("hybrid", False)
    hits = {hit["kind"]: hit for hit in answer["hits"]}
    assert set(hits) == {"memory", "chunk"}
    keys = {"id", "kind", "text", "score", "source", "thread", "at", "tags", "path", "lines", "why"}
    assert all(set(hit) == keys for hit in answer["hits"])
    assert (hits["memory"]["id"], hits["memory"]["tags"], hits["memory"]["source"]) == (memory, ["a", "b"], "chat")
    assert (hits["memory"]["path"], hits["memory"]["lines"]) == (None, None)
    assert (hits["chunk"]["path"], hits["chunk"]["lines"]) == ("notes/kitchen.md", [1, 3])
    for hit in answer["hits"]:
        assert {"keyword_rank", "semantic_rank", "similarity"} <= set(hit["why"])
        assert hit["why"]["keyword_rank"] in {1, 2}
        assert hit["why"]["semantic_rank"] in {1, 2}
        assert 0 < hit["why"]["similarity"] <= 1


def test_a_meaning_is_found_without_any_common_word(full: Service, space: str) -> None:
    wanted = "My sister is allergic to peanuts."
    for text in (wanted, "The train to Hamburg leaves at nine.", "The router's password was changed in May."):
        full.remember(text, space=space)
    full.embedded()
    answer = full.recall("which foods must be avoided at dinner", space=space, mode="semantic")
    assert answer["hits"][0]["text"] == wanted
    assert answer["hits"][0]["why"]["keyword_rank"] is None
    assert answer["mode"] == "semantic"


def test_spaces_do_not_see_each_other(full: Service, space: str) -> None:
    other = space + "-other"
    full.remember("the passphrase is opensesame", space=space)
    full.remember("the passphrase is shibboleth", space=other)
    full.put("secret.md", b"the passphrase is swordfish\n", other)
    full.embedded()
    for mode in ("hybrid", "keyword", "semantic"):
        assert full.texts("passphrase", space=space, mode=mode) == ["the passphrase is opensesame"]
        assert len(full.texts("passphrase", space=other, mode=mode)) == 2
        assert full.texts("passphrase", space="unknown-" + space, mode=mode) == []
        assert len(full.texts("the passphrase is", k=100, mode=mode)) >= 3, "without a space all are searched"


def test_a_hit_carries_all_the_tags_asked_for(full: Service, space: str) -> None:
    full.remember("kettle one", space=space, tags=["a"])
    full.remember("kettle two", space=space, tags=["a", "b"])
    full.remember("kettle three", space=space, tags=["b"])
    full.put("kettle.md", b"kettle four\n", space)
    full.embedded()
    for mode in ("hybrid", "keyword", "semantic"):
        assert full.texts("kettle", space=space, tags=["a", "b"], mode=mode) == ["kettle two"]
        assert set(full.texts("kettle", space=space, tags=["b"], mode=mode)) == {"kettle two", "kettle three"}
        assert full.texts("kettle", space=space, tags=["unknown"], mode=mode) == []


@pytest.mark.parametrize("tier", ["minimal", "full"])
def test_a_turn_brings_its_neighbours_forward(request: pytest.FixtureRequest, space: str, tier: str) -> None:
    service: Service = request.getfixturevalue(tier)
    turns = ["Where did you put the zymurgy handbook?", "Behind the big clock.", "Thanks, found it!"]
    for turn in turns:
        service.remember(turn, space=space, thread="t")
    for number in range(30):
        service.remember(f"Unrelated remark number {number} on the weather.", space=space, thread=f"u{number}")
    service.embedded()
    found = service.texts("zymurgy handbook", space=space, k=6)
    assert found[0] == turns[0]
    assert turns[1] in found, "the answer stands beside the question"


def test_no_more_than_k_hits_and_the_best_first(minimal: Service, space: str) -> None:
    for number in range(12):
        minimal.remember(f"kettle {number}", space=space)
    assert len(minimal.texts("kettle", space=space)) == 6
    for k in (1, 5, 12, 100):
        hits = minimal.recall("kettle", space=space, k=k)["hits"]
        assert len(hits) == min(k, 12)
        assert [hit["score"] for hit in hits] == sorted((hit["score"] for hit in hits), reverse=True)
        assert len({hit["id"] for hit in hits}) == len(hits)


def test_an_empty_space_has_no_hits(minimal: Service, full: Service, space: str) -> None:
    assert minimal.recall("anything", space=space) == {"hits": [], "mode": "keyword", "degraded": False}
    assert full.recall("anything", space=space) == {"hits": [], "mode": "hybrid", "degraded": False}


def test_the_smallest_tier_answers_by_word_and_says_so(minimal: Service, space: str) -> None:
    minimal.remember("kettle", space=space)
    for mode in ("hybrid", "keyword"):
        answer = minimal.recall("kettle", space=space, mode=mode)
        assert (answer["mode"], answer["degraded"]) == ("keyword", False)
        assert len(answer["hits"]) == 1
        assert answer["hits"][0]["why"]["semantic_rank"] is None
    refused = minimal.call("POST", "/v1/recall", {"query": "kettle", "mode": "semantic"})
    assert refused.status == 409
    assert "no embedding model" in refused.error["message"]


@pytest.mark.parametrize(
    "query", ["???", '"', "*", "-", "🫥🫥", " ", "\u200b", "NEAR(", "()", "AND OR NOT", "a" * 8192]
)
@pytest.mark.parametrize("tier", ["minimal", "full"])
def test_any_query_gets_an_answer(request: pytest.FixtureRequest, space: str, tier: str, query: str) -> None:
    service: Service = request.getfixturevalue(tier)
    service.remember("kettle", space=space)
    assert service.recall(query, space=space)["degraded"] is False
