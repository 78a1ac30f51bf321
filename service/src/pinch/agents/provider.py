"""The provider: any endpoint that speaks OpenAI's chat completions, streamed, with all that can go wrong there."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp

from pinch.agents.sse import EventStream, EventTooLong
from pinch.errors import PinchError
from pinch.settings import ProviderSettings
from pinch.tiers import KIBIBYTE

log = logging.getLogger(__name__)

CONNECT_S = 10.0
RETRY_BASE_S = 0.5
"""First pause before another attempt; each further one is twice as long, and each is drawn from its upper half."""
RETRY_LIMIT_S = 30.0
"""Longest pause, whatever the provider asks for."""
ERROR_BYTES = 8 * KIBIBYTE
"""Bytes of an error's body that are read."""
ERROR_CHARACTERS = 300
EVENT_FACTOR = 4
"""Times the answer's limit that one event, or an answer that is not streamed, may have."""
STREAM_FACTOR = 64
"""Times the answer's limit that the whole stream may have: each token comes in an envelope of some 200 bytes."""
CALLS_LIMIT = 16
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
        try:
            headers = await self._headers()
            async with self._client().post(url, data=data, headers=headers, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise await _refusal(answer)
                reading = _Answer(self.answer_bytes)
                if answer.content_type == "text/event-stream":
                    async with aclosing(self._events(answer, reading)) as pieces:
                        async for piece in pieces:
                            yield piece
                    return
                if answer.content_type != "application/json":
                    raise ProviderError(f"the provider answered with {answer.content_type}, not with events")
                whole = await _bounded(answer, EVENT_FACTOR * self.answer_bytes)
                for piece in reading.take(whole, "message"):
                    yield piece
                yield reading.end()
        except TimeoutError:
            raise ProviderError(
                f"the provider was silent for {self.settings.silence_s} s", "timeout", retry_after_s=0
            ) from None
        except aiohttp.InvalidURL:
            raise ProviderError(f"provider.base_url is no URL: {self.settings.base_url[:80]}") from None
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ProviderError(
                f"the provider cannot be reached or broke off: {reason[:ERROR_CHARACTERS]}",
                hint="look at [provider] base_url and the network",
                retry_after_s=0,
            ) from None

    async def _events(self, answer: aiohttp.ClientResponse, reading: _Answer) -> AsyncGenerator[Said | Ended, None]:
        stream = EventStream(EVENT_FACTOR * self.answer_bytes)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.answer_s
        total = 0
        try:
            async for chunk in answer.content.iter_any():
                total += len(chunk)
                if total > STREAM_FACTOR * self.answer_bytes:
                    raise _too_long(self.answer_bytes)
                if loop.time() > deadline:
                    raise ProviderError(f"the provider's answer took longer than {self.settings.answer_s} s", "timeout")
                text = ""
                for data in stream.feed(chunk):
                    if data.strip() == b"[DONE]":
                        reading.done = True
                        break
                    text += "".join(piece.text for piece in reading.take(data, "delta"))
                if text:  # all that one read has brought is one piece
                    yield Said(text)
                if reading.done:
                    break
        except EventTooLong:
            raise _too_long(self.answer_bytes) from None
        if not reading.done and not reading.stop:
            raise ProviderError("the provider's answer broke off in the middle", retry_after_s=0)
        yield reading.end()

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

    async def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream", "Accept-Encoding": "identity"}
        if self.settings.key_file:
            # Read each time: a credential that is replaced is used with the next answer.
            key = await asyncio.get_running_loop().run_in_executor(None, _read_key, Path(self.settings.key_file))
            headers["Authorization"] = f"Bearer {key}"
        return headers


class _Answer:
    """What has come of one answer."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.stop = ""
        self.done = False
        self.usage: Mapping[str, int] = {}
        self._calls: dict[int, list[str]] = {}

    def take(self, data: bytes, part: str) -> list[Said]:
        """Read one event, whose text and calls are in `delta`, or a whole answer, whose are in `message`.

        Raises:
            ProviderError: it says that something went wrong, is no event, or too much.
        """
        try:
            event = json.loads(data)
            if "error" in event:
                raise _told(event["error"], None)
            if isinstance(event.get("usage"), dict):
                self.usage = {name: n for name, n in event["usage"].items() if type(n) is int and len(name) < 40}
            said = []
            for choice in event.get("choices", [])[:1]:
                found = choice.get(part) or {}
                if text := found.get("content") or found.get("refusal"):
                    said.append(Said(self._counted(text)))
                for place, call in enumerate(found.get("tool_calls") or []):
                    self._collect(call.get("index", place), call)
                self.stop = choice.get("finish_reason") or self.stop
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            shown = data[:80].decode("utf-8", "replace")
            raise ProviderError(f"the provider sent something that is no answer: {shown!r}", retry_after_s=0) from None
        return said

    def end(self) -> Ended:
        """Return the end."""
        calls = tuple(Call(*parts) for _, parts in sorted(self._calls.items()) if parts[1])
        return Ended(self.stop or "stop", calls, self.usage)

    def _collect(self, index: int, call: Mapping[str, Any]) -> None:
        if len(self._calls) >= CALLS_LIMIT and index not in self._calls:
            raise ProviderError(f"the provider wants more than {CALLS_LIMIT} tools at once")
        parts = self._calls.setdefault(index, [f"call_{index}", "", ""])
        function = call.get("function") or {}
        parts[0] = self._counted(call.get("id") or "") or parts[0]
        parts[1] += self._counted(function.get("name") or "")
        parts[2] += self._counted(function.get("arguments") or "")

    def _counted(self, text: str) -> str:
        self.size += len(text.encode("utf-8", "replace"))
        if self.size > self.limit:
            raise _too_long(self.limit)
        return text


def _read_key(path: Path) -> str:
    try:
        key = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ProviderError(
            f"the provider's key cannot be read from {path}: {getattr(error, 'strerror', None) or 'it is no text'}",
            hint="look at [provider] key_file",
        ) from None
    if not (key and key.isascii() and key.isprintable()):
        raise ProviderError(f"the provider's key in {path} is empty or no key", hint="look at [provider] key_file")
    return key


async def _bounded(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for chunk in answer.content.iter_any():
        data += chunk
        if len(data) > limit:
            raise _too_long(limit)
    return bytes(data)


async def _refusal(answer: aiohttp.ClientResponse) -> ProviderError:
    """Return what the provider says instead of an answer."""
    data = await answer.content.read(ERROR_BYTES)
    try:
        told = json.loads(data)
        told = told.get("error", told) if isinstance(told, dict) else told
    except (ValueError, RecursionError):
        told = data[:ERROR_CHARACTERS].decode("utf-8", "replace")
    error = _told(told, answer.status)
    if answer.status in AGAIN:
        try:
            error.retry_after_s = max(0.0, float(answer.headers.get("Retry-After", "0")))
        except ValueError:  # a date: the pause of our own will do
            error.retry_after_s = 0.0
    return error


def _told(told: Any, status: int | None) -> ProviderError:
    code, message = "", str(told)
    if isinstance(told, dict):
        code, message = str(told.get("code") or told.get("type") or ""), str(told.get("message") or told)
    said = " ".join(message.split())[:ERROR_CHARACTERS]
    if status == 429 or "rate_limit" in code:
        return ProviderError(f"the provider is asked too often: {said}", "rate_limit")
    if "context_length" in code:
        return ProviderError(
            f"the conversation is too long for the model: {said}",
            "context_length",
            hint="lower [agents] context_tokens",
        )
    if status in {401, 403}:
        return ProviderError(f"the provider refuses the key: {said}", "refusal", hint="look at [provider] key_file")
    if "content_filter" in code or "content_policy" in code:
        return ProviderError(f"the provider refuses to answer: {said}", "refusal")
    return ProviderError(f"the provider answered {status}: {said}" if status else f"the provider failed: {said}")


def _too_long(limit: int) -> ProviderError:
    return ProviderError(
        f"the answer passed {limit // KIBIBYTE} KiB and was cut", hint="raise [provider] max_answer_kb, or ask for less"
    )
