"""The scripted provider's endpoint, in a thread of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any, NamedTuple, Self

from aiohttp import web

from tests.provider.completions import Completion, Stream, Whole
from tests.provider.conversation import asked_in, objection, turn_of
from tests.provider.replies import (
    BEHAVIOURS,
    OVERLONG,
    UNKNOWN_KEY,
    Body,
    Cut,
    Endless,
    Finish,
    Flood,
    Hold,
    Line,
    Part,
    Redirect,
    Reply,
    Sliver,
    Status,
    Text,
    ToolCall,
)

WAIT_S = 60.0
MODEL = "scripted"
MARKER = re.compile(r"provider:([a-z0-9-]+)")
CHARACTERS_A_TOKEN = 4
LARGEST_REQUEST_BYTES = 64 * 2**20

Match = str | re.Pattern[str] | Callable[[dict[str, Any]], bool]
Replier = Callable[[dict[str, Any]], Reply]


class Request(NamedTuple):
    """What a client asked."""

    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]

    @property
    def asked(self) -> str:
        """The last message of the user."""
        return asked_in(self.body)


class Provider:
    """The endpoint in a thread of its own."""

    def __init__(
        self,
        port: int = 0,
        *,
        host: str = "127.0.0.1",
        key: str = "",
        context_tokens: int = 0,
        chunk_s: float = 0,
        remember: bool = True,
    ) -> None:
        """Prepare a provider.

        Args:
            port: to listen on; 0 takes a free one.
            host: the address to listen on.
            key: the API key it wants; empty takes any and none.
            context_tokens: what the model takes, about; 0 sets no limit.
            chunk_s: seconds between the chunks of an answer.
            remember: keep the requests; not where there are very many.
        """
        self.requests: list[Request] = []
        self.disconnected = 0
        """Clients that went away before their answer was complete."""
        self._port = port
        self._host = host
        self._remember = remember
        self._key = key
        self._context_tokens = context_tokens
        self._chunk_s = chunk_s
        self._scripts: list[tuple[Match, Reply | Replier]] = []
        self._queued: list[Reply] = []
        self._failures: Counter[tuple[str, int]] = Counter()
        self._held_after: int | None = None
        self._waiting = 0
        self._news = threading.Condition()
        self._thread: threading.Thread | None = None
        self._dead = socket.socket()
        self._dead.bind(("127.0.0.1", 0))

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        self._dead.close()

    @property
    def url(self) -> str:
        """Base address, as clients of OpenAI take it."""
        return f"http://{self._host}:{self._port}/v1"

    @property
    def dead_url(self) -> str:
        """An address where every connection is refused."""
        return f"http://127.0.0.1:{self._dead.getsockname()[1]}/v1"

    def start(self) -> None:
        """Listen; after a `stop` on the same port."""
        started: list[BaseException | None] = []
        self._thread = threading.Thread(target=self._run, args=(started,), name="provider", daemon=True)
        self._thread.start()
        self._until(lambda: bool(started), "the provider starts")
        if started[0] is not None:
            raise started[0]

    def stop(self) -> None:
        """Close the port and cut every connection."""
        if self._thread is not None:
            self._loop.call_soon_threadsafe(self._ended.set)
            self._thread.join(WAIT_S)
            self._thread = None

    def script(self, match: Match, reply: Reply | Replier) -> None:
        """Answer with `reply` where the user's last message holds, or the request fulfils, `match`; the latest wins."""
        self._scripts.insert(0, (match, reply))

    def queue(self, reply: Reply) -> None:
        """Answer the next message with `reply`, whatever it is. A retry counts as the next: script what is retried."""
        self._queued.append(reply)

    def hold(self, after: int = 0) -> None:
        """Let every answer stop after so many chunks, until `release`."""
        self._held_after = after

    def release(self) -> None:
        """Let go on what waits now."""
        self._held_after = None
        self._loop.call_soon_threadsafe(self._release)

    def held(self, answers: int = 1) -> None:
        """Wait until so many answers are held at once."""
        self._until(lambda: self._waiting >= answers, f"{answers} answers are held")

    def asked(self, requests: int = 1) -> Request:
        """Wait until there were so many requests in all and return the latest of them."""
        self._until(lambda: len(self.requests) >= requests, f"{requests} requests came")
        return self.requests[requests - 1]

    def left(self, clients: int = 1) -> None:
        """Wait until so many clients in all went away before their answer was complete."""
        self._until(lambda: self.disconnected >= clients, f"{clients} clients went away")

    def _until(self, condition: Callable[[], bool], what: str) -> None:
        with self._news:
            assert self._news.wait_for(condition, WAIT_S), f"waited {WAIT_S:.0f} s in vain: {what}"

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        with self._news:
            yield
            self._news.notify_all()

    def _run(self, started: list[BaseException | None]) -> None:
        self._loop = asyncio.new_event_loop()
        try:
            self._loop.run_until_complete(self._serve(started))
        except OSError as error:
            with self._telling():
                started.append(error)
        finally:
            self._loop.close()

    async def _serve(self, started: list[BaseException | None]) -> None:
        self._ended = asyncio.Event()
        self._released = asyncio.Event()
        app = web.Application(client_max_size=LARGEST_REQUEST_BYTES)
        app.router.add_post("/v1/chat/completions", self._complete)
        app.router.add_get("/v1/models", self._models)
        runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0)
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, reuse_address=True)
            await site.start()
            self._port = runner.addresses[0][1]
            with self._telling():
                started.append(None)
            await self._ended.wait()
        finally:
            await runner.cleanup()

    def _release(self) -> None:
        self._released.set()
        self._released = asyncio.Event()

    async def _models(self, request: web.Request) -> web.Response:
        if not self._admitted(request):
            return _error(UNKNOWN_KEY)
        model = {"id": MODEL, "object": "model", "created": 1_700_000_000, "owned_by": "tests"}
        return web.json_response({"object": "list", "data": [model]})

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        try:
            body = await request.json()
        except ValueError:
            return _error(Status(400, "the body is not JSON", "invalid_request_error"))
        if self._remember:
            with self._telling():
                self.requests.append(Request(request.path, request.headers.copy(), body))
        if not self._admitted(request):
            return _error(UNKNOWN_KEY)
        if fault := objection(body):
            return _error(Status(400, fault, "invalid_request_error", param="messages"))
        tokens = len(json.dumps(body["messages"])) // CHARACTERS_A_TOKEN
        if self._context_tokens and tokens > self._context_tokens:
            return _error(OVERLONG)
        try:
            return await self._play(request, body, tokens)
        except asyncio.CancelledError:
            self._lost()
            raise
        except ConnectionError:
            self._lost()
            return web.Response()

    def _lost(self) -> None:
        if not self._ended.is_set():
            with self._telling():
                self.disconnected += 1

    def _admitted(self, request: web.Request) -> bool:
        return not self._key or request.headers.get("Authorization") == f"Bearer {self._key}"

    def _reply(self, body: dict[str, Any]) -> Reply:
        """Return what this request is answered with: the turn that its tool results have come to."""
        turn = turn_of(body)
        if turn == 0 and self._queued:
            self.script(_asks(asked_in(body)), self._queued.pop(0))
        asked = asked_in(body)
        for match, reply in self._scripts:
            if _matches(match, asked, body):
                return _turn(reply(body) if callable(reply) else reply, turn)
        if (named := MARKER.search(asked)) and named[1] in BEHAVIOURS:
            return _turn(BEHAVIOURS[named[1]], turn)
        return [Text(f"You said: {asked}")]

    async def _play(self, request: web.Request, body: dict[str, Any], tokens: int) -> web.StreamResponse:
        kind = Stream if body.get("stream") else Whole
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        completion = kind(request, str(body["model"]), tokens, usage=usage)
        reply = self._reply(body)
        for place, part in enumerate(reply):
            match part:
                case Status(times=times):
                    key = (asked_in(body), place)
                    if times is None or self._failures[key] < times:
                        self._failures[key] += 1
                        return _error(part)
                case Body(content, content_type):
                    return web.Response(body=content, headers={"Content-Type": content_type})
                case Redirect(location, status):
                    return web.Response(status=status, headers={"Location": location or str(request.url)})
                case Finish(reason):
                    completion.reason = reason
                case Cut(after_reason, clean):
                    if after_reason:
                        await completion.finish()
                    await completion.cut(clean=clean)
                    return completion.response
                case _:
                    await self._say(completion, part)
        await self._gate(completion)
        await completion.end()
        return completion.response

    async def _say(self, completion: Completion, part: Part) -> None:
        match part:
            case Text(text):
                for word in re.findall(r"\S+\s*|\s+", text):
                    await self._gate(completion)
                    await completion.text(word)
            case ToolCall(name, arguments):
                await self._gate(completion)
                await completion.tool(name, arguments if isinstance(arguments, str) else json.dumps(arguments))
            case Hold():
                await self._wait()
            case Line(line):
                await completion.raw(line + b"\n")
            case Sliver(size):
                completion.sliver = size
            case Flood(size, chunk, one_line):
                await completion.flood(size, size if one_line else chunk)
            case Endless():
                while True:
                    await self._gate(completion)
                    await completion.text("on and ")

    async def _gate(self, completion: Completion) -> None:
        """Wait where a test holds the answers."""
        if self._held_after is not None and completion.chunks >= self._held_after:
            await self._wait()
        await asyncio.sleep(self._chunk_s)

    async def _wait(self) -> None:
        with self._telling():
            self._waiting += 1
        try:
            await self._released.wait()
        finally:
            with self._telling():
                self._waiting -= 1


def _asks(asked: str) -> Callable[[dict[str, Any]], bool]:
    """Return whether a request is about this message: the first one, and those with results of tools."""
    return lambda body: asked_in(body) == asked


def _matches(match: Match, asked: str, body: dict[str, Any]) -> bool:
    if isinstance(match, str):
        return match in asked
    return bool(match.search(asked)) if isinstance(match, re.Pattern) else match(body)


def _turn(reply: Reply, number: int) -> Reply:
    """Return the parts of one turn: calls end it, where others do not follow at once."""
    turns: list[list[Part]] = [[]]
    for part in reply:
        if turns[-1] and isinstance(turns[-1][-1], ToolCall) and not isinstance(part, ToolCall | Finish):
            turns.append([])
        turns[-1].append(part)
    return turns[number] if number < len(turns) else [Text("That is all.")]


def _error(status: Status) -> web.Response:
    error = {"message": status.message, "type": status.type, "param": status.param, "code": status.code}
    return web.json_response({"error": error}, status=status.status, headers=status.headers)
