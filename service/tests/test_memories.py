"""Memories: what is kept, what is one and the same, and how a listing goes through all of them."""

from __future__ import annotations

from typing import Any

import pytest

from service.tests.serving import Service

ODD_TEXTS = [
    "🫖 family 👨‍👩‍👧‍👦 and a flag 🇩🇪",
    "שלום עולם, the kettle is على الرف",
    "水壺在左邊的架子上",
    "e\u0301 is not é, and \u202eright to left\u202c",
    "tabs\tand\r\nline ends\n\n  kept  ",
    " ",
    "\ufeffbyte order mark",
    "\x01\x02 control \x7f",
    "\U0010ffff",
    "x" * 65536,
]


def test_a_memory_comes_back_as_it_was_sent(minimal: Service, space: str) -> None:
    sent = {
        "text": "The kettle is on the left shelf.",
        "space": space,
        "tags": ["kitchen", "a b", "kitchen"],
        "source": "chat",
        "thread": "t-1",
        "at": "2026-05-01T14:00:00.250+02:00",
    }
    created = minimal.call("POST", "/v1/memories", sent)
    assert created.status == 201
    assert created.json["created"] is True
    public = created.json["id"]
    assert isinstance(public, str)
    found = minimal.get(f"/v1/memories/{public}")
    assert found.pop("created_at").endswith("Z")
    assert found == {
        "id": public,
        "text": sent["text"],
        "space": space,
        "tags": ["a b", "kitchen"],
        "source": "chat",
        "thread": "t-1",
        "at": "2026-05-01T12:00:00.250Z",
    }


@pytest.mark.parametrize("text", ODD_TEXTS, ids=range(len(ODD_TEXTS)))
def test_any_text_is_kept_byte_for_byte(minimal: Service, space: str, text: str) -> None:
    public = minimal.remember(text, space=space)
    assert minimal.get(f"/v1/memories/{public}")["text"] == text


def test_the_same_text_again_is_one_memory_and_its_tags_are_united(minimal: Service, space: str) -> None:
    first = minimal.call("POST", "/v1/memories", {"text": "one", "space": space, "tags": ["a", "b"]})
    again = minimal.call("POST", "/v1/memories", {"text": "one", "space": space, "tags": ["b", "c"]})
    assert (first.status, again.status) == (201, 200)
    assert again.json == {"id": first.json["id"], "created": False}
    assert minimal.get(f"/v1/memories/{first.json['id']}")["tags"] == ["a", "b", "c"]
    assert len(minimal.listed(space=space)) == 1


def test_another_space_or_thread_makes_another_memory(minimal: Service, space: str) -> None:
    places: list[dict[str, Any]] = [
        {"space": space},
        {"space": space + "-b"},
        {"space": space, "thread": "1"},
        {"space": space, "thread": "2"},
    ]
    assert len({minimal.remember("the same words", **place) for place in places}) == 4


def test_a_batch_keeps_its_order_and_finds_what_is_there(minimal: Service, space: str) -> None:
    known = minimal.remember("text 7", space=space)
    batch = [{"text": f"text {number}", "space": space} for number in [*range(255), 3]]
    answer = minimal.call("POST", "/v1/memories", {"memories": batch})
    assert answer.status == 201
    ids = answer.json["ids"]
    assert list(answer.json) == ["ids"]
    assert ids[7] == known
    assert ids[255] == ids[3], "the same text twice in one batch is one memory"
    texts = {memory["id"]: memory["text"] for memory in minimal.listed(space=space)}
    assert [texts[public] for public in ids] == [memory["text"] for memory in batch]


@pytest.mark.parametrize(
    ("bad", "status", "param"),
    [
        ({"text": ""}, 400, "memories[2].text"),
        ({"text": "x" * 65537}, 413, "memories[2].text"),
        ({"text": "x", "tags": [1]}, 400, "memories[2].tags[0]"),
        ({"text": "x", "at": "yesterday"}, 400, "memories[2].at"),
        ({"txt": "x"}, 400, "memories[2].txt"),
        ("x", 400, "memories[2]"),
    ],
)
def test_a_batch_with_one_fault_stores_nothing(minimal: Service, space: str, bad: Any, status: int, param: str) -> None:
    batch = [
        {"text": "good", "space": space},
        {"text": "better", "space": space},
        bad,
        {"text": "best", "space": space},
    ]
    answer = minimal.call("POST", "/v1/memories", {"memories": batch})
    assert answer.status == status
    assert answer.error["param"] == param
    assert minimal.listed(space=space) == []


@pytest.mark.parametrize("count", [0, 257])
def test_a_batch_has_1_to_256_memories(minimal: Service, count: int) -> None:
    answer = minimal.call("POST", "/v1/memories", {"memories": [{"text": str(each)} for each in range(count)]})
    assert answer.status == 400
    assert answer.error["message"] == f"memories has {count} entries; expected 1 to 256"


def test_a_change_changes_what_it_names_and_nothing_else(minimal: Service, space: str) -> None:
    public = minimal.remember("before", space=space, tags=["a"], source="s", thread="t", at="2026-01-01T00:00:00Z")
    path = f"/v1/memories/{public}"
    before = minimal.get(path)
    assert minimal.call("PATCH", path, {"text": "after"}).json == {**before, "text": "after"}
    assert minimal.texts("before", space=space) == []
    assert minimal.texts("after", space=space) == ["after"]
    assert minimal.call("PATCH", path, {"tags": ["b"]}).json["tags"] == ["b"]
    cleared = minimal.call("PATCH", path, {"source": None, "thread": None, "at": "2027-01-01T00:00:00Z"}).json
    assert (cleared["source"], cleared["thread"], cleared["at"]) == (None, None, "2027-01-01T00:00:00.000Z")
    assert minimal.get(path) == {**cleared, "tags": ["b"], "text": "after"}


def test_a_change_that_would_make_two_memories_one_is_a_conflict(minimal: Service, space: str) -> None:
    minimal.remember("taken", space=space)
    public = minimal.remember("free", space=space)
    answer = minimal.call("PATCH", f"/v1/memories/{public}", {"text": "taken"})
    assert answer.status == 409
    assert answer.error["param"] == "text"
    assert minimal.get(f"/v1/memories/{public}")["text"] == "free"


def test_text_and_thread_may_change_together(minimal: Service, space: str) -> None:
    minimal.remember("first", space=space, thread="there")
    public = minimal.remember("first", space=space, thread="here")
    changed = minimal.call("PATCH", f"/v1/memories/{public}", {"text": "second", "thread": "there"})
    assert changed.status == 200, changed.content
    assert (changed.json["text"], changed.json["thread"]) == ("second", "there")


@pytest.mark.parametrize(
    "body", [{}, {"id": "m1"}, {"space": "x"}, {"text": None}, {"text": ""}, {"tags": None}, {"at": None}, [], "x"]
)
def test_a_change_that_means_nothing_is_refused(minimal: Service, space: str, body: Any) -> None:
    public = minimal.remember("stays", space=space, tags=["a"])
    answer = minimal.call("PATCH", f"/v1/memories/{public}", body)
    assert answer.status == 400
    assert answer.error
    assert minimal.get(f"/v1/memories/{public}")["text"] == "stays"


def test_what_is_forgotten_is_gone_everywhere(minimal: Service, space: str) -> None:
    public = minimal.remember("a secret passphrase", space=space, tags=["x"])
    assert minimal.call("DELETE", f"/v1/memories/{public}").status == 204
    for method in ("GET", "DELETE", "PATCH"):
        answer = minimal.call(method, f"/v1/memories/{public}", {"text": "x"} if method == "PATCH" else None)
        assert answer.status == 404
        assert answer.error["param"] == "id"
    assert minimal.texts("passphrase", space=space) == []
    assert minimal.listed(space=space) == []
    assert minimal.remember("a secret passphrase", space=space) != public, "an id is never given twice"


@pytest.mark.parametrize(
    "public", ["1", "m", "mx", "m-1", "m1e3", "m" + "9" * 30, "c1", "M1", "m%D9%A1", "%00", "..%2f"]
)
def test_an_id_that_never_was_is_not_found(minimal: Service, public: str) -> None:
    answer = minimal.call("GET", f"/v1/memories/{public}")
    assert answer.status == 404
    assert answer.error["type"] == "not_found"


def test_a_listing_shows_everything_once_newest_first(minimal: Service, space: str) -> None:
    texts = [f"text {number}" for number in range(23)]
    minimal.call("POST", "/v1/memories", {"memories": [{"text": text, "space": space} for text in texts]})
    minimal.remember("elsewhere", space=space + "-b")
    for limit in ("1", "5", "22", "23", "24"):
        assert [memory["text"] for memory in minimal.listed(space=space, limit=limit)] == texts[::-1]


def test_a_listing_goes_on_while_memories_come_and_go(minimal: Service, space: str) -> None:
    ids = [minimal.remember(f"text {number}", space=space) for number in range(10)]
    page = minimal.get(f"/v1/memories?space={space}&limit=4")
    minimal.remember("late", space=space)
    minimal.call("DELETE", f"/v1/memories/{page['memories'][-1]['id']}")
    minimal.call("DELETE", f"/v1/memories/{ids[3]}")
    rest = minimal.get(f"/v1/memories?space={space}&limit=200&cursor={page['cursor']}")["memories"]
    assert [memory["id"] for memory in rest] == [each for each in ids[5::-1] if each != ids[3]]


def test_a_listing_can_be_narrowed_to_a_tag(minimal: Service, space: str) -> None:
    minimal.remember("both", space=space, tags=["a b&c", "d"])
    minimal.remember("one", space=space, tags=["d"])
    minimal.remember("none", space=space)
    assert [memory["text"] for memory in minimal.listed(space=space, tag="a b&c")] == ["both"]
    assert [memory["text"] for memory in minimal.listed(space=space, tag="d")] == ["one", "both"]
    assert minimal.listed(space=space, tag="unknown") == []
    assert minimal.listed(space="unknown-" + space) == []


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("cursor=xyz", "cursor"),
        ("cursor=", "cursor"),
        ("cursor=%F0%9F%AB%96", "cursor"),
        ("cursor=YWZ0ZXI6LTE", "cursor"),
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=ten", "limit"),
        ("limit=%D9%A1", "limit"),
        ("limit=1&limit=2", "limit"),
        ("offset=1", "offset"),
        ("space=", "space"),
        ("space=a%00b", "space"),
        ("tag=" + "x" * 201, "tag"),
    ],
)
def test_a_bad_listing_parameter_is_named(minimal: Service, query: str, param: str) -> None:
    answer = minimal.call("GET", f"/v1/memories?{query}")
    assert answer.status == 400
    assert answer.error["param"] == param


@pytest.mark.parametrize(
    "at",
    [
        "yesterday", "2026-05-01", "2026-05-01T12:00:00", "2026-13-01T00:00:00Z", "", 5, "2026-05-01 12:00:00Z",
        "0001-01-01T00:00:00+01:00", "9999-12-31T23:59:59-01:00", "20260501T120000Z", "2026-W18-5T12:00:00Z",
    ],
)  # fmt: skip
def test_a_time_that_is_none_is_refused(minimal: Service, space: str, at: Any) -> None:
    answer = minimal.call("POST", "/v1/memories", {"text": "x", "space": space, "at": at})
    assert answer.status == 400
    assert answer.error["param"] == "at"
    assert minimal.listed(space=space) == []


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00Z", "1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999999Z"])
def test_a_time_from_any_year_is_kept(minimal: Service, space: str, at: str) -> None:
    public = minimal.remember("x", space=space, at=at)
    assert minimal.get(f"/v1/memories/{public}")["at"][:19] == at[:19]
    assert minimal.recall("x", space=space)["hits"][0]["at"][:19] == at[:19]
