"""Embeddings as OpenAI's own client asks for them, unmodified."""

from __future__ import annotations

import base64
import json
import math
import select
import struct
from itertools import pairwise
from typing import Any

import openai
import pytest

from service.tests.serving import WAIT_S, Service, until

MODEL = "all-MiniLM-L6-v2-int8"


@pytest.fixture(scope="module")
def client(full: Service) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{full.port}/v1", api_key=full.token, max_retries=0)


def cosine(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def test_the_client_gets_vectors_that_mean_something(client: openai.OpenAI) -> None:
    texts = ["The kettle is boiling.", "Water is getting hot in the pot.", "Parliament voted on the budget."]
    answer = client.embeddings.create(model=MODEL, input=texts)
    assert (answer.object, answer.model) == ("list", MODEL)
    vectors = [entry.embedding for entry in answer.data]
    assert [entry.index for entry in answer.data] == [0, 1, 2]
    assert all(len(vector) == 384 and math.isclose(cosine(vector, vector), 1, abs_tol=1e-3) for vector in vectors)
    assert cosine(vectors[0], vectors[1]) > cosine(vectors[0], vectors[2]) + 0.2
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 15


def test_floats_and_base64_are_the_same_vector(client: openai.OpenAI, full: Service) -> None:
    request: dict[str, Any] = {"model": MODEL, "input": "kettle"}
    floats = client.embeddings.create(**request, encoding_format="float").data[0].embedding
    encoded = full.call("POST", "/v1/embeddings", {**request, "encoding_format": "base64"}).json["data"][0]["embedding"]
    assert isinstance(encoded, str)
    assert list(struct.unpack("<384f", base64.b64decode(encoded))) == pytest.approx(floats, abs=1e-6)


def test_large_requests_are_bounded_and_given_up_with_their_clients(full: Service) -> None:
    body = json.dumps({"model": MODEL, "input": ["kettle " * 8000] * 60}).encode()
    head = f"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {full.token}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with full.connect() as first, full.connect() as second:
        first.sendall(head.encode() + body)
        until(lambda: account(full, "connections") > len(body), "texts that wait for the model are booked")
        second.sendall(head.encode() + body)
        refused, _, _ = select.select([first, second], [], [], WAIT_S)
        assert len(refused) == 1, "one waits for the model, and the other, whichever was read later, is refused"
        refusal = refused[0].recv(4096)
    assert refusal.startswith(b"HTTP/1.1 503")
    assert b"too many large requests" in refusal
    until(lambda: account(full, "connections") < 2**20, "what a client held that went is given back")


def account(service: Service, name: str) -> int:
    accounts = service.get("/v1/budget")["accounts"]
    return next(int(each["used_bytes"]) for each in accounts if each["name"] == name)


def test_a_text_has_the_same_vector_alone_and_in_a_batch(client: openai.OpenAI) -> None:
    texts = ["a", "The kettle stands on the shelf. " * 20, "🫖", "水壺"]
    batch = [entry.embedding for entry in client.embeddings.create(model=MODEL, input=texts).data]
    for text, vector in zip(texts, batch, strict=True):
        assert client.embeddings.create(model=MODEL, input=text).data[0].embedding == pytest.approx(vector, abs=1e-6)


def test_the_end_of_a_long_text_counts_too(client: openai.OpenAI) -> None:
    start = "The weather in the mountains was cold and clear. " * 60
    vectors = [
        client.embeddings.create(model=MODEL, input=start + end).data[0].embedding
        for end in ("", "My dog is called Rex. " * 30, "Interest rates rose again. " * 30)
    ]
    assert all(cosine(a, b) < 0.995 for a, b in pairwise(vectors)), "nothing is cut off silently"


def test_256_texts_at_once_and_not_one_more(client: openai.OpenAI) -> None:
    assert len(client.embeddings.create(model=MODEL, input=[str(each) for each in range(256)]).data) == 256
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=MODEL, input=["x"] * 257)
    assert "expected 1 to 256" in caught.value.message


def test_a_wrong_model_is_the_error_the_client_knows(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="text-embedding-3-large", input="x")
    assert MODEL in caught.value.message
    assert (caught.value.param, caught.value.type) == ("model", "invalid_request_error")


def test_a_wrong_token_is_the_error_the_client_knows(full: Service) -> None:
    stranger = openai.OpenAI(base_url=f"http://127.0.0.1:{full.port}/v1", api_key="wrong-token-012345", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        stranger.embeddings.create(model=MODEL, input="x")


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"input": ""}, 400, "input"),
        ({"input": []}, 400, "input"),
        ({"input": [""]}, 400, "input"),
        ({"input": [1, 2]}, 400, "input[0]"),
        ({"input": "a\0b"}, 400, "input"),
        ({"input": "x" * 65_537}, 413, "input"),
        ({"input": None}, 400, "input"),
        ({"input": "x", "encoding_format": "int8"}, 400, "encoding_format"),
        ({"input": "x", "dimensions": 64}, 400, "dimensions"),
        ({"input": "x", "model": None}, 400, "model"),
        ({"input": "x", "texts": 1}, 400, "texts"),
    ],
)
def test_bad_input_is_told_in_openais_shape(full: Service, body: dict[str, Any], status: int, param: str) -> None:
    answer = full.call("POST", "/v1/embeddings", {"model": MODEL, **body})
    assert answer.status == status, answer.content
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["param"], error["type"]) == (param, "invalid_request_error")


def test_what_is_no_json_is_told_in_openais_shape_too(full: Service) -> None:
    for method, body in (("POST", b"{"), ("GET", None)):
        error = full.call(method, "/v1/embeddings", body).json["error"]
        assert set(error) == {"message", "type", "param", "code"}


def test_the_smallest_tier_says_that_it_has_no_model(minimal: Service) -> None:
    answer = minimal.call("POST", "/v1/embeddings", {"model": MODEL, "input": "x"})
    assert answer.status == 409
    assert "no embedding model" in answer.json["error"]["message"]
