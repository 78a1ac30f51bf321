"""Chat completions as OpenAI's own client asks for them, unmodified."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam
from pinch.memory.chunking import estimate_tokens

from service.tests.serving import Answer, Service, until
from tests.frames import Gateway
from tests.provider import MODEL, Finish, Provider, Text, ToolCall

RECALL_TOKENS = 120
INSTRUCTIONS = "You are terse."


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        yield provider


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Service]:
    settings = {
        "PINCH_PROVIDER_BASE_URL": provider.url,
        "PINCH_PROVIDER_MODEL": MODEL,
        "PINCH_PROVIDER_RETRIES": "0",
        "PINCH_AGENTS_RECALL_TOKENS": str(RECALL_TOKENS),
        "PINCH_AGENTS_INSTRUCTIONS": INSTRUCTIONS,
    }
    with Service(tmp_path_factory.mktemp("chat"), PINCH_TIER="minimal", **settings) as service:
        yield service


@pytest.fixture
def service(serving: Service) -> Iterator[Service]:
    yield serving
    assert "Traceback" not in serving.said(), serving.said()[-4000:]
    assert serving.get("/healthz")


@pytest.fixture
def client(service: Service) -> OpenAI:
    return OpenAI(base_url=f"http://127.0.0.1:{service.port}/v1", api_key=service.token, max_retries=0)


@pytest.fixture
def user() -> str:
    """A user that no other test has."""
    return f"user-{uuid.uuid4().hex[:12]}"


def said(*texts: str) -> list[ChatCompletionMessageParam]:
    """Return a conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    return [{"role": roles[place % 2], "content": text} for place, text in enumerate(texts)]  # type: ignore[misc]


def ask(client: OpenAI, *texts: str, **more: Any) -> Any:
    return client.chat.completions.create(model="pinch", messages=said(*texts), **more)


def post(service: Service, **more: Any) -> Answer:
    body = {"model": "pinch", "messages": [{"role": "user", "content": "hello"}], **more}
    return service.call("POST", "/v1/chat/completions", {name: value for name, value in body.items() if value != ...})


def asked(provider: Provider, text: str) -> list[dict[str, Any]]:
    """Return the requests that the provider got about a message."""
    return [request.body for request in provider.requests if request.asked == text]


def told(body: dict[str, Any], *roles: str) -> list[tuple[str, str]]:
    """Return role and text of a request's messages."""
    return [(one["role"], one["content"]) for one in body["messages"] if not roles or one["role"] in roles]


def sessions(service: Service) -> list[dict[str, Any]]:
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        found: list[dict[str, Any]] = gateway.request("sessions.list")["sessions"]
        return found


def history(service: Service, key: str) -> list[tuple[str, str]]:
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        messages = gateway.request("chat.history", {"sessionKey": key})["messages"]
        return [(one["role"], one["content"][0]["text"]) for one in messages if one["content"]]


def test_an_answer_comes_whole(client: OpenAI) -> None:
    answer = ask(client, "the kettle")
    assert (answer.object, answer.model) == ("chat.completion", "pinch")
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason) == (0, "stop")
    assert (choice.message.role, choice.message.content) == ("assistant", "You said: the kettle")
    assert answer.usage.completion_tokens == 4
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 4 > 4


@pytest.mark.parametrize("usage", [None, False, True])
def test_an_answer_comes_as_it_is_said(client: OpenAI, provider: Provider, usage: bool | None) -> None:
    more: dict[str, Any] = {} if usage is None else {"stream_options": {"include_usage": usage}}
    provider.hold(after=2)
    try:
        chunks = [*ask_slowly(client, provider, **more)]
    finally:
        provider.release()
    assert len({chunk.id for chunk in chunks}) == 1
    assert {(chunk.object, chunk.model) for chunk in chunks} == {("chat.completion.chunk", "pinch")}
    last = chunks.pop() if usage else None
    assert all(len(chunk.choices) == 1 and chunk.usage is None for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said: the kettle"
    assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    if last is not None:
        assert last.choices == []
        assert last.usage.completion_tokens == 4


def ask_slowly(client: OpenAI, provider: Provider, **more: Any) -> Iterator[Any]:
    """Ask, and let the provider go on when its first words are here."""
    for chunk in ask(client, "the kettle", stream=True, **more):
        yield chunk
        if "said" in (chunk.choices[0].delta.content or "" if chunk.choices else ""):
            provider.held()
            provider.release()


async def test_the_async_client_asks_side_by_side(service: Service) -> None:
    url = f"http://127.0.0.1:{service.port}/v1"
    async with AsyncOpenAI(base_url=url, api_key=service.token, max_retries=0) as client:

        async def whole(text: str) -> str | None:
            answer = await client.chat.completions.create(model="pinch", messages=said(text))
            return answer.choices[0].message.content

        async def streamed(text: str) -> str | None:
            stream = await client.chat.completions.create(model="pinch", messages=said(text), stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        texts = [f"text {place} größer 水壺 🫖" for place in range(10)]
        for way in (whole, streamed):
            answers = await asyncio.gather(*(way(text) for text in texts))
            assert answers == [f"You said: {text}" for text in texts]


def test_a_user_has_a_session_that_is_remembered(
    client: OpenAI, provider: Provider, service: Service, user: str
) -> None:
    ask(client, f"first {user}", user=user)
    ask(client, f"second {user}", user=user, stream=True).close()
    until(lambda: len(history(service, f"openai:{user}")) == 4, "both are answered or cut")
    ask(client, f"third {user}", user=user)
    (body,) = asked(provider, f"third {user}")
    assert told(body)[:3] == [
        ("system", INSTRUCTIONS), ("user", f"first {user}"), ("assistant", f"You said: first {user}"),
    ]  # fmt: skip
    assert told(body, "user") == [("user", f"{word} {user}") for word in ("first", "second", "third")]
    assert f"openai:{user}" in [session["key"] for session in sessions(service)]


def test_a_history_that_is_sent_again_is_not_stored_twice(
    client: OpenAI, provider: Provider, service: Service, user: str
) -> None:
    spoken: list[str] = []
    for word in ("one", "two", "three"):
        spoken.append(f"{word} {user}")
        spoken.append(ask(client, *spoken, user=user).choices[0].message.content)
    expected = list(zip(("user", "assistant") * 3, spoken, strict=True))
    assert history(service, f"openai:{user}") == expected
    assert told(asked(provider, f"three {user}")[-1], "user", "assistant") == expected[:-1]


def test_an_answer_that_is_sent_last_is_not_the_users_message(client: OpenAI, service: Service, user: str) -> None:
    assert ask(client, f"one {user}", "I would say", user=user).choices[0].message.content == f"You said: one {user}"
    assert history(service, f"openai:{user}") == [("user", f"one {user}"), ("assistant", f"You said: one {user}")]


def test_without_a_user_nothing_is_kept(client: OpenAI, provider: Provider, service: Service) -> None:
    before = sessions(service), service.listed()
    spoken = ("one", "You said one", "two, please")
    assert ask(client, *spoken).choices[0].message.content == "You said: two, please"
    assert [*ask(client, *spoken, stream=True)]
    assert (sessions(service), service.listed()) == before
    assert told(asked(provider, "two, please")[-1]) == [
        ("user", "one"), ("assistant", "You said one"), ("user", "two, please"),
    ]  # fmt: skip
    assert all("tools" not in body for body in asked(provider, "two, please"))


def test_odd_users_have_sessions_of_their_own(client: OpenAI, provider: Provider, service: Service, user: str) -> None:
    before = len(sessions(service))
    users = [f"{user} ü", f"{user}/../x", "x" * 150 + user, f"../{user}", "." + user]
    for name in users:
        for turn in ("one", "two"):
            ask(client, f"{turn} {name}", user=name)
        assert told(asked(provider, f"two {name}")[-1], "user") == [("user", f"one {name}"), ("user", f"two {name}")]
    assert len(sessions(service)) == before + len(users)


def test_contents_in_parts_and_every_role(client: OpenAI, provider: Provider, user: str) -> None:
    messages: Any = [
        {"role": "system", "content": "Be kind."},
        {"role": "developer", "content": [{"type": "text", "text": "Be brief."}]},
        {"role": "user", "content": "before", "name": "Ann"},
        {"role": "assistant", "content": "yes?", "refusal": None},
        {"role": "user", "content": [{"type": "text", "text": f"one {user}"}, {"type": "text", "text": "two"}]},
    ]
    client.chat.completions.create(model="pinch", messages=messages)
    (body,) = asked(provider, f"one {user}\ntwo")
    assert told(body) == [
        ("system", "Be kind."), ("system", "Be brief."), ("user", "before"), ("assistant", "yes?"),
        ("user", f"one {user}\ntwo"),
    ]  # fmt: skip
    client.chat.completions.create(model="pinch", messages=messages, user=user)
    body = asked(provider, f"one {user}\ntwo")[-1]
    assert told(body) == [("system", f"{INSTRUCTIONS}\n\nBe kind.\n\nBe brief."), ("user", f"one {user}\ntwo")]
    ask(client, f"later {user}", user=user)
    assert told(asked(provider, f"later {user}")[-1], "system") == [("system", INSTRUCTIONS)]


@pytest.mark.parametrize("kept", [False, True])
def test_parameters_go_to_the_provider(client: OpenAI, provider: Provider, user: str, *, kept: bool) -> None:
    given: dict[str, Any] = {
        "temperature": 0.5, "top_p": 1, "max_tokens": 9, "max_completion_tokens": 8, "presence_penalty": -1.5,
        "frequency_penalty": 0, "seed": 7, "stop": ["a", "b"],
    }  # fmt: skip
    more: dict[str, Any] = {"user": user} if kept else {}
    ask(client, f"all {user}", **given, **more)
    (body,) = asked(provider, f"all {user}")
    assert {name: body[name] for name in given} == given
    assert (body["model"], body["stream"]) == (MODEL, True)
    assert not {"user", "n", "metadata", "store"} & set(body)
    ask(client, f"none {user}", stop="x", n=1, metadata={"a": "b"}, store=False, temperature=None, **more)
    (body,) = asked(provider, f"none {user}")
    assert body["stop"] == ["x"]
    assert not (set(given) - {"stop"}) & set(body)


def test_why_it_ended_is_told(client: OpenAI, provider: Provider, user: str) -> None:
    for reason in ("length", "content_filter"):
        provider.script(f"{reason} {user}", [Text("so far"), Finish(reason)])
        assert ask(client, f"{reason} {user}").choices[0].finish_reason == reason
        assert [*ask(client, f"{reason} {user}", stream=True)][-1].choices[0].finish_reason == reason


TEXT = {"role": "user", "content": "hello"}
IMAGE = {"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}
BAD: dict[str, tuple[dict[str, Any], int, str | None, str]] = {
    "another model": ({"model": "gpt-4o"}, 404, "model", "there is no model 'gpt-4o'; there are pinch"),
    "no model": ({"model": ...}, 400, "model", "missing"),
    "no messages": ({"messages": ...}, 400, "messages", "missing"),
    "empty messages": ({"messages": []}, 400, "messages", "expected 1 to 256"),
    "too many messages": ({"messages": [TEXT] * 257}, 400, "messages", "expected 1 to 256"),
    "messages that are a text": ({"messages": "hello"}, 400, "messages", "expected an array"),
    "a message that is a text": ({"messages": ["hello"]}, 400, "messages[0]", "expected an object"),
    "no role": ({"messages": [{"content": "x"}]}, 400, "messages[0].role", "missing"),
    "another role": ({"messages": [TEXT, {"role": "x" * 99, "content": "x"}]}, 400, "messages[1].role", "expected one"),
    "a tool's result": (
        {"messages": [TEXT, {"role": "tool", "tool_call_id": "a", "content": "x"}]}, 400, "messages[1].role",
        "expected one of system, developer, user, assistant",
    ),
    "a call of a tool": (
        {"messages": [TEXT, {"role": "assistant", "content": None, "tool_calls": [{"id": "a"}]}]}, 400,
        "messages[1].tool_calls", "there is no field",
    ),
    "no content": ({"messages": [{"role": "user"}]}, 400, "messages[0].content", "missing"),
    "null as content": ({"messages": [{"role": "user", "content": None}]}, 400, "messages[0].content", "found null"),
    "a number as content": ({"messages": [{"role": "user", "content": 5}]}, 400, "messages[0].content", "an integer"),
    "empty content": ({"messages": [{"role": "user", "content": ""}]}, 400, "messages[0].content", "empty"),
    "no parts": ({"messages": [{"role": "user", "content": []}]}, 400, "messages[0].content", "empty"),
    "an image": ({"messages": [{"role": "user", "content": [IMAGE]}]}, 400, "messages[0].content", "no text"),
    "an image with text": (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, IMAGE]}]}, 400,
        "messages[0].content", "no text",
    ),
    "a NUL": ({"messages": [{"role": "user", "content": "a\0b"}]}, 400, "messages[0].content", "NUL"),
    "half a character": (
        {"messages": [{"role": "user", "content": "a\ud83d"}]}, 400, "messages[0].content", "surrogate",
    ),
    "a long text": ({"messages": [{"role": "user", "content": "x" * 65_537}]}, 413, "messages[0].content", "65537"),
    "two answers": ({"n": 2}, 400, "n", "one answer"),
    "no answers": ({"n": 0}, 400, "n", "one answer"),
    "a text as temperature": ({"temperature": "hot"}, 400, "temperature", "expected a number"),
    "a text as max_tokens": ({"max_tokens": "many"}, 400, "max_tokens", "expected an integer"),
    "a half max_tokens": ({"max_tokens": 1.5}, 400, "max_tokens", "expected an integer"),
    "a number as stop": ({"stop": 5}, 400, "stop", "expected an array"),
    "numbers as stop": ({"stop": [5]}, 400, "stop[0]", "expected a string"),
    "a text as stream": ({"stream": "yes"}, 400, "stream", "expected a boolean"),
    "another stream option": ({"stream_options": {"x": 1}}, 400, "stream_options.x", "no field"),
    "an empty user": ({"user": ""}, 400, "user", "expected 1 to 200"),
    "a long user": ({"user": "x" * 201}, 400, "user", "expected 1 to 200"),
    "a user with lines": ({"user": "a\nb"}, 400, "user", "control"),
    "a number as user": ({"user": 5}, 400, "user", "expected a string"),
    "tools": ({"tools": []}, 400, "tools", "no field 'tools'"),
    "a format": ({"response_format": {"type": "json_object"}}, 400, "response_format", "no field"),
    "another field": ({"kettle": 1}, 400, "kettle", "no field 'kettle'"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_openais_shape(service: Service, provider: Provider, name: str) -> None:
    more, status, param, says = BAD[name]
    before = len(provider.requests), sessions(service)
    for stream in (False, True):
        answer = post(service, **{"user": "bad", "stream": stream, **more})
        assert answer.status == status, answer.content
        error = answer.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        assert (error["type"], error["param"]) == ("invalid_request_error", param), error
        assert says in error["message"], error
        assert len(error["message"]) < 300
    assert (len(provider.requests), sessions(service)) == before


def test_a_number_that_is_not_finite_is_refused(service: Service) -> None:
    body = b'{"model": "pinch", "messages": [{"role": "user", "content": "x"}], "temperature": 1e999}'
    answer = service.call("POST", "/v1/chat/completions", body)
    assert (answer.status, answer.json["error"]["param"]) == (400, "temperature")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"\xff", b'{"model": "a", "model": "b"}', b"[" * 9000])
def test_what_is_no_object_is_told_in_openais_shape(service: Service, body: bytes) -> None:
    answer = service.call("POST", "/v1/chat/completions", body)
    assert answer.status == 400
    assert set(answer.json["error"]) == {"message", "type", "param", "code"}


def test_the_client_knows_the_errors(client: OpenAI, service: Service) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-4o", messages=said("x"))
    assert (caught.value.param, caught.value.code) == ("model", "not_found")
    with pytest.raises(openai.BadRequestError):
        ask(client, "x", n=2)
    stranger = client.with_options(api_key="wrong-token-0123456789")
    with pytest.raises(openai.AuthenticationError):
        ask(stranger, "x")
    with pytest.raises(openai.AuthenticationError):
        stranger.models.list()
    with pytest.raises(openai.APIStatusError) as missing:
        client.get("/chat/completions", cast_to=object)
    assert missing.value.status_code == 405


def test_models_are_listed_and_found(client: OpenAI, full: Service) -> None:
    assert [model.id for model in client.models.list()] == ["pinch"]
    found = client.models.retrieve("pinch")
    assert (found.id, found.object, found.owned_by) == ("pinch", "model", "pinch")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-4o")
    semantic = OpenAI(base_url=f"http://127.0.0.1:{full.port}/v1", api_key=full.token, max_retries=0)
    assert [model.id for model in semantic.models.list()] == ["pinch", "all-MiniLM-L6-v2-int8"]
    assert semantic.models.retrieve("all-MiniLM-L6-v2-int8").object == "model"


def test_the_providers_name_for_the_model_is_taken_too(client: OpenAI) -> None:
    assert client.chat.completions.create(model=MODEL, messages=said("x")).model == MODEL


def test_without_a_provider_it_is_said_once(minimal: Service) -> None:
    before = counted(minimal, "503")
    client = OpenAI(base_url=f"http://127.0.0.1:{minimal.port}/v1", api_key=minimal.token, max_retries=3)
    with pytest.raises(openai.InternalServerError) as caught:
        ask(client, "hello", user="nobody")
    assert (caught.value.status_code, caught.value.code) == (503, "no_provider")
    assert "no provider is configured" in caught.value.message
    assert counted(minimal, "503") == before + 1
    assert "openai:nobody" not in [session["key"] for session in sessions(minimal)]
    assert [model.id for model in client.models.list()] == ["pinch"]


def test_a_failed_provider_is_asked_once(client: OpenAI, provider: Provider, user: str) -> None:
    patient = client.with_options(max_retries=3)
    for stream in (False, True):
        with pytest.raises(openai.InternalServerError) as caught:
            ask(patient, f"provider:500 {user}", stream=stream)
        assert (caught.value.status_code, caught.value.code) == (502, "provider_failed")
        assert "something broke" in caught.value.message
    assert len(asked(provider, f"provider:500 {user}")) == 2
    with pytest.raises(openai.APIError, match="broke off"):
        [*ask(patient, f"provider:cut {user}", stream=True)]


def counted(service: Service, status: str) -> int:
    """Return how many answers of `/v1/chat/completions` had a status."""
    lines = service.call("GET", "/metrics").content.decode().splitlines()
    wanted = [line for line in lines if "/v1/chat/completions" in line and f'"{status}"' in line and "_total" in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in wanted)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("kept", [False, True], ids=["forgotten", "kept"])
@pytest.mark.parametrize("reply", ["slow-first", "slow-between", "drips"])
def test_a_client_that_leaves_ends_the_run(
    service: Service, user: str, reply: str, *, kept: bool, stream: bool
) -> None:
    message = f"provider:{reply} {user}"
    with Provider(chunk_s=0.05) as dripping:
        dripping.script("provider:drips", [Text("on and " * 20_000)])
        with _served(service, dripping) as alone:
            body: dict[str, Any] = {"model": "pinch", "messages": said(message), "stream": stream}
            body |= {"user": user} if kept else {}
            data = json.dumps(body).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {alone.token}\r\n"
            head += f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n\r\n"
            with alone.connect() as connection:
                connection.sendall(head.encode() + data)
                dripping.asked()
                if stream and reply != "slow-first":
                    assert b"200 OK" in connection.recv(4096)
            dripping.left()
            until(lambda: running(alone) == 0, "the run has ended")
            if kept:
                (session,) = sessions(alone)
                assert session["running"] is False
                assert history(alone, session["key"])[0] == ("user", message)
            else:
                assert sessions(alone) == []
            assert "Traceback" not in alone.said(), alone.said()
            assert post(alone).status == 200


def _served(service: Service, provider: Provider) -> Service:
    """Return a service that asks another provider; not started."""
    folder = service.folder / uuid.uuid4().hex
    folder.mkdir()
    settings = {"PINCH_PROVIDER_BASE_URL": provider.url, "PINCH_PROVIDER_MODEL": MODEL, "PINCH_TIER": "minimal"}
    return Service(folder, **settings)


def running(service: Service) -> int:
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        runs = gateway.request("status")["runs"]
        return int(runs["running"] + runs["waiting"])


@pytest.mark.parametrize("kept", [False, True], ids=["forgotten", "kept"])
def test_too_many_at_once_are_refused_and_leave_nothing(
    service: Service, provider: Provider, user: str, *, kept: bool
) -> None:
    text = f"{user} " + "x" * 60_000
    before = {session["key"] for session in sessions(service)}

    def one(place: int) -> tuple[str, Answer]:
        name = f"{user}-{place}"
        return name, post(service, messages=said(text), **({"user": name} if kept else {}))

    provider.hold()
    with ThreadPoolExecutor(20) as pool:
        jobs = [pool.submit(one, place) for place in range(20)]
        until(lambda: sum(job.done() for job in jobs) >= 8, "some are refused while others wait")
        provider.release()
        answers = [job.result() for job in jobs]
    refused = [(name, answer) for name, answer in answers if answer.status != 200]
    for _, answer in refused:
        assert answer.status == 503
        assert answer.headers["Retry-After"] == "1"
        assert (answer.json["error"]["code"], answer.json["error"]["type"]) == ("busy", "server_error")
    answered = [name for name, answer in answers if answer.status == 200]
    assert len(answered) >= 3
    after = {session["key"] for session in sessions(service)} - before
    assert after == ({f"openai:{name}" for name in answered} if kept else set())
    assert post(service).status == 200


def test_what_waits_is_booked(service: Service, provider: Provider) -> None:
    """What a run holds of its request, its system messages too, is in the ledger until it ends."""
    accounts = {each["name"]: each for each in service.get("/v1/budget")["accounts"]}
    assert accounts["connections"]["used_bytes"] < 400_000
    messages = [*({"role": "system", "content": "x" * 60_000} for _ in range(8)), {"role": "user", "content": "hold"}]
    provider.hold()
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(post, service, messages=messages)
        provider.held()
        used = {each["name"]: each["used_bytes"] for each in service.get("/v1/budget")["accounts"]}
        provider.release()
        assert job.result().status == 200
    assert used["connections"] + used["bus"] + used["sessions"] > 480_000


def test_a_memory_that_fits_is_in_the_system_message(client: OpenAI, provider: Provider, service: Service) -> None:
    service.remember("The kettle is on the left shelf", tags=["home"])
    question = "Where is the kettle on the shelf?"
    ask(client, question)
    ask(client, question, user="recalling")
    for body, instructions in zip(asked(provider, question), ("", f"{INSTRUCTIONS}\n\n"), strict=True):
        ((_, system),) = told(body, "system")
        assert system.startswith(f"{instructions}From your memory")
        assert "The kettle is on the left shelf" in system
    for place in range(30):
        service.remember(f"Kettle shelf number {place}: " + "a long story about it, " * 40)
    ask(client, f"{question} again")
    ((_, system),) = told(asked(provider, f"{question} again")[0], "system")
    assert 30 < estimate_tokens(system) <= RECALL_TOKENS


def test_the_agents_tools_work_through_the_loop(service: Service, provider: Provider, user: str) -> None:
    fact = f"The teapot of {user} is blue"
    provider.script(
        f"paint {user}",
        [
            Text("Let me see."),
            ToolCall("memory_remember", {"text": fact, "tags": ["teapot"]}),
            Text("And now."),
            ToolCall("memory_search", {"query": f"teapot {user}"}),
            ToolCall("memory_search", {"query": "teapot", "k": 1}),
            Text("Done"),
        ],
    )
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        answer = post(service, messages=said(f"paint {user}"), user=user)
        assert answer.json["choices"][0]["message"]["content"] == "Done"
        events = list(gateway.events(until=lambda event: event["payload"].get("state") == "final"))
    (stored,) = [memory for memory in service.listed() if memory["text"] == fact]
    assert (stored["tags"], stored["source"]) == (["teapot"], "agent")
    calls = [event["payload"]["data"] for event in events if event["event"] == "agent"]
    assert [(call["phase"], call["name"]) for call in calls] == [
        ("start", "memory_remember"), ("result", "memory_remember"),
        ("start", "memory_search"), ("result", "memory_search"),
        ("start", "memory_search"), ("result", "memory_search"),
    ]  # fmt: skip
    assert [calls[place]["toolCallId"] == calls[place + 1]["toolCallId"] for place in (0, 2, 4)] == [True] * 3
    assert calls[1]["result"] == f"remembered as {stored['id']}"
    assert f"[{stored['id']}]" in calls[3]["result"]
    assert fact in calls[3]["result"]
    assert json.loads(calls[0]["args"]) == {"text": fact, "tags": ["teapot"]}
    seqs = [event["payload"]["seq"] for event in events if event["event"] in {"agent", "chat"}]
    assert seqs == list(range(len(seqs)))
    last = asked(provider, f"paint {user}")[-1]
    assert [one["role"] for one in last["messages"]] == [
        "system",
        "user",
        "assistant",
        "tool",
        "assistant",
        "tool",
        "tool",
    ]
    provider.script(f"read {user}", [ToolCall("memory_get", {"id": stored["id"]}), Text("Read")])
    assert post(service, messages=said(f"read {user}"), user=user).json["choices"][0]["message"]["content"] == "Read"
    assert fact in asked(provider, f"read {user}")[-1]["messages"][-1]["content"]
