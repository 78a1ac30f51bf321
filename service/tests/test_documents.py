"""Documents: taken in as they stream, replaced whole or not at all."""

from __future__ import annotations

import hashlib
import http.client
from collections.abc import Iterator
from urllib.parse import quote

import apsw
import pytest

from service.tests.serving import Service, rss_bytes, until

MEBIBYTE = 1024 * 1024


def test_a_document_is_stored_listed_found_and_deleted(minimal: Service, space: str) -> None:
    content = b"# Kitchen\n\nThe kettle stands on the left shelf.\n"
    created = minimal.put("notes/kitchen.md", content, space)
    assert created.status == 201
    body = created.json
    assert (body["path"], body["space"], body["bytes"]) == ("notes/kitchen.md", space, len(content))
    assert body["sha256"] == hashlib.sha256(content).hexdigest()
    assert (body["chunks"], body["created"], body["changed"]) == (1, True, True)
    shown = minimal.get(f"/v1/documents/notes/kitchen.md?space={space}")
    assert shown == {key: body[key] for key in ("path", "space", "sha256", "bytes", "chunks", "at")}
    assert minimal.get(f"/v1/documents?space={space}") == {"documents": [shown], "cursor": None}
    (hit,) = minimal.recall("kettle", space=space)["hits"]
    assert (hit["kind"], hit["path"], hit["lines"]) == ("chunk", "notes/kitchen.md", [1, 3])
    assert minimal.call("DELETE", f"/v1/documents/notes/kitchen.md?space={space}").status == 204
    assert minimal.recall("kettle", space=space)["hits"] == []
    for method in ("GET", "DELETE"):
        assert minimal.call(method, f"/v1/documents/notes/kitchen.md?space={space}").status == 404


def test_the_same_content_again_changes_nothing(minimal: Service, space: str) -> None:
    before = minimal.put("a.md", b"kettle\n", space).json
    again = minimal.put("a.md", b"kettle\n", space)
    assert again.status == 200
    assert (again.json["created"], again.json["changed"]) == (False, False)
    assert again.json["at"] == before["at"]
    assert len(minimal.recall("kettle", space=space)["hits"]) == 1


def test_new_content_takes_the_place_of_the_old(minimal: Service, space: str) -> None:
    minimal.put("a.md", b"the kettle is blue\n", space)
    replaced = minimal.put("a.md", b"the teapot is red\n", space)
    assert (replaced.status, replaced.json["created"], replaced.json["changed"]) == (200, False, True)
    assert minimal.texts("kettle", space=space) == []
    assert minimal.texts("teapot", space=space) == ["the teapot is red"]


def test_the_old_version_answers_until_the_new_one_is_whole(minimal: Service, space: str) -> None:
    minimal.put("a.md", b"the kettle is blue\n", space)
    connection, whole = _begin(minimal, "a.md", space, size=6 * MEBIBYTE)
    line = b"the teapot is red and this line is one of very many\n"
    half = (line * (3 * MEBIBYTE // len(line) + 1))[: 3 * MEBIBYTE]
    connection.send(half)
    until(lambda: _stored_unseen(minimal), "a part of the new version is stored")
    assert minimal.texts("kettle", space=space) == ["the kettle is blue"]
    assert minimal.texts("teapot", space=space) == []
    connection.send(half)
    answer = connection.getresponse()
    assert (answer.status, whole) == (200, 6 * MEBIBYTE)
    answer.read()
    assert minimal.texts("kettle", space=space) == []
    assert len(minimal.texts("teapot", space=space)) == 6
    connection.close()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
def test_an_upload_that_is_cut_leaves_the_old_version(minimal: Service, space: str, chunked: bool) -> None:
    minimal.put("a.md", b"the kettle is blue\n", space)
    connection, _ = _begin(minimal, "a.md", space, size=None if chunked else 6 * MEBIBYTE)
    part = b"the teapot is red and this line is one of very many\n" * 40_000
    connection.send(b"%x\r\n%s\r\n" % (len(part), part) if chunked else part)
    until(lambda: _stored_unseen(minimal), "a part of the new version is stored")
    connection.close()
    until(lambda: not _stored_unseen(minimal), "what was stored of it is gone")
    assert minimal.texts("kettle", space=space) == ["the kettle is blue"]
    assert minimal.texts("teapot", space=space) == []


def _begin(service: Service, path: str, space: str, size: int | None) -> tuple[http.client.HTTPConnection, int | None]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)
    connection.putrequest("PUT", f"/v1/documents/{path}?space={space}")
    connection.putheader("Authorization", f"Bearer {service.token}")
    connection.putheader(*(("Transfer-Encoding", "chunked") if size is None else ("Content-Length", str(size))))
    connection.endheaders()
    return connection, size


def _stored_unseen(service: Service) -> bool:
    """Whether a document is on its way into the store."""
    connection = apsw.Connection(str(service.store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return bool(connection.execute("SELECT EXISTS (SELECT 1 FROM documents WHERE NOT live)").get)
    finally:
        connection.close()


def test_a_document_of_any_size_streams_through_flat_memory(minimal: Service, space: str) -> None:
    size = 24 * MEBIBYTE
    seen: list[int] = []

    def pieces() -> Iterator[bytes]:
        for number in range(size // 65_536):
            if number % 32 == 0:
                seen.append(rss_bytes(minimal.pid))
            line = b"Line of piece %d: the kettle stands on the left shelf, as it always did.\n" % number
            yield (line * (65_536 // len(line) + 1))[:65_535] + b"\n"

    minimal.put("warm.md", b"the kettle\n" * 300_000, space)
    connection = http.client.HTTPConnection("127.0.0.1", minimal.port, timeout=300)
    headers = {"Authorization": f"Bearer {minimal.token}", "Content-Length": str(size)}
    connection.request("PUT", f"/v1/documents/large.md?space={space}", pieces(), headers)
    answer = connection.getresponse()
    assert answer.status == 201, answer.read()
    answer.read()
    seen.append(rss_bytes(minimal.pid))
    print(f"{size // MEBIBYTE} MB: anonymous {[round(held / MEBIBYTE, 1) for held in seen]} MB")
    assert max(seen) - seen[0] < 8 * MEBIBYTE
    assert minimal.get(f"/v1/documents/large.md?space={space}")["bytes"] == size
    assert minimal.texts("piece 383", space=space)
    minimal.call("DELETE", f"/v1/documents/large.md?space={space}")


@pytest.mark.parametrize(
    "path",
    [
        "../etc/passwd", "a/../../b", "%2e%2e/b", "a/%2e%2e/b", "..%2fb", "/etc/passwd", "%2fetc/passwd", "a//b",
        "a/./b", "a\\b", "a%5cb", "a%00b", "a%0ab", "a%7f", "a%ff.md", "x" * 1025, ".", "..", "a/",
    ],
)  # fmt: skip
def test_a_path_that_leaves_its_root_is_refused(minimal: Service, space: str, path: str) -> None:
    for method in ("PUT", "GET", "DELETE"):
        answer = minimal.call(method, f"/v1/documents/{path}?space={space}", b"x" if method == "PUT" else None)
        assert (answer.status, answer.error["type"]) == (400, "invalid_request"), path
    assert minimal.get(f"/v1/documents?space={space}")["documents"] == []


@pytest.mark.parametrize(
    "path", ["a", "a b.md", "ünï/水壺.md", "🫖.md", "...", "a?b#c.md", "100%.md", "%41.md", "&=+;.md", "x" * 1024]
)
def test_a_plain_path_is_kept_as_it_is(minimal: Service, space: str, path: str) -> None:
    assert minimal.put(path, b"kettle\n", space).json["path"] == path
    assert minimal.get(f"/v1/documents/{quote(path)}?space={space}")["path"] == path
    assert minimal.recall("kettle", space=space)["hits"][0]["path"] == path


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"caf\xe9", "is not UTF-8"),
        (b"x" * 100_000 + b"\xff", "is not UTF-8"),
        (b"cut in a sign \xf0\x9f", "is not UTF-8"),
        (b"\xed\xa0\x80", "is not UTF-8"),
        (b"\xff\xfeU\x00T\x00F\x00", "is not UTF-8"),
        (b"a\0b", "holds NUL bytes"),
    ],
)
def test_what_is_no_text_is_refused_and_leaves_nothing(minimal: Service, space: str, content: bytes, said: str) -> None:
    minimal.put("a.md", b"kettle\n", space)
    answer = minimal.put("a.md", content, space)
    assert answer.status == 400
    assert said in answer.error["message"]
    assert minimal.texts("kettle", space=space) == ["kettle"]
    assert not _stored_unseen(minimal)


@pytest.mark.parametrize("content", [b"", b"\n\n \n", "\ufeff".encode()])
def test_a_document_without_words_is_a_document(minimal: Service, space: str, content: bytes) -> None:
    assert minimal.put("empty.md", content, space).status == 201
    shown = minimal.get(f"/v1/documents/empty.md?space={space}")
    assert shown["bytes"] == len(content)
    assert shown["chunks"] <= 1


def test_a_document_of_blank_lines_costs_no_memory(minimal: Service, space: str) -> None:
    before = rss_bytes(minimal.pid)
    assert minimal.put("blank.md", b"\n" * MEBIBYTE, space).json["chunks"] == 0
    assert rss_bytes(minimal.pid) - before < 8 * MEBIBYTE


def test_lines_and_sections_are_those_of_the_file(minimal: Service, space: str) -> None:
    paragraphs = [f"# Section {number}\n\n" + f"word{number} filler text goes on. " * 60 for number in range(20)]
    content = "\n\n".join(paragraphs)
    minimal.put("long.md", content.encode(), space)
    lines = content.split("\n")
    for number in (0, 7, 19):
        hit = minimal.recall(f"word{number}", space=space)["hits"][0]
        first, last = hit["lines"]
        assert hit["text"] == "\n".join(lines[first - 1 : last]).rstrip()
        assert f"word{number} " in hit["text"]


def test_documents_of_two_spaces_are_two(minimal: Service, space: str) -> None:
    assert minimal.put("a.md", b"kettle\n", space).status == 201
    assert minimal.put("a.md", b"teapot\n", space + "-b").status == 201
    assert minimal.texts("kettle teapot", space=space) == ["kettle"]


def test_a_listing_goes_by_path_and_prefix(minimal: Service, space: str) -> None:
    paths = sorted(["a/1.md", "a/2.md", "a_b.md", "b.md", "ü/水.md", "100%/x.md"])
    for path in paths:
        minimal.put(path, path.encode(), space)
    found: list[str] = []
    cursor = ""
    while True:
        page = minimal.get(f"/v1/documents?space={space}&limit=2{cursor}")
        found += [document["path"] for document in page["documents"]]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert found == paths
    for prefix, count in {"a/": 2, "a": 3, "100%": 1, "%": 0, "_": 0, "ü": 1, "": 6}.items():
        assert len(minimal.get(f"/v1/documents?space={space}&prefix={quote(prefix)}")["documents"]) == count, prefix
    assert minimal.call("GET", f"/v1/documents?space={space}&cursor=Li4vYQ").status == 400
