"""The scripted provider speaks as OpenAI does: its own client library understands it, faults included."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai import OpenAI

from tests.provider import MODEL, Provider, Reply, Text, ToolCall

SAID = "This much was said"


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture
def client(provider: Provider) -> OpenAI:
    return OpenAI(base_url=provider.url, api_key="any", max_retries=0)


def asked(client: OpenAI, *messages: Any) -> Any:
    """Ask for a whole answer."""
    spoken: list[Any] = [
        {"role": "user", "content": message} if isinstance(message, str) else message for message in messages
    ]
    return client.chat.completions.create(model=MODEL, messages=spoken)


def streamed(client: OpenAI, message: str) -> tuple[list[str], str | None, Any]:
    """Ask for a stream and return its pieces, why it ended, and the usage."""
    pieces, reason, usage = [], None, None
    for chunk in client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": message}],
        stream=True,
        stream_options={"include_usage": True},
    ):
        usage = chunk.usage or usage
        for choice in chunk.choices:
            pieces += [choice.delta.content] if choice.delta.content else []
            reason = choice.finish_reason or reason
    return pieces, reason, usage


def test_a_message_comes_back_word_by_word(client: OpenAI) -> None:
    whole = asked(client, "the kettle")
    assert whole.choices[0].message.content == "You said: the kettle"
    assert whole.choices[0].finish_reason == "stop"
    pieces, reason, usage = streamed(client, "the kettle")
    assert pieces == ["You ", "said: ", "the ", "kettle"]
    assert reason == "stop"
    assert usage.completion_tokens == 4
    assert usage.total_tokens == usage.prompt_tokens + 4


def test_calls_come_in_pieces_and_the_rest_after_their_results(provider: Provider, client: OpenAI) -> None:
    arguments = {"query": "größer", "k": 3}
    reply: Reply = [
        Text("Let me see."),
        ToolCall("recall", arguments),
        ToolCall("recall", '{"query": "ket'),
        Text("Found it"),
    ]
    provider.script("two calls", reply)
    calls: dict[int, list[str]] = {}
    question: Any = {"role": "user", "content": "two calls"}
    for chunk in client.chat.completions.create(model=MODEL, messages=[question], stream=True):
        for call in chunk.choices[0].delta.tool_calls or []:
            assert call.function is not None
            calls.setdefault(call.index, []).append(call.function.arguments or "")
    assert all(len(pieces) > 2 for pieces in calls.values())
    first = asked(client, question).choices[0]
    assert first.finish_reason == "tool_calls"
    made = first.message.tool_calls
    assert ["".join(pieces) for pieces in calls.values()] == [call.function.arguments for call in made]
    results = [{"role": "tool", "tool_call_id": call.id, "content": "{}"} for call in made]
    said = asked(client, question, first.message, *results)
    assert said.choices[0].message.content == "Found it"
    with pytest.raises(openai.BadRequestError, match="are missing"):
        asked(client, question, first.message, *results[:1])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("401", openai.AuthenticationError),
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("context-length", openai.BadRequestError),
        ("redirect", openai.APIConnectionError),
        ("cut", openai.APIConnectionError),
        ("cut-at-once", openai.APIConnectionError),
        ("cut-in-line", openai.APIConnectionError),
    ],
)
def test_a_fault_is_the_one_it_is_named_after(client: OpenAI, name: str, expected: type[Exception]) -> None:
    for ask in (asked, streamed):
        with pytest.raises(expected):
            ask(client, f"provider:{name} {ask.__name__}")


@pytest.mark.parametrize(("name", "failures"), [("429-once", 1), ("500-twice", 2), ("503-once", 1)])
def test_a_passing_fault_passes(client: OpenAI, name: str, failures: int) -> None:
    for _ in range(failures):
        with pytest.raises(openai.APIStatusError):
            streamed(client, f"provider:{name}")
    assert streamed(client, f"provider:{name}")[0] == ["at ", "last"]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("length", SAID, "length"),
        ("content-filter", SAID, "content_filter"),
        ("cut-clean", SAID, None),
        ("no-done", SAID, "stop"),
        ("empty", "", "stop"),
        ("slivers", "Wasserkocher größer als 水壺", "stop"),
        ("comments", SAID, "stop"),
        ("garbage", "", None),
    ],
)
def test_an_answer_ends_as_it_is_named(client: OpenAI, name: str, text: str, reason: str | None) -> None:
    pieces, why, _ = streamed(client, f"provider:{name}")
    assert ("".join(pieces), why) == (text, reason)


def test_a_hundred_megabytes_come_with_and_without_line_ends(client: OpenAI) -> None:
    for name in ("large", "large-line"):
        pieces, _, _ = streamed(client, f"provider:{name}")
        assert sum(map(len, pieces)) == 100 * 2**20


def test_a_held_answer_goes_on_when_it_is_released(provider: Provider, client: OpenAI) -> None:
    provider.hold(after=2)
    stream = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "one two"}], stream=True)
    pieces = (chunk.choices[0].delta.content or "" for chunk in stream)
    assert [next(pieces) for _ in range(3)] == ["", "You ", "said: "]
    provider.held()
    provider.release()
    assert "".join(pieces) == "one two"


@pytest.mark.parametrize("name", ["slow-first", "slow-between", "endless"])
def test_a_client_that_leaves_is_noticed(provider: Provider, name: str) -> None:
    gone, there = provider.disconnected, len(provider.requests)
    address = urlsplit(provider.url)
    body = b'{"model": "m", "stream": true, "messages": [{"role": "user", "content": "provider:%b"}]}' % name.encode()
    with socket.create_connection((str(address.hostname), address.port or 0)) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
        )
        assert provider.asked(there + 1).asked == f"provider:{name}"
    provider.left(gone + 1)


def test_what_was_asked_is_kept_and_the_key_is_checked() -> None:
    with Provider(key="right") as provider:
        assert asked(OpenAI(base_url=provider.url, api_key="right"), "hello").choices
        with pytest.raises(openai.AuthenticationError):
            asked(OpenAI(base_url=provider.url, api_key="wrong"), "hello again")
        assert [request.asked for request in provider.requests] == ["hello", "hello again"]
        assert [request.headers["Authorization"] for request in provider.requests] == ["Bearer right", "Bearer wrong"]
        provider.queue([Text("queued")])
        right = OpenAI(base_url=provider.url, api_key="right")
        assert [asked(right, said).choices[0].message.content for said in ("a", "b")] == ["queued", "You said: b"]
        assert [model.id for model in right.models.list()] == [MODEL]


def test_it_can_be_dead_and_come_back() -> None:
    with Provider(context_tokens=100) as provider:
        with pytest.raises(openai.APIConnectionError):
            asked(OpenAI(base_url=provider.dead_url, api_key="any", max_retries=0), "hello")
        client = OpenAI(base_url=provider.url, api_key="any", max_retries=0)
        provider.stop()
        with pytest.raises(openai.APIConnectionError):
            asked(client, "hello")
        provider.start()
        assert asked(client, "hello").choices
        with pytest.raises(openai.BadRequestError, match="context"):
            asked(client, "kettle " * 100)
