"""The OpenAPI document says what the service does: all of it, and nothing else."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
from pinch.gateway import faults, http

from service.tests.serving import Answer, Service
from tests.provider import MODEL, Provider

DOCUMENT = json.loads(Path(http.__file__).with_name("openapi.json").read_text("utf-8"))
EXAMPLES = 5
SEED = 20


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def test_every_route_is_documented_and_every_documented_one_exists() -> None:
    served = {(route.method, re.sub(r":[^}]*", "", route.path)) for route in http.routes()}
    assert {(method, path) for method, path, _ in operations()} == served


def test_the_service_serves_the_document(minimal: Service) -> None:
    assert minimal.get("/openapi.json") == DOCUMENT


def test_operations_have_names_of_their_own_and_say_what_they_are() -> None:
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)
    assert all(operation["summary"] and operation["tags"] for _, _, operation in operations())


def test_every_reference_leads_somewhere_and_nothing_is_left_over() -> None:
    used = set(re.findall(r'"#/components/(\w+)/(\w+)"', json.dumps(DOCUMENT)))
    there = {(kind, name) for kind in ("schemas", "responses") for name in DOCUMENT["components"][kind]}
    assert used == there


def test_every_kind_of_error_is_documented() -> None:
    types = DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["type"]["enum"]
    assert set(types) == {answer.type for answer in [*faults.ANSWERS.values(), faults.INTERNAL]}


def test_only_health_and_the_page_are_open(minimal: Service) -> None:
    assert DOCUMENT["security"] == [{"token": []}]
    told = {path for _, path, operation in operations() if "security" in operation}
    assert told == {"/", "/web/{name}", "/healthz", "/readyz"}
    found = {
        path
        for method, path, _ in operations()
        if minimal.call(method, re.sub(r"{\w+}", "app.js", path), token=None).status != 401
    }
    assert found == told


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


def answered(provider: Provider) -> dict[str, str]:
    """Return the settings under which the scripted provider answers."""
    return {"PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL, "PINCH_PROVIDER_RETRIES": "0"}


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("synced")
    (folder / "notes").mkdir()
    settings = {"PINCH_SYNC_FOLDERS": str(folder / "notes"), **answered(provider)}
    with Service(folder, PINCH_TIER="minimal", **settings) as service:
        yield service


@pytest.fixture(scope="module")
def answering(tmp_path_factory: pytest.TempPathFactory, int8: Path, provider: Provider) -> Iterator[Service]:
    """A service with a model and a provider."""
    folder = tmp_path_factory.mktemp("answering")
    with Service(folder, PINCH_TIER="full", PINCH_MODEL_DIR=str(int8), **answered(provider)) as service:
        yield service


def test_schemathesis_finds_no_fault(synced: Service, provider: Provider, tmp_path: Path) -> None:
    here = Path(__file__).parent
    command: list[str | Path] = [
        Path(sys.executable).with_name("schemathesis"), "--config-file", here / "schemathesis.toml", "run",
        Path(http.__file__).with_name("openapi.json"), "--url", f"http://127.0.0.1:{synced.port}",
        "--header", f"Authorization: Bearer {synced.token}", "--exclude-path", "/v1/snapshot",
        "--phases", "coverage,fuzzing", "--max-examples", str(EXAMPLES), "--seed", str(SEED),
        "--generation-deterministic", "--suppress-health-check", "all", "--no-color",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, "\n".join(line[:400] for line in done.stdout.splitlines()) + done.stderr
    tested = re.search(r"Tested: (\d+)", done.stdout)
    assert tested is not None
    assert int(tested[1]) == len(list(operations())) - 2
    assert "failed" not in synced.said()
    assert len(provider.requests) > EXAMPLES, "answers were asked for too"


def valid(answer: Answer, method: str, path: str) -> None:
    """Check a response against what the document says of its status."""
    operation = DOCUMENT["paths"][path][method]
    response = operation["responses"][str(answer.status)]
    if "$ref" in response:
        response = DOCUMENT["components"]["responses"][response["$ref"].rpartition("/")[2]]
    schema = response["content"]["application/json"]["schema"]
    jsonschema.validate(answer.json, {**schema, "components": DOCUMENT["components"]})


def test_the_answers_of_a_tier_with_a_model_are_as_documented(answering: Service, space: str) -> None:
    answering.remember("The kettle is on the shelf.", space=space, thread="t", tags=["a"])
    answering.put("a.md", b"# Kettle\n\nIt boils.\n", space)
    answering.embedded()
    for mode in ("hybrid", "keyword", "semantic"):
        answer = answering.call("POST", "/v1/recall", {"query": "kettle", "space": space, "mode": mode})
        assert len(answer.json["hits"]) == 2
        valid(answer, "post", "/v1/recall")
    for path in ("/v1/sync", "/v1/budget", "/readyz", "/healthz", "/v1/memories", "/v1/documents"):
        valid(answering.call("GET", path), "get", path)
    for request in (
        {"input": "x"}, {"input": ["x", "y"], "encoding_format": "base64"}, {"input": ""}, {"input": "x" * 70_000},
        {"input": "x", "model": "unknown"},
    ):  # fmt: skip
        body = {"model": "all-MiniLM-L6-v2-int8", **request}
        valid(answering.call("POST", "/v1/embeddings", body), "post", "/v1/embeddings")
    valid(answering.call("POST", "/v1/embeddings", {"model": "x", "input": "x"}, token=None), "post", "/v1/embeddings")
    snapshot = answering.call("GET", "/v1/snapshot")
    assert snapshot.headers["Content-Type"] in DOCUMENT["paths"]["/v1/snapshot"]["get"]["responses"]["200"]["content"]
    valid(answering.call("PUT", "/v1/snapshot", b"x"), "put", "/v1/snapshot")
    valid(answering.call("PUT", "/v1/snapshot", snapshot.content), "put", "/v1/snapshot")


def chat(message: str, **more: Any) -> dict[str, Any]:
    """Return the body of a chat completion."""
    return {"model": "pinch", "messages": [{"role": "user", "content": message}], **more}


def test_the_answers_of_the_chat_are_as_documented(answering: Service, minimal: Service, full: Service) -> None:
    path = "/v1/chat/completions"
    for body, status in (
        (chat("hello"), 200),
        (chat("hello", user="documented"), 200),
        (chat("provider:length"), 200),
        (chat("provider:content-filter"), 200),
        (chat("provider:empty"), 200),
        (chat("provider:500"), 502),
        (chat("provider:500", stream=True), 502),
        (chat(""), 400),
        (chat("hello", n=2), 400),
        (chat("hello", model="gpt-4o"), 404),
        (chat("x" * 65_537), 413),
    ):
        answer = answering.call("POST", path, body)
        assert answer.status == status, answer.content
        valid(answer, "post", path)
    for service in (minimal, full):
        answer = service.call("POST", path, chat("hello"))
        assert (answer.status, answer.json["error"]["code"]) == (503, "no_provider")
        valid(answer, "post", path)
    valid(answering.call("POST", path, chat("hello"), token=None), "post", path)
    valid(answering.call("POST", path, chat("hello"), headers={"Host": "elsewhere.example"}), "post", path)
    packed = {"Content-Encoding": "gzip"}
    valid(answering.call("POST", path, chat("hello"), headers=packed), "post", path)
    stream = answering.call("POST", path, chat("hello", stream=True))
    assert stream.headers["Content-Type"] in DOCUMENT["paths"][path]["post"]["responses"]["200"]["content"]
    valid(answering.call("GET", "/v1/models"), "get", "/v1/models")
    assert len(answering.get("/v1/models")["data"]) == 2
    for name, status in (("pinch", 200), ("all-MiniLM-L6-v2-int8", 200), ("gpt-4o", 404)):
        answer = answering.call("GET", f"/v1/models/{name}")
        assert answer.status == status
        valid(answer, "get", "/v1/models/{model}")
