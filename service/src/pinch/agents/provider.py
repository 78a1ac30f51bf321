"""The provider: any endpoint that speaks OpenAI's chat completions, streamed, with all that can go wrong there."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import aiohttp

from pinch.agents.sse import EventStream, EventTooLong
from pinch.errors import PinchError
from pinch.settings import ProviderSettings
from pinch.tiers import KIBIBYTE

log = logging.getLogger(__name__)
T = TypeVar("T")

CONNECT_S = 10.0
RETRY_BASE_S = 0.5
"""First pause before another attempt; each further one is twice as long, and each is drawn from its upper half."""
RETRY_LIMIT_S = 30.0
"""Longest pause, whatever the provider asks for."""
REFUSAL_S = 2.0
"""Seconds that an error's body has."""
ERROR_BYTES = 8 * KIBIBYTE
"""Bytes of an error's body that are read."""
ERROR_CHARACTERS = 300
EVENT_FACTOR = 4
"""Times the answer's limit that one event, or an answer that is not streamed, may have."""
STREAM_FACTOR = 512
"""Times the answer's limit that the whole stream may have: each token comes in an envelope of some 200 bytes, and
before the answer may come thousands of tokens of thinking. Nothing of it is kept."""
CALLS_LIMIT = 16
KEY_BYTES = 4 * KIBIBYTE
STOP_CHARACTERS = 40
COUNTED = ("prompt_tokens", "completion_tokens", "total_tokens")
OVERLONG = re.compile(r"context.?(length|size|window)", re.IGNORECASE)
"""How OpenAI, llama.cpp and vLLM say that a conversation is longer than the model's window."""
AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which another attempt may go well."""


class NoProvider(PinchError):
    """The settings name no provider."""


class ProviderError(PinchError):
    """The provider did not answer, or not as it should."""

    def __init__(
        self, message: str, kind: str = "unknown", *, hint: str = "", retry_after_s: float | None = None
    ) -> None:
        super().__init__(message, hint=hint)
        self.kind = kind
        """One of OpenClaw's: `timeout`, `rate_limit`, `context_length`, `refusal` or `unknown`."""
        self.retry_after_s = retry_after_s


class Call(NamedTuple):
    """A tool that the model wants called; `arguments` is JSON, or should be."""

    id: str
    name: str
    arguments: str


class Said(NamedTuple):
    """The next piece of the answer's text."""

    text: str


class Ended(NamedTuple):
    """The end of an answer."""

    stop: str
    calls: tuple[Call, ...]
    usage: Mapping[str, int]


class Provider:
    """One endpoint and one model."""

    def __init__(
        self, settings: ProviderSettings, answer_bytes: int, *, random: Callable[[], float], at_once: int
    ) -> None:
        self.settings = settings
        self.answer_bytes = answer_bytes
        """Bytes of text that one answer may have."""
        self.random = random
        """Draws from 0 to 1."""
        self.at_once = at_once
        self._session: aiohttp.ClientSession | None = None

    @property
    def configured(self) -> bool:
        """Whether the settings name one."""
        return bool(self.settings.base_url and self.settings.model)

    def require(self) -> None:
        """Make sure that there is a provider.

        Raises:
            NoProvider: there is none.
        """
        if not self.configured:
            raise NoProvider(
                "no provider is configured, so nobody can answer",
                hint="set [provider] base_url and model, and key_file where it wants a key",
            )

    async def stop(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] = (),
        options: Mapping[str, Any] = {},
    ) -> AsyncGenerator[Said | Ended, None]:
        """Yield the answer to a conversation as it comes; the last one is `Ended`.

        Raises:
            NoProvider: none is configured.
            ProviderError: it failed, after as many attempts as the settings allow; none once text has come.
        """
        self.require()
        body: dict[str, Any] = {
            "model": self.settings.model,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
            **options,
        }
        if tools:
            body["tools"] = list(tools)
        data = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
        attempt, begun = 0, False
        while True:
            try:
                async with aclosing(self._attempt(data)) as pieces:
                    async for piece in pieces:
                        begun = True
                        yield piece
                return
            except ProviderError as error:
                if begun or error.retry_after_s is None or attempt >= self.settings.retries:
                    raise
                pause = max(error.retry_after_s, RETRY_BASE_S * 2**attempt * (1 + self.random()) / 2)
                if pause > RETRY_LIMIT_S:
                    raise
                attempt += 1
                log.info("%s; attempt %d follows in %.1f s", error.message, attempt + 1, pause)
            await asyncio.sleep(pause)

    async def _attempt(self, data: bytes) -> AsyncGenerator[Said | Ended, None]:
        url = self.settings.base_url.rstrip("/") + "/chat/completions"
        key = await self._key()
        deadline = _Deadline(self.settings.answer_s)
        with self._explaining(key):
            asking = self._client().post(url, data=data, headers=_headers(key), allow_redirects=False)
            async with await deadline.within(asking) as answer:
                if answer.status != 200:
                    raise await _refusal(answer, key)
                reading = _Answer(self.answer_bytes, key)
                async with aclosing(self._pieces(answer, reading, deadline)) as pieces:
                    async for piece in pieces:
                        yield piece
                yield reading.end()

    def _pieces(
        self, answer: aiohttp.ClientResponse, reading: _Answer, deadline: _Deadline
    ) -> AsyncGenerator[Said, None]:
        if answer.content_type == "text/event-stream":
            return self._events(answer, reading, deadline)
        if answer.content_type == "application/json":
            return self._whole(answer, reading, deadline)
        raise ProviderError(
            f"the provider answered with {_shown(answer.content_type, reading.key, 80)}, not with events"
        )

    async def _whole(
        self, answer: aiohttp.ClientResponse, reading: _Answer, deadline: _Deadline
    ) -> AsyncGenerator[Said, None]:
        whole = bytearray()
        async for chunk in deadline.chunks(answer):
            whole += chunk
            if len(whole) > EVENT_FACTOR * self.answer_bytes:
                raise _too_long(self.answer_bytes)
        for piece in reading.take(bytes(whole), "message"):
            yield piece

    async def _events(
        self, answer: aiohttp.ClientResponse, reading: _Answer, deadline: _Deadline
    ) -> AsyncGenerator[Said, None]:
        stream = EventStream(EVENT_FACTOR * self.answer_bytes)
        total = 0
        try:
            async for chunk in deadline.chunks(answer):
                total += len(chunk)
                if total > STREAM_FACTOR * self.answer_bytes:
                    raise ProviderError(f"the provider sent more than {total // KIBIBYTE} KiB for one answer")
                text, fault = reading.feed(stream.feed(chunk))
                if text:  # all that one read has brought is one piece
                    yield Said(text)
                if fault is not None:
                    raise fault
                if reading.done:
                    return
        except (aiohttp.ClientError, TimeoutError):
            if not reading.stop:  # else only the sign of the end is missing
                raise
        if not reading.stop:
            raise ProviderError("the provider's answer broke off in the middle", retry_after_s=0)

    @contextmanager
    def _explaining(self, key: str) -> Iterator[None]:
        """Turn what goes wrong on the way into what can be told."""
        try:
            yield
        except aiohttp.ConnectionTimeoutError:
            raise _unreachable(f"it took no connection within {CONNECT_S:.0f} s") from None
        except TimeoutError:
            raise ProviderError(
                f"the provider was silent for {self.settings.silence_s} s", "timeout", retry_after_s=0
            ) from None
        except aiohttp.ClientSSLError as error:
            reason = _shown(str(error), key)
            raise ProviderError(f"the provider's certificate is not accepted: {reason}") from None
        except ValueError:  # what aiohttp makes of an address, too; it may hold a password
            raise ProviderError("the provider's address cannot be used", hint="look at [provider] base_url") from None
        except (aiohttp.ClientError, OSError) as error:
            raise _unreachable(_shown(str(error) or type(error).__name__, key)) from None

    def _client(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self.at_once, keepalive_timeout=30),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=self.settings.silence_s),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                read_bufsize=16 * KIBIBYTE,
            )
        return self._session

    async def _key(self) -> str:
        """Return the key, or nothing; read each time, so one that is replaced is used with the next answer."""
        if not self.settings.key_file:
            return ""
        return await asyncio.get_running_loop().run_in_executor(None, _read_key, Path(self.settings.key_file))


class _Deadline:
    """The time that one whole answer may take, from the request on."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds
        self._at = asyncio.get_running_loop().time() + seconds

    async def within(self, work: Awaitable[T]) -> T:
        """Wait for `work`.

        Raises:
            ProviderError: the time is over.
        """
        try:
            async with asyncio.timeout_at(self._at) as timeout:
                return await work
        except TimeoutError:
            if not timeout.expired():
                raise
            raise ProviderError(f"the provider's answer took longer than {self.seconds} s", "timeout") from None

    async def chunks(self, answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
        """Yield the body as it comes.

        Raises:
            ProviderError: the time is over.
        """
        while chunk := await self.within(answer.content.readany()):
            yield chunk


class _Answer:
    """What has come of one answer."""

    def __init__(self, limit: int, key: str) -> None:
        self.limit = limit
        self.key = key
        """Is never told again."""
        self.begun = False
        self.size = 0
        self.stop = ""
        self.done = False
        self.usage: Mapping[str, int] = {}
        self._calls: list[list[str]] = []
        """Id, name and arguments of each, as far as they have come."""
        self._places: dict[int, int] = {}
        """Which of them the provider's index means now."""

    def feed(self, events: Iterable[bytes]) -> tuple[str, ProviderError | None]:
        """Read events; return their text, and what is wrong with the one that follows it."""
        text = ""
        try:
            for data in events:
                if data.strip() == b"[DONE]":
                    self.done = True
                    break
                text += "".join(piece.text for piece in self.take(data, "delta"))
        except EventTooLong:
            return text, _too_long(self.limit)
        except ProviderError as error:
            return text, error
        return text, None

    def take(self, data: bytes, part: str) -> list[Said]:
        """Read one event, whose text and calls are in `delta`, or a whole answer, whose are in `message`.

        Raises:
            ProviderError: it says that something went wrong, is no event, or too much.
        """
        try:
            event = json.loads(data)
            if event.get("error"):
                raise _told(event["error"], None, self.key)
            if isinstance(event.get("usage"), dict):
                self.usage = {name: n for name in COUNTED if type(n := event["usage"].get(name)) is int}
            said = []
            for choice in (event.get("choices") or [])[:1]:
                self.begun = True
                found = choice.get(part) or {}
                if text := found.get("content") or found.get("refusal"):
                    said.append(Said(self._counted(text)))
                for place, call in enumerate(found.get("tool_calls") or []):
                    index = call.get("index")
                    self._collect(index if type(index) is int else place, call)
                if isinstance(stop := choice.get("finish_reason"), str) and stop:
                    self.stop = stop[:STOP_CHARACTERS]
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise _no_answer(data, self.key) from None
        if part == "message" and not self.begun:
            raise _no_answer(data, self.key)
        return said

    def end(self) -> Ended:
        """Return the end.

        Raises:
            ProviderError: there was no answer before it.
        """
        if not self.begun:
            raise _no_answer(b"", self.key)
        calls: dict[str, Call] = {}
        for place, (told, name, arguments) in enumerate(self._calls):
            if name:  # a result belongs to its call by id alone, so each has one of its own
                own = told if told and told not in calls else f"call_{place}_{told}"
                calls[own] = Call(own, name, arguments)
        return Ended(self.stop or "stop", tuple(calls.values()), self.usage)

    def _collect(self, index: int, call: Mapping[str, Any]) -> None:
        """Add a piece of a call to the one it belongs to.

        Args:
            index: what the provider says of it. Some give every call the same, and tell them apart by id.
            call: the piece.
        """
        place, name = self._places.get(index), call.get("id") or ""
        if place is None or (name and self._calls[place][0] not in {"", name}):
            if len(self._calls) == CALLS_LIMIT:
                raise ProviderError(f"the provider wants more than {CALLS_LIMIT} tools at once")
            place = self._places[index] = len(self._calls)
            self._calls.append(["", "", ""])
        parts, function = self._calls[place], call.get("function") or {}
        parts[0] = self._counted(name) or parts[0]
        parts[1] += self._counted(function.get("name") or "")
        parts[2] += self._counted(function.get("arguments") or "")

    def _counted(self, text: str) -> str:
        """Return a text as it can be stored: half a character has no UTF-8, and becomes a question mark."""
        data = text.encode("utf-8", "replace")
        self.size += len(data)
        if self.size > self.limit:
            raise _too_long(self.limit)
        return data.decode()


def _headers(key: str) -> dict[str, str]:
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
    return {**headers, "Authorization": f"Bearer {key}"} if key else headers


def _read_key(path: Path) -> str:
    try:
        with path.open("rb") as file:
            key = file.read(KEY_BYTES + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderError(
            f"the provider's key cannot be read from {path}: {getattr(error, 'strerror', None) or 'it is no text'}",
            hint="look at [provider] key_file",
        ) from None
    if not (0 < len(key) <= KEY_BYTES and key.isascii() and key.isprintable()):
        raise ProviderError(f"the provider's key in {path} is empty or no key", hint="look at [provider] key_file")
    return key


async def _refusal(answer: aiohttp.ClientResponse, key: str) -> ProviderError:
    """Return what the provider says instead of an answer."""
    data = bytearray()
    with suppress(TimeoutError, aiohttp.ClientError):  # what has come by then will do
        async with asyncio.timeout(REFUSAL_S):
            while len(data) < ERROR_BYTES and (chunk := await answer.content.read(ERROR_BYTES - len(data))):
                data += chunk
    try:
        told = json.loads(data)
        told = told.get("error", told) if isinstance(told, dict) else told
    except (ValueError, RecursionError):
        told = data.decode("utf-8", "replace")
    error = _told(told, answer.status, key)
    if error.retry_after_s is not None:
        with suppress(ValueError):  # of a date: the pause of our own will do
            error.retry_after_s = max(0.0, float(answer.headers.get("Retry-After", "0")))
    return error


def _told(told: Any, status: int | None, key: str) -> ProviderError:
    """Return the error that a provider tells of, with a status or in an answer that had begun."""
    code, message = "", str(told)
    if isinstance(told, dict):
        code, message = f"{told.get('code') or ''} {told.get('type') or ''}", str(told.get("message") or told)
        if status is None and (found := re.match(r"[45]\d\d\b", code)):  # as some do where it was 200 already
            status = int(found[0])
    again = 0.0 if status in AGAIN else None
    said, kind, hint = _shown(message, key), "unknown", ""
    if status == 429 or "rate_limit" in code:
        text, kind = f"the provider is asked too often: {said}", "rate_limit"
    elif OVERLONG.search(code) or OVERLONG.search(message[:ERROR_BYTES]):
        text, kind = f"the conversation is too long for the model: {said}", "context_length"
        hint = "lower [agents] context_tokens"
    elif status in {401, 403}:
        text, kind, hint = f"the provider refuses the key: {said}", "refusal", "look at [provider] key_file"
    elif "content_filter" in code or "content_policy" in code:
        text, kind = f"the provider refuses to answer: {said}", "refusal"
    elif status in range(300, 400):
        text = f"the provider answered {status}, and redirects are not followed"
        hint = "set [provider] base_url to where it leads"
    else:
        text = f"the provider answered {status}: {said}" if status else f"the provider failed: {said}"
    return ProviderError(text, kind, hint=hint, retry_after_s=again)


def _no_answer(data: bytes, key: str) -> ProviderError:
    shown = _shown(data[:ERROR_BYTES].decode("utf-8", "replace"), key, 80)
    return ProviderError(f"the provider sent something that is no answer: {shown!r}", retry_after_s=0)


def _unreachable(reason: str) -> ProviderError:
    hint = "look at [provider] base_url and the network"
    return ProviderError(f"the provider cannot be reached or broke off: {reason}", hint=hint, retry_after_s=0)


def _shown(text: str, key: str, characters: int = ERROR_CHARACTERS) -> str:
    """Return the beginning of what a provider said, in one line and without the key."""
    text = text[:ERROR_BYTES]
    hidden = text.replace(key, "***") if key else text
    return " ".join("".join(sign if sign.isprintable() else " " for sign in hidden).split())[:characters]


def _too_long(limit: int) -> ProviderError:
    return ProviderError(
        f"the answer passed {limit // KIBIBYTE} KiB and was cut", hint="raise [provider] max_answer_kb, or ask for less"
    )
