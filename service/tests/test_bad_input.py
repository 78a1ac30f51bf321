"""Bad input: one clear sentence in the contract's shape, nothing stored, and the service goes on."""

from __future__ import annotations

import gzip
import json
import select
from typing import Any

import pytest

from service.tests.serving import WAIT_S, Service, received

BODIES: dict[str, tuple[bytes, str]] = {
    "no JSON": (b"kettle", "is not JSON"),
    "empty": (b"", "is not JSON"),
    "cut": (b'{"text": "a', "is not JSON"),
    "two objects": (b'{"text": "a"} {"text": "b"}', "is not JSON"),
    "single quotes": (b"{'text': 'a'}", "is not JSON"),
    "not UTF-8": (b'{"text": "caf\xe9"}', "is not UTF-8"),
    "UTF-16": ('{"text": "a"}'.encode("utf-16"), "is not UTF-8"),
    "byte order mark": (b'\xef\xbb\xbf{"text": "a"}', "is not JSON"),
    "10,000 levels": (b'{"text": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested too deeply"),
    "20,000 open brackets": (b"[" * 20_000, "nested too deeply"),
    "NaN": (b'{"text": "a", "tags": NaN}', "NaN is no JSON number"),
    "Infinity": (b'{"text": "a", "tags": -Infinity}', "-Infinity is no JSON number"),
    "duplicate keys": (b'{"text": "a", "text": "b"}', "the same key twice"),
    "an endless number": (b'{"text": ' + b"9" * 50_000 + b"}", "is not JSON"),
    "a raw control character": (b'{"text": "a\x01b"}', "is not JSON"),
    "NUL": (b'{"text": "a\\u0000b"}', "text holds a NUL character"),
    "only NULs": (b'{"text": "\\u0000\\u0000"}', "text holds a NUL character"),
    "lone high surrogate": (b'{"text": "a\\ud83d"}', "text holds a lone surrogate character"),
    "lone low surrogate": (b'{"text": "\\udc00a"}', "text holds a lone surrogate character"),
    "surrogate in UTF-8": (b'{"text": "\xed\xa0\xbd"}', "is not UTF-8"),
    "NUL in a tag": (b'{"text": "a", "tags": ["\\u0000"]}', "tags holds control characters"),
    "surrogate in a space": (b'{"text": "a", "space": "\\udc00"}', "space holds a lone surrogate character"),
    "surrogate in a field's name": (b'{"text": "a", "\\udc00": 1}', "there is no field"),
    "array": (b"[]", "expected an object, found an array"),
    "string": (b'"text"', "expected an object, found a string"),
    "null": (b"null", "expected an object, found null"),
    "no text": (b"{}", "field 'text' is missing"),
    "empty text": (b'{"text": ""}', "text is empty"),
    "text is a number": (b'{"text": 5}', "text: expected a string, found an integer"),
    "text is null": (b'{"text": null}', "text: expected a string, found null"),
    "unknown field": (b'{"text": "a", "txet": "b"}', "there is no field 'txet'"),
    "tags is a string": (b'{"text": "a", "tags": "b"}', "tags: expected an array, found a string"),
    "a tag is null": (b'{"text": "a", "tags": [null]}', "tags[0]: expected a string, found null"),
    "33 tags": (json.dumps({"text": "a", "tags": [str(n) for n in range(33)]}).encode(), "tags has 33 entries"),
    "empty space": (b'{"text": "a", "space": ""}', "space has 0 characters"),
    "long space": (b'{"text": "a", "space": "' + b"x" * 201 + b'"}', "space has 201 characters"),
    "line end in a thread": (b'{"text": "a", "thread": "a\\nb"}', "thread holds control characters"),
    "memories is an object": (b'{"memories": {}}', "memories: expected an array, found an object"),
    "memories and text": (b'{"memories": [{"text": "a"}], "text": "b"}', "there is no field 'text'"),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_bad_body_is_refused_in_one_sentence(minimal: Service, name: str) -> None:
    body, said = BODIES[name]
    before = len(minimal.listed())
    answer = minimal.call("POST", "/v1/memories", body)
    assert answer.status == 400, answer.content
    error = answer.error
    assert error["type"] == "invalid_request"
    assert said in error["message"], error
    assert error["param"]
    assert len(error["message"]) < 250
    assert "\n" not in error["message"]
    assert len(minimal.listed()) == before


RECALLS: list[tuple[dict[str, Any], int, str]] = [
    ({"query": ""}, 400, "query"),
    ({"query": "x" * 100_000}, 413, "query"),
    ({"query": "\0"}, 400, "query"),
    ({"query": "\ud800"}, 400, "query"),
    ({"query": 5}, 400, "query"),
    ({}, 400, "query"),
    ({"query": "x", "k": 0}, 400, "k"),
    ({"query": "x", "k": -1}, 400, "k"),
    ({"query": "x", "k": 10**9}, 400, "k"),
    ({"query": "x", "k": 10**100}, 400, "k"),
    ({"query": "x", "k": 6.5}, 400, "k"),
    ({"query": "x", "k": 1e300}, 400, "k"),
    ({"query": "x", "k": True}, 400, "k"),
    ({"query": "x", "k": "6"}, 400, "k"),
    ({"query": "x", "k": None}, 400, "k"),
    ({"query": "x", "mode": "magic"}, 400, "mode"),
    ({"query": "x", "mode": ["hybrid"]}, 400, "mode"),
    ({"query": "x", "tags": [""]}, 400, "tags"),
    ({"query": "x", "space": ""}, 400, "space"),
    ({"query": "x", "limit": 5}, 400, "limit"),
]


@pytest.mark.parametrize(("body", "status", "param"), RECALLS, ids=range(len(RECALLS)))
def test_a_bad_query_is_refused_in_one_sentence(minimal: Service, body: Any, status: int, param: str) -> None:
    answer = minimal.call("POST", "/v1/recall", body)
    assert answer.status == status
    assert answer.error["param"] == param


def test_a_text_beyond_the_limit_is_sent_to_the_documents(minimal: Service, full: Service, space: str) -> None:
    for text in ("x" * 65_537, "水" * 21_846, "x" * 1_000_000):
        answer = minimal.call("POST", "/v1/memories", {"text": text, "space": space})
        assert answer.status == 413
        assert answer.error["type"] == "too_large"
        assert answer.error["param"] == "text"
        assert "PUT /v1/documents" in answer.error["hint"]
    assert full.call("POST", "/v1/memories", {"text": "x" * 2**20}).error["param"] == "text"
    assert minimal.listed(space=space) == []


@pytest.mark.parametrize("path", ["/v1/memories", "/v1/recall", "/v1/memories/m1"])
def test_a_body_of_100_mb_is_refused_and_the_connection_answers(minimal: Service, path: str) -> None:
    method = "PATCH" if path.endswith("m1") else "POST"
    with minimal.connect() as connection:
        connection.sendall(
            f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {minimal.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {100 * 2**20}\r\n\r\n".encode()
        )
        assert received(connection).status == 413
        piece = b"x" * 2**20
        for _ in range(100):
            connection.sendall(piece)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert received(connection).status == 200


def test_a_body_without_a_length_is_refused_where_it_passes_the_limit(minimal: Service) -> None:
    with minimal.connect() as connection:
        connection.sendall(
            f"POST /v1/memories HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {minimal.token}\r\n"
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
        )
        for _ in range(3):
            connection.sendall(b"%x\r\n%s\r\n" % (2**19, b" " * 2**19))
        assert connection.recv(4096).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize("body", [gzip.compress(b" " * 50 * 2**20), b"not packed at all"], ids=["bomb", "garbage"])
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/v1/memories"), ("POST", "/v1/recall"), ("PUT", "/v1/documents/a.md")]
)
def test_a_packed_body_is_refused_unread(minimal: Service, method: str, path: str, body: bytes) -> None:
    answer = minimal.call(method, path, body, headers={"Content-Encoding": "gzip"})
    assert (answer.status, answer.error["type"]) == (415, "unsupported_media_type")
    assert answer.error["param"] == "content-encoding"
    assert "Traceback" not in minimal.said()


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type_is_named(minimal: Service, kind: str) -> None:
    answer = minimal.call("POST", "/v1/memories", b'{"text": "x"}', headers={"Content-Type": kind})
    assert answer.status == 400
    assert answer.error["param"] == "content-type"


@pytest.mark.parametrize(
    ("method", "path", "status", "type_"),
    [
        ("GET", "/v2", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/memories/", 404, "not_found"),
        ("GET", "/v1/memories/m1/x", 404, "not_found"),
        ("GET", "/%ff%fe", 404, "not_found"),
        ("GET", "/v1/memories/%ff", 404, "not_found"),
        ("GET", "/v1/memories/%", 404, "not_found"),
        ("GET", "/v1/memories/%zz", 404, "not_found"),
        ("GET", "/v1/memories/%ed%a0%80", 404, "not_found"),
        ("GET", "/v1/memories?space=%ff", 400, "invalid_request"),
        ("GET", "/v1/memories?space=%ed%a0%80", 400, "invalid_request"),
        ("GET", "/v1/budget?x=1", 400, "invalid_request"),
        ("POST", "/v1/recall?k=1", 400, "invalid_request"),
        ("PUT", "/v1/memories", 405, "method_not_allowed"),
        ("DELETE", "/v1/memories", 405, "method_not_allowed"),
        ("GET", "/v1/recall", 405, "method_not_allowed"),
        ("PATCH", "/v1/recall", 405, "method_not_allowed"),
        ("POST", "/healthz", 405, "method_not_allowed"),
    ],
)
def test_a_wrong_address_is_told_in_the_same_shape(
    minimal: Service, method: str, path: str, status: int, type_: str
) -> None:
    answer = minimal.call(method, path, b"{}" if method in {"POST", "PUT"} else None)
    assert answer.status == status, answer.content
    assert answer.error["type"] == type_
    assert status != 405 or answer.headers["Allow"]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"kettle\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost : b\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: " + b"y" * 20_000 + b"\r\n\r\n", 400),
        (b"GET /" + b"y" * 20_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        (b"POST /v1/recall HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n", 400),
        (b"POST /v1/recall HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nExpect: miracles\r\n\r\n", 417),
        (b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\nExpect: miracles\r\n\r\n", 417),
    ],
)
def test_what_is_no_http_is_told_in_the_same_shape(minimal: Service, sent: bytes, status: int) -> None:
    with minimal.connect() as connection:
        connection.sendall(sent)
        answer = received(connection)
    assert answer.status == status, answer
    assert answer.error
    assert b"<" not in answer.content
    assert b"yyy" not in answer.content, "nothing of the request is quoted: it may hold a token"
    assert "yyy" not in minimal.said()
    assert minimal.call("GET", "/healthz").status == 200


def test_a_body_that_ends_early_stores_nothing(minimal: Service, space: str) -> None:
    body = json.dumps({"text": "kettle", "space": space}).encode()
    with minimal.connect() as connection:
        connection.sendall(
            f"POST /v1/memories HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {minimal.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body) + 1}\r\n\r\n".encode()
            + body
        )
    assert minimal.call("GET", "/healthz").status == 200
    assert minimal.listed(space=space) == []


def test_too_many_large_bodies_at_once_are_told_to_wait(minimal: Service, space: str) -> None:
    held = []
    for _ in range(6):
        connection = minimal.connect()
        connection.sendall(
            f"POST /v1/memories HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {minimal.token}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {2**20}\r\n\r\n".encode()
            + b" " * (2**20 - 1)
        )
        held.append(connection)
    answered, _, _ = select.select(held, [], [], WAIT_S)
    assert answered[0].recv(4096).startswith(b"HTTP/1.1 503"), "the account does not hold all of them"
    assert len(answered) < len(held), "it does hold some"
    for connection in held:
        connection.close()
    assert minimal.remember("after", space=space)
