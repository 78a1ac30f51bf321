"""A provider that is dead, slow, lies or floods: one clear end, an unharmed session, and memory stays bounded."""

from __future__ import annotations

import json
import re
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from service.tests.cli.test_tls import certificate
from service.tests.serving import Answer, Service
from tests.frames import Gateway
from tests.provider import MODEL, Body, Cut, Finish, Flood, Line, Provider, Redirect, Reply, Status, Text, ToolCall

SAID = "This much was said"
STUCK_S = 40.0
"""Seconds without an event after which a run is stuck."""
PEAK_BYTES = 8 * 2**20
LARGE_BYTES = 100 * 2**20
KINDS = {"timeout", "rate_limit", "context_length", "refusal", "unknown"}


class Fault(NamedTuple):
    """What a reply must become."""

    says: str
    """A part of the sentence, as a pattern."""
    kind: str = "unknown"
    text: str = ""
    """What had been said before."""
    requests: int = 1
    """How often the provider is asked."""


BROKEN = '{"choices": [{"index": 0, "delta": '


def delta(said: Any) -> Line:
    """Return a line of the stream that holds one piece."""
    return Line(f"data: {BROKEN}{json.dumps(said)}}}]}}\n".encode())


FAULTS: dict[str, tuple[Reply | None, Fault]] = {
    "slow-first": (None, Fault("silent for 1 s", "timeout", requests=2)),
    "slow-between": (None, Fault("silent for 1 s", "timeout", SAID)),
    "garbage": (None, Fault("no answer: '<html>not", requests=2)),
    "garbage-lines": (None, Fault("no answer: .{kettle", text=SAID)),
    "garbage-only": (None, Fault("no answer", requests=2)),
    "nothing": (None, Fault("no answer", requests=2)),
    "null": (None, Fault("no answer", requests=2)),
    "no-choices": (None, Fault("no answer", requests=2)),
    "html": (None, Fault("text/html")),
    "cut": (None, Fault("broke off", text=SAID)),
    "cut-at-once": (None, Fault("broke off", requests=2)),
    "cut-in-line": (None, Fault("broke off", text=SAID)),
    "cut-clean": (None, Fault("broke off in the middle", text=SAID)),
    "401": (None, Fault("refuses the key: the key is not known", "refusal")),
    "429": (None, Fault("asked too often: too many requests", "rate_limit", requests=2)),
    "429-an-hour": (None, Fault("asked too often", "rate_limit")),
    "quota": (None, Fault("quota is used up", "rate_limit", requests=2)),
    "500": (None, Fault("answered 500: something broke", requests=2)),
    "context-length": (None, Fault("too long for the model.*context_tokens", "context_length")),
    "redirect": (None, Fault("307.*redirects are not followed.*base_url")),
    "redirect-away": (None, Fault("307.*redirects are not followed")),
    "endless": (None, Fault("passed 16 KiB.*max_answer_kb", text="on and ")),
    "plain": ([Body(b"kettle", "text/plain")], Fault("text/plain")),
    "a long content type": ([Body(b"kettle", "x/" + "y" * 5000)], Fault("x/yyy")),
    "an empty object": ([Body(b"{}")], Fault("no answer", requests=2)),
    "an empty stream": ([Body(b"", "text/event-stream")], Fault("broke off in the middle", requests=2)),
    "done and nothing else": (
        [Body(b"data: [DONE]\n\n", "text/event-stream")], Fault("no answer|broke off", requests=2),
    ),
    "see other": ([Redirect("http://192.0.2.1/", 303)], Fault("303")),
    "not modified": ([Status(304, "x")], Fault("304")),
    "a proxy's 502 page": ([Status(502, "<html>" + "x" * 20_000)], Fault("502", requests=2)),
    "an error with lines": ([Status(400, "one\r\ntwo\x1b[31m\x00three")], Fault("400: one two.*three")),
    "an error that is a list": ([Line(b'data: {"error": ["odd"]}\n')], Fault("odd")),
    "an error that is a text": ([Line(b'data: {"error": "odd"}\n')], Fault("odd")),
    "an error in the stream": (
        [Line(b'data: {"error": {"message": "odd", "code": 429}}\n')], Fault("odd", "rate_limit", requests=2),
    ),
    "an error in the middle": (
        [Text(SAID), Line(b'data: {"error": {"message": "odd", "code": "content_filter"}}\n')],
        Fault("refuses to answer: odd", "refusal", SAID),
    ),
    "llama.cpp's context": (
        [Body(b'{"error": {"code": 400, "message": "odd", "type": "exceed_context_size_error"}}')],
        Fault("too long for the model: odd", "context_length"),
    ),
    "vLLM's context": (
        [Status(400, "This model's maximum context length is 8 tokens", "BadRequestError")],
        Fault("too long for the model", "context_length"),
    ),
    "nested": ([Line(b"data: " + b"[" * 20_000 + b"\n")], Fault("no answer", requests=2)),
    "an endless number": ([Line(b"data: " + b"9" * 10_000 + b"\n")], Fault("no answer", requests=2)),
    "content that is a list": ([delta({"content": [1]})], Fault("no answer", requests=2)),
    "delta that is a text": ([delta("x")], Fault("no answer", requests=2)),
    "a call that is a text": ([delta({"tool_calls": ["x"]})], Fault("no answer", requests=2)),
    "an id that is a number": ([delta({"tool_calls": [{"index": 0, "id": 5}]})], Fault("no answer", requests=2)),
    "too many calls": ([ToolCall("memory_search", {"query": "kettle"})] * 17, Fault("more than 16 tools at once")),
    "endless arguments": ([ToolCall("memory_search", "x" * 20_000)], Fault("passed 16 KiB")),
}  # fmt: skip


class Good(NamedTuple):
    """What an odd reply that is an answer must become."""

    text: str
    stop: str = "stop"
    requests: int = 1


ANSWERS: dict[str, tuple[Reply | None, Good]] = {
    "no-done": (None, Good(SAID)),
    "length": (None, Good(SAID, "length")),
    "content-filter": (None, Good(SAID, "content_filter")),
    "empty": (None, Good("")),
    "429-once": (None, Good("at last", requests=2)),
    "500-once": (None, Good("at last", requests=2)),
    "503-once": (None, Good("at last", requests=2)),
    "comments": (None, Good(SAID)),
    "slivers": (None, Good("Wasserkocher größer als 水壺")),
    "cut after the reason": ([Text(SAID), Cut(after_reason=True)], Good(SAID)),
    "a call, and a reason that is none": ([Text(SAID), Finish("tool_calls")], Good(SAID, "tool_calls")),
    "CRLF and a byte order mark": (
        [Body(
            f'\ufeffdata: {BROKEN}{{"content": "ket"}}}}]}}\r\n\r\ndata:{BROKEN}{{"content": "tle"}}}}]}}\r\n\r\n'
            "data: [DONE]\r\n\r\n".encode(),
            "text/event-stream",
        )],
        Good("kettle"),
    ),
    "an event in two lines": (
        [Body(
            b'data: {"choices": [{"index": 0,\ndata: "delta": {"content": "kettle"}}]}\n\ndata: [DONE]\n\n',
            "text/event-stream",
        )],
        Good("kettle"),
    ),
    "nulls everywhere": (
        [Line(
            b'data: {"error": null, "usage": null, "choices": [{"index": 0, "delta": {"content": "kettle",'
            b' "tool_calls": null, "refusal": null, "role": null}, "finish_reason": null}]}\n'
        ), Line(b'data: {"choices": null, "usage": {"prompt_tokens": null}}\n')],
        Good("kettle"),
    ),
    "half a character": ([Line(f'data: {BROKEN}{{"content": "ket\\ud83dtle"}}}}]}}\n'.encode())], Good("ket?tle")),
    "a NUL": ([Line(f'data: {BROKEN}{{"content": "ket\\u0000tle"}}}}]}}\n'.encode())], Good("ket\0tle")),
    "a reason that is an object": (
        [Line(b'data: {"choices": [{"index": 0, "delta": {"content": "kettle"}, "finish_reason": {"a": 1}}]}\n')],
        Good("kettle"),
    ),
    "a whole answer": (
        [Body(b'{"choices": [{"message": {"content": "kettle"}, "finish_reason": "stop"}], "usage": {"x": 1e9}}')],
        Good("kettle"),
    ),
    "a word a byte": ([Flood(16_000, chunk_bytes=1)], Good("x" * 16_000)),
    "much thinking": ([*[delta({"reasoning_content": "hm " * 99})] * 9000, Text(SAID)], Good(SAID)),
    "a refusal": ([Line(f'data: {BROKEN}{{"refusal": "not that"}}}}]}}\n'.encode())], Good("not that")),
}  # fmt: skip


@pytest.fixture(scope="module")
def provider() -> Iterator[Provider]:
    with Provider() as provider:
        for name, (reply, _) in {**FAULTS, **ANSWERS}.items():
            if reply is not None:
                provider.script(f"scripted <{name}>", reply)
        yield provider


def settings(url: str, **more: str) -> dict[str, str]:
    return {
        "PINCH_TIER": "minimal",
        "PINCH_PROVIDER_BASE_URL": url,
        "PINCH_PROVIDER_MODEL": MODEL,
        "PINCH_PROVIDER_SILENCE_S": "1",
        "PINCH_PROVIDER_RETRIES": "1",
        "PINCH_PROVIDER_MAX_ANSWER_KB": "16",
        **more,
    }


@pytest.fixture(scope="module")
def serving(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("faults"), **settings(provider.url)) as service:
        yield service


@pytest.fixture
def service(serving: Service) -> Iterator[Service]:
    """That service; after the test it has nothing to be ashamed of in its log."""
    yield serving
    unashamed(serving)


@pytest.fixture
def session(request: pytest.FixtureRequest) -> str:
    """A session that no other test has."""
    return re.sub(r"[^A-Za-z0-9]+", "-", request.node.name)[:60] + f"-{time.monotonic_ns()}"


def unashamed(service: Service) -> None:
    said = service.said()
    assert "Traceback" not in said, said[-4000:]
    assert "something went wrong" not in said


def connected(service: Service) -> Gateway:
    gateway = Gateway(service.port)
    gateway.wire.socket.settimeout(STUCK_S)
    gateway.connect(service.token)
    return gateway


def say(gateway: Gateway, message: str, session: str) -> list[dict[str, Any]]:
    """Say something under a key of its own and return the `chat` events up to the end."""
    return gateway.say(message, session, uuid.uuid4().hex)


def message_of(name: str, reply: Reply | None) -> str:
    return f"provider:{name}" if reply is None else f"scripted <{name}>"


def requests_for(provider: Provider, message: str) -> int:
    return sum(request.asked == message for request in provider.requests)


def error_of(events: list[dict[str, Any]], fault: Fault) -> dict[str, Any]:
    """Check that a run's events are pieces and then one error as documented, and return it."""
    *pieces, end = events
    assert [event["seq"] for event in events] == list(range(len(events)))
    assert all(piece["state"] == "delta" for piece in pieces)
    assert end["state"] == "error", end
    clear(end["errorMessage"], fault)
    assert end["errorKind"] == fault.kind
    said = "".join(piece["deltaText"] for piece in pieces)
    assert said.startswith(fault.text)
    assert bool(said) == bool(fault.text)
    assert ("message" in end) == bool(said)
    return end


def clear(sentence: str, fault: Fault) -> None:
    """Check that a sentence says what went wrong, in one line."""
    assert re.search(fault.says, sentence), sentence
    assert sentence.isprintable()
    assert 10 < len(sentence) < 500


def unharmed(service: Service, session: str, message: str, text: str) -> None:
    """Check that the session holds what was said, and goes on; after a new start too it is whole."""
    with connected(service) as gateway:
        assert say(gateway, "and now?", session)[-1]["message"]["content"][0]["text"] == "You said: and now?"
        history = gateway.request("chat.history", {"sessionKey": session})
    assert history["damage"] is None
    assert history["running"] is False
    said = [(one["role"], one["content"][0]["text"]) for one in history["messages"] if one["content"]]
    assert said[0] == ("user", message)
    assert any(role == "assistant" and told.startswith(text) for role, told in said)
    assert said[-2:] == [("user", "and now?"), ("assistant", "You said: and now?")]
    lines = (service.state / "sessions" / f"{session}.jsonl").read_bytes().splitlines()
    assert [json.loads(line)["type"] for line in lines].count("end") == 2


def post(service: Service, session: str, message: str, **more: Any) -> Answer:
    """Ask over HTTP in a session whose key is `openai:` and its name."""
    body = {"model": "pinch", "user": session, "messages": [{"role": "user", "content": message}], **more}
    return service.call("POST", "/v1/chat/completions", body)


def events_of(answer: Answer) -> list[Any]:
    """Return the events of a stream; each is one JSON line, and `[DONE]` stays a text."""
    assert answer.status == 200, answer.content
    assert answer.headers["Content-Type"] == "text/event-stream"
    found = re.findall(rb"data: (.*)\n\n", answer.content)
    assert b"".join(b"data: %s\n\n" % one for one in found) == answer.content
    return [one.decode() if one == b"[DONE]" else json.loads(one) for one in found]


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_the_run_with_one_sentence(provider: Provider, service: Service, session: str, name: str) -> None:
    reply, fault = FAULTS[name]
    message = message_of(name, reply)
    before = requests_for(provider, message)
    with connected(service) as gateway:
        error_of(say(gateway, message, session), fault)
        assert requests_for(provider, message) - before == fault.requests
        history = gateway.request("chat.history", {"sessionKey": session})["messages"]
        (told,) = [one["errorMessage"] for one in history if "errorMessage" in one]
        assert re.search(fault.says.partition(".*")[0], told)
    unharmed(service, session, message, fault.text)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_an_error_in_openais_shape(service: Service, session: str, name: str, *, stream: bool) -> None:
    reply, fault = FAULTS[name]
    message = message_of(name, reply)
    answer = post(service, session, message, stream=stream)
    if stream and fault.text:
        *chunks, last = events_of(answer)
        assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks).startswith(fault.text)
        error = last["error"]
    else:
        assert answer.status == 502
        assert answer.headers["x-should-retry"] == "false"
        error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, "provider_failed")
    clear(error["message"], fault._replace(says=fault.says.partition(".*")[0]))
    unharmed(service, f"openai:{session}", message, fault.text)


@pytest.mark.parametrize("name", ANSWERS)
def test_an_odd_answer_is_an_answer(provider: Provider, service: Service, session: str, name: str) -> None:
    reply, good = ANSWERS[name]
    message = message_of(name, reply)
    before = requests_for(provider, message)
    with connected(service) as gateway:
        *pieces, end = say(gateway, message, session)
    assert (end["state"], end["stopReason"]) == ("final", good.stop), end
    assert "".join(piece["deltaText"] for piece in pieces) == good.text
    assert not good.text or end["message"]["content"] == [{"type": "text", "text": good.text}]
    assert requests_for(provider, message) - before == good.requests
    unharmed(service, session, message, "")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("name", [name for name, (_, good) in ANSWERS.items() if good.requests == 1])
def test_an_odd_answer_is_one_over_http_too(service: Service, name: str, *, stream: bool) -> None:
    reply, good = ANSWERS[name]
    body = {"model": "pinch", "messages": [{"role": "user", "content": message_of(name, reply)}], "stream": stream}
    answer = service.call("POST", "/v1/chat/completions", body)
    assert answer.status == 200, answer.content
    if stream:
        *chunks, done = events_of(answer)
        assert done == "[DONE]"
        said = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        reason = chunks[-1]["choices"][0]["finish_reason"]
    else:
        (choice,) = answer.json["choices"]
        said, reason = choice["message"]["content"], choice["finish_reason"]
    assert said == good.text
    assert reason == (good.stop if good.stop in {"stop", "length", "content_filter"} else "stop")


def memory(service: Service) -> tuple[int, int]:
    """Return what the service holds in RAM and the most that it held since `forget_peak`, bytes."""
    status = Path(f"/proc/{service.pid}/status").read_text("ascii")
    now, peak = (int(re.search(rf"{name}:\s+(\d+) kB", status)[1]) * 1024 for name in ("VmRSS", "VmHWM"))  # type: ignore[index]
    return now, peak


def forget_peak(service: Service) -> int:
    """Let the peak begin anew; return what is held now."""
    Path(f"/proc/{service.pid}/clear_refs").write_text("5", "ascii")
    return memory(service)[0]


COMMENTS = b": working\n" * 6553
LARGE: dict[str, tuple[Reply, str]] = {
    "events": ([Flood(LARGE_BYTES)], "passed 16 KiB"),
    "small events": ([Flood(2**20, chunk_bytes=1)], "passed 16 KiB"),
    "one line": ([Flood(LARGE_BYTES, one_line=True)], "passed 16 KiB"),
    "JSON": (
        [Body(b'{"choices": [{"message": {"content": "' + b"x" * LARGE_BYTES + b'"}, "finish_reason": "stop"}]}')],
        "passed 16 KiB",
    ),
    "JSON that is nothing": ([Body(b" " * LARGE_BYTES)], "passed 16 KiB"),
    "comments": ([Line(COMMENTS)] * (LARGE_BYTES // len(COMMENTS)), "sent more than 8\\d{3} KiB"),
    "an event of many lines": ([Line(b"data:\n" * 20_000)] * 1000, "passed 16 KiB"),
    "an error": ([Status(400, "x" * LARGE_BYTES)], "answered 400"),
    "arguments": ([ToolCall("memory_search", "x" * 2**20)], "passed 16 KiB"),
}


@pytest.fixture(scope="module")
def flooded(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[Service]:
    """A service that has patience: the provider makes 100 MB in this process."""
    patient = {"PINCH_PROVIDER_SILENCE_S": "30", "PINCH_PROVIDER_RETRIES": "0"}
    with Service(tmp_path_factory.mktemp("flooded"), **settings(provider.url, **patient)) as service:
        yield service
        unashamed(service)


@pytest.mark.parametrize("name", LARGE)
def test_a_flood_is_cut_and_takes_no_memory(provider: Provider, flooded: Service, session: str, name: str) -> None:
    service = flooded
    reply, says = LARGE[name]
    message = f"flood <{name}>"
    provider.script(message, reply)
    with connected(service) as gateway:
        say(gateway, "hello", session)
        before = forget_peak(service)
        end = say(gateway, message, session)[-1]
        assert (end["state"], end["errorKind"]) == ("error", "unknown")
        clear(end["errorMessage"], Fault(says))
        for stream in (False, True):
            answer = post(service, f"{session}-{stream}", message, stream=stream)
            assert re.search(says.encode(), answer.content)
        peak = memory(service)[1]
        print(f"{name}: {(peak - before) / 2**20:.1f} MB more at the most")
        assert peak - before < PEAK_BYTES
        assert say(gateway, "and now?", session)[-1]["state"] == "final"


class Raw:
    """A server that takes each request and then does whatever a test wants with the connection."""

    def __init__(self, reply: Callable[[socket.socket], None], context: ssl.SSLContext | None = None) -> None:
        self.reply = reply
        self.requests: list[bytes] = []
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._taken: list[socket.socket] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._taken:
            connection.close()

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self._taken.append(connection)
            threading.Thread(target=self._take, args=(connection,), daemon=True).start()

    def _take(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            data = b""
            while b"\r\n\r\n" not in data:
                data += connection.recv(65_536)
            head, _, body = data.partition(b"\r\n\r\n")
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            while len(body) < length:
                body += connection.recv(65_536)
            self.requests.append(head)
            self.reply(connection)
            connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the service has gone
        finally:
            connection.close()


OK = b"HTTP/1.1 200 OK\r\n"
STREAM = OK + b"Content-Type: text/event-stream\r\n"
PIECE = f'data: {BROKEN}{{"content": "kettle"}}}}]}}\n\n'.encode()


def trickle(first: bytes, more: bytes) -> Callable[[socket.socket], None]:
    """Return what says something again and again, so that it is never silent."""

    def reply(connection: socket.socket) -> None:
        connection.sendall(first)
        while True:
            time.sleep(0.1)
            connection.sendall(more)

    return reply


def in_pieces(connection: socket.socket) -> None:
    """Send an error in several packets."""
    for piece in (b"HTTP/1.1 401 No\r\n\r\n", b'{"error": {"mess', b'age": "who?"', b"}}"):
        connection.sendall(piece)
        time.sleep(0.05)


WIRE: dict[str, tuple[Callable[[socket.socket], None], Fault]] = {
    "no HTTP": (lambda to: to.sendall(b"SSH-2.0-OpenSSH_9.9\r\n"), Fault("cannot be reached or broke off")),
    "binary": (lambda to: to.sendall(bytes(range(256)) * 40), Fault("cannot be reached or broke off")),
    "an endless header": (lambda to: to.sendall(OK + b"X: " + b"x" * 2**20), Fault("cannot be reached or broke off")),
    "a length that is none": (
        lambda to: to.sendall(STREAM + b"Content-Length: -5\r\n\r\n" + PIECE), Fault("cannot be reached or broke off"),
    ),
    "a length that is too long": (
        lambda to: to.sendall(STREAM + b"Content-Length: 5000\r\n\r\n" + PIECE), Fault("broke off", text="kettle"),
    ),
    "a chunk that is none": (
        lambda to: to.sendall(STREAM + b"Transfer-Encoding: chunked\r\n\r\nkettle\r\n" + PIECE), Fault("broke off"),
    ),
    "packed": (
        lambda to: to.sendall(STREAM + b"Content-Encoding: gzip\r\n\r\n\x1f\x8b\x08\x00" + bytes(50)),
        Fault("broke off"),
    ),
    "a header for ever": (trickle(OK, b"X: x\r\n"), Fault("longer than 3 s", "timeout")),
    "comments for ever": (trickle(STREAM + b"\r\n", b": working\n\n"), Fault("longer than 3 s", "timeout")),
    "words for ever": (trickle(STREAM + b"\r\n", PIECE), Fault("longer than 3 s", "timeout", "kettle")),
    "JSON for ever": (
        trickle(OK + b"Content-Type: application/json\r\n\r\n", b" "), Fault("longer than 3 s", "timeout"),
    ),
    "an error for ever": (
        trickle(b"HTTP/1.1 401 No\r\nContent-Type: text/plain\r\n\r\nwho ", b"x "), Fault("the key: who x", "refusal"),
    ),
    "an error in pieces": (in_pieces, Fault("refuses the key: who\\?", "refusal")),
    "an error that breaks off": (
        lambda to: to.sendall(b"HTTP/1.1 401 No\r\nContent-Length: 500\r\n\r\nwho?"), Fault("the key: who", "refusal"),
    ),
}  # fmt: skip


@pytest.fixture
def alone(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    """Starts a service of this test's own, which tries once."""
    running: list[Service] = []

    def begin(url: str, **more: str) -> Service:
        service = Service(tmp_path, **settings(url, **{"PINCH_PROVIDER_RETRIES": "0", **more}))
        running.append(service)
        service.start()
        return service

    yield begin
    for service in running:
        service.stop()
        unashamed(service)


@pytest.mark.parametrize("name", WIRE)
def test_what_is_hardly_http_ends_with_one_sentence(alone: Callable[..., Service], name: str) -> None:
    reply, fault = WIRE[name]
    with Raw(reply) as raw:
        service = alone(raw.url, PINCH_PROVIDER_ANSWER_S="3")
        with connected(service) as gateway:
            error_of(say(gateway, "hello", "main"), fault)
            raw.reply = lambda to: to.sendall(STREAM + b"\r\n" + PIECE + b"data: [DONE]\n\n")
            assert say(gateway, "and now?", "main")[-1]["message"]["content"][0]["text"] == "kettle"
        assert len(raw.requests) == 2


def test_a_dead_provider_that_comes_to_life(alone: Callable[..., Service]) -> None:
    with Provider() as provider:
        provider.stop()
        service = alone(provider.url)
        with connected(service) as gateway:
            error_of(say(gateway, "hello", "main"), Fault("cannot be reached.*base_url and the network"))
            answer = post(service, "main", "hello")
            assert (answer.status, answer.json["error"]["code"]) == (502, "provider_failed")
            provider.start()
            assert say(gateway, "and now?", "main")[-1]["message"]["content"][0]["text"] == "You said: and now?"
            provider.stop()  # with the connection that was kept open
            error_of(say(gateway, "hello", "main"), Fault("cannot be reached"))


@pytest.mark.parametrize("url", ["http://" + "a" * 70 + "/v1", "http://a..b/v1"])
def test_an_address_that_is_none_is_told(alone: Callable[..., Service], url: str) -> None:
    with connected(alone(url)) as gateway:
        error_of(say(gateway, "hello", "main"), Fault("base_url"))


def test_failures_before_a_success_are_not_noticed(alone: Callable[..., Service], provider: Provider) -> None:
    service = alone(provider.url, PINCH_PROVIDER_RETRIES="2")
    before = requests_for(provider, "provider:500-twice")
    with connected(service) as gateway:
        events = say(gateway, "provider:500-twice", "main")
    assert [event["state"] for event in events] == ["delta"] * (len(events) - 1) + ["final"]
    assert events[-1]["message"]["content"][0]["text"] == "at last"
    assert requests_for(provider, "provider:500-twice") - before == 3


def test_a_certificate_that_nobody_trusts(alone: Callable[..., Service], tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path, "mine.pem"))
    with Raw(lambda to: to.sendall(STREAM + b"\r\n" + PIECE), context) as raw:
        service = alone(raw.url, PINCH_PROVIDER_RETRIES="3")
        with connected(service) as gateway:
            error_of(say(gateway, "hello", "main"), Fault("certificate"))
        assert raw.requests == [], "nothing is told to a stranger"
        assert "attempt" not in service.said(), "it would be the same certificate"


KEY = "sk-kettle-0123456789-0123456789"


def test_the_key_is_read_each_time_and_told_to_nobody(alone: Callable[..., Service], tmp_path: Path) -> None:
    file = tmp_path / "key"
    told: list[bytes] = []
    with Provider(key=KEY) as provider:
        service = alone(provider.url, PINCH_PROVIDER_KEY_FILE=str(file))
        with connected(service) as gateway:
            for content, says, kind in (
                (None, "cannot be read from .*key", "unknown"),
                (b"", "is empty", "unknown"),
                (b" \n", "is empty", "unknown"),
                (b"ket\ntle", "no key", "unknown"),
                ("schlüssel".encode(), "no key", "unknown"),
                (b"\xff\xfe", "cannot be read|no key", "unknown"),
                (b"k" * 2**20, "no key", "unknown"),
                (b"sk-another", "refuses the key", "refusal"),
            ):
                if content is not None:
                    file.write_bytes(content)
                error_of(say(gateway, "hello", "main"), Fault(says, kind))
            file.write_text(f"{KEY}\n", "utf-8")
            assert say(gateway, "hello", "main")[-1]["state"] == "final"
            file.unlink()
            file.mkdir()
            error_of(say(gateway, "hello", "main"), Fault("cannot be read from .*key"))
            told.append(json.dumps(gateway.request("chat.history", {"sessionKey": "main"})).encode())
        told += [service.said().encode(), *(path.read_bytes() for path in service.state.rglob("*") if path.is_file())]
    assert not any(KEY.encode() in one or b"sk-another" in one for one in told)


LEAKS: dict[str, Reply] = {
    "an error": [Status(401, f"Incorrect API key provided: {KEY}")],
    "an error at its limit": [Status(400, "x" * 280 + f" {KEY}")],
    "no JSON": [Body(b"HTTP " + KEY.encode(), "application/json")],
    "no JSON at its limit": [Body(b"x" * 70 + KEY.encode(), "application/json")],
    "an event": [Line(b"data: " + KEY.encode() + b"\n")],
    "an error in the stream": [Line(f'data: {{"error": "{KEY}"}}\n'.encode())],
    "an error in an odd place": [Status(400, "odd", code=f"context_length {KEY}")],
    "a content type": [Body(b"x", f"text/{KEY}")],
    "a redirect": [Redirect(f"http://127.0.0.1/?key={KEY}")],
}


@pytest.mark.parametrize("name", LEAKS)
def test_a_provider_that_repeats_the_key_does_not_tell_it(
    alone: Callable[..., Service], tmp_path: Path, name: str
) -> None:
    (tmp_path / "key").write_text(KEY, "utf-8")
    with Provider(key=KEY) as provider:
        provider.script("hello", LEAKS[name])
        service = alone(
            provider.url, PINCH_PROVIDER_KEY_FILE=str(tmp_path / "key"), PINCH_PROVIDER_RETRIES="1",
            PINCH_LOG_LEVEL="debug",
        )  # fmt: skip
        with connected(service) as gateway:
            events = say(gateway, "hello", "main")
            assert events[-1]["state"] == "error"
            answers = [post(service, "other", "hello", stream=stream).content.decode() for stream in (False, True)]
            told = [json.dumps(events), json.dumps(gateway.request("logs.tail")), *answers, service.said()]
    told += [path.read_text("utf-8", "replace") for path in service.state.rglob("*") if path.is_file()]
    assert len(provider.requests) >= 3
    assert not any(KEY[:12] in one for one in told)


def tool_events(events: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    """Return phase, name and text of the `agent` events."""
    told = [event["payload"]["data"] for event in events if event["event"] == "agent"]
    return [(data["phase"], data["name"], data.get("args") or data.get("result") or "") for data in told]


def told(service: Service, session: str, message: str) -> list[dict[str, Any]]:
    """Say something and return all events up to the end."""
    with connected(service) as gateway:
        run = gateway.request("chat.send", {"sessionKey": session, "message": message, "idempotencyKey": session})
        found = list(
            gateway.events(
                until=lambda event: (
                    event["event"] == "chat"
                    and event["payload"]["runId"] == run["runId"]
                    and event["payload"]["state"] != "delta"
                )
            )
        )
    assert [one["payload"]["seq"] for one in found if "seq" in one["payload"]] == list(
        range(sum("seq" in one["payload"] for one in found))
    )
    return found


BAD_CALLS: dict[str, tuple[str, Mapping[str, Any] | str, str]] = {
    "an unknown tool": ("no_such_tool", {}, "there is no tool 'no_such_tool'"),
    "a tool with an endless name": ("x" * 9000, {}, "there is no tool 'xxx"),
    "a part of Python": ("__class__", {}, "there is no tool"),
    "no JSON": ("memory_search", '{"query": "ket', "are not JSON"),
    "a list": ("memory_search", "[1]", "no JSON object"),
    "null": ("memory_search", "null", "no JSON object"),
    "deep": ("memory_search", "[" * 5000, "are not JSON"),
    "an endless number": ("memory_search", "9" * 9000, "are not JSON"),
    "NaN": ("memory_search", '{"query": "kettle", "k": NaN}', "k is nan"),
    "no query": ("memory_search", {}, "query is no text"),
    "a number": ("memory_search", {"query": 5}, "query is no text"),
    "too many": ("memory_search", {"query": "kettle", "k": 10**6}, "expected 1 to 20"),
    "true": ("memory_search", {"query": "kettle", "k": True}, "expected 1 to 20"),
    "half a character": ("memory_search", '{"query": "\\ud83d kettle"}', ""),
    "a NUL": ("memory_search", '{"query": "ket\\u0000tle"}', "NUL"),
    "quotes": ("memory_search", '{"query": "\\"\\"\\" AND ( NEAR * - kettle"}', ""),
    "a long query": ("memory_search", {"query": "x" * 9000}, "more than 8192 bytes"),
    "no such memory": ("memory_get", {"id": "m99999"}, "error: "),
    "an odd id": ("memory_get", {"id": "../../etc/passwd"}, "error: "),
    "an endless id": ("memory_get", {"id": "m" + "9" * 38}, "error: "),
    "nothing to remember": ("memory_remember", {"text": " "}, "text is no text"),
    "tags that are a text": ("memory_remember", {"text": "kettle", "tags": "home"}, "tags is no list"),
    "a tag with lines": ("memory_remember", {"text": "kettle", "tags": ["a\nb"]}, "error: "),
    "an endless tag": ("memory_remember", {"text": "kettle", "tags": ["x" * 300]}, "more than 200 bytes"),
    "many tags": ("memory_remember", {"text": "kettle", "tags": ["x"] * 33}, "at most 32"),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_a_bad_call_is_told_to_the_model_which_goes_on(
    provider: Provider, service: Service, session: str, name: str
) -> None:
    tool, arguments, says = BAD_CALLS[name]
    provider.script(f"call <{name}>", [ToolCall(tool, arguments), Text("at last")])
    stored = service.listed()
    events = told(service, session, f"call <{name}>")
    assert events[-1]["payload"]["message"]["content"][0]["text"] == "at last"
    (_, called, _), (phase, again, result) = tool_events(events)
    assert (called, phase, again) == (tool, "result", tool)
    assert says in result
    assert len(result) < 500
    final = provider.requests[-1].body["messages"]
    assert final[-1]["role"] == "tool"
    assert final[-1]["content"] == result
    assert service.listed() == stored


ODD_CALLS: dict[str, list[str]] = {
    "without an index": ['{"id": "a", "function": {"name": "memory_get", "arguments": "{}"}}'],
    "with a null as index": ['{"index": null, "id": "a", "function": {"name": "memory_get", "arguments": "{}"}}'],
    "with an object as index": ['{"index": {}, "id": "a", "function": {"name": "memory_get", "arguments": "{}"}}'],
    "with one index for all": [
        '{"index": 0, "id": "a", "function": {"name": "memory_get", "arguments": "{}"}}',
        '{"index": 0, "id": "b", "function": {"name": "memory_get", "arguments": "{}"}}',
    ],
    "with a text as index": [
        '{"index": 0, "id": "a", "function": {"name": "memory_get", "arguments": "{}"}}',
        '{"index": "0", "id": "b", "function": {"name": "memory_get", "arguments": "{}"}}',
    ],
    "without an id": ['{"index": 0, "function": {"name": "memory_get", "arguments": "{}"}}'],
    "with an empty id": ['{"index": 0, "id": "", "function": {"name": "memory_get", "arguments": "{}"}}'],
    "two with one id": [
        '{"index": 0, "id": "a", "function": {"name": "memory_get", "arguments": "{}"}}',
        '{"index": 1, "id": "a", "function": {"name": "memory_get", "arguments": "{}"}}',
    ],
    "two without an index": [
        '{"id": "a", "function": {"name": "memory_get", "arguments": "{}"}}',
        '{"id": "b", "function": {"name": "memory_get", "arguments": "{}"}}',
    ],
    "with no arguments": ['{"index": 0, "id": "a", "function": {"name": "memory_get"}}'],
}


@pytest.mark.parametrize("name", ODD_CALLS)
def test_an_odd_call_is_called_and_its_result_has_its_place(
    provider: Provider, service: Service, session: str, name: str
) -> None:
    calls = ODD_CALLS[name]
    lines = [Line(f'data: {BROKEN}{{"tool_calls": [{call}]}}}}]}}\n'.encode()) for call in calls]
    message = f"odd call <{name}>"

    def reply(body: dict[str, Any]) -> Reply:
        return [Text("at last")] if body["messages"][-1]["role"] == "tool" else [*lines, Finish("tool_calls")]

    provider.script(lambda body: body["messages"][-1 - _results(body)].get("content") == message, reply)
    events = told(service, session, message)
    assert events[-1]["payload"]["state"] == "final", events[-1]
    results = [result for phase, _, result in tool_events(events) if phase == "result"]
    assert results == ["error: id is no text"] * len(calls)
    sent = provider.requests[-1].body["messages"]
    made = [call["id"] for one in sent for call in one.get("tool_calls", ())]
    assert len(set(made)) == len(calls)
    assert [one["tool_call_id"] for one in sent if one["role"] == "tool"] == made


def _results(body: dict[str, Any]) -> int:
    """Return how many messages stand behind the user's last one."""
    places = [place for place, one in enumerate(body["messages"]) if one["role"] == "user"]
    return len(body["messages"]) - 1 - places[-1] if places else 0


def test_tools_for_ever_end_after_the_rounds_that_are_allowed(
    provider: Provider, service: Service, session: str
) -> None:
    provider.script("call for ever", [Text("once more"), ToolCall("memory_search", {"query": "kettle"})] * 9)
    before = requests_for(provider, "call for ever")
    end = told(service, session, "call for ever")[-1]["payload"]
    assert (end["state"], end["message"]["content"][0]["text"]) == ("final", "once more")
    asked = [request for request in provider.requests if request.asked == "call for ever"][before:]
    assert ["tools" in request.body for request in asked] == [True] * 6 + [False]
    unharmed(service, session, "call for ever", "once more")


def test_the_largest_results_leave_a_session_that_goes_on(provider: Provider, service: Service, session: str) -> None:
    memories = [service.remember(f"kettle {place} " + "x" * 60_000) for place in range(16)]
    calls = [ToolCall("memory_get", {"id": memory}) for memory in memories]
    provider.script(
        "get everything", [*calls, Text("a"), *calls, Text("b"), *calls, Text("c"), *calls, Text("at last")]
    )
    before = forget_peak(service)
    end = told(service, session, "get everything")[-1]["payload"]
    assert end["state"] == "final", end.get("errorMessage")
    assert memory(service)[1] - before < PEAK_BYTES
    assert provider.requests[-1].asked == "get everything"
    with connected(service) as gateway:
        assert say(gateway, "and now?", session)[-1]["message"]["content"][0]["text"] == "You said: and now?"
        assert say(gateway, "once more", session)[-1]["state"] == "final"
        assert gateway.request("chat.history", {"sessionKey": session})["damage"] is None
