"""The provider: any endpoint that speaks OpenAI's chat completions, streamed, with all that can go wrong there."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import aiohttp

from pinch.agents.completion import Completion, Ended, Said
from pinch.agents.errors import ERROR_BYTES, NoProvider, ProviderError, shown, told, too_long, unreachable
from pinch.agents.sse import EventStream
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
EVENT_FACTOR = 4
"""Times the answer's limit that one event, or an answer that is not streamed, may have."""
STREAM_FACTOR = 512
"""Times the answer's limit that the whole stream may have: each token comes in an envelope of some 200 bytes, and
before the answer may come thousands of tokens of thinking. Nothing of it is kept."""
KEY_BYTES = 4 * KIBIBYTE


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
                reading = Completion(self.answer_bytes, key)
                async with aclosing(self._pieces(answer, reading, deadline)) as pieces:
                    async for piece in pieces:
                        yield piece
                yield reading.end()

    def _pieces(
        self, answer: aiohttp.ClientResponse, reading: Completion, deadline: _Deadline
    ) -> AsyncGenerator[Said, None]:
        if answer.content_type == "text/event-stream":
            return self._events(answer, reading, deadline)
        if answer.content_type == "application/json":
            return self._whole(answer, reading, deadline)
        raise ProviderError(
            f"the provider answered with {shown(answer.content_type, reading.key, 80)}, not with events"
        )

    async def _whole(
        self, answer: aiohttp.ClientResponse, reading: Completion, deadline: _Deadline
    ) -> AsyncGenerator[Said, None]:
        whole = bytearray()
        async for chunk in deadline.chunks(answer):
            whole += chunk
            if len(whole) > EVENT_FACTOR * self.answer_bytes:
                raise too_long(self.answer_bytes)
        for piece in reading.take(bytes(whole), "message"):
            yield piece

    async def _events(
        self, answer: aiohttp.ClientResponse, reading: Completion, deadline: _Deadline
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
            raise unreachable(f"it took no connection within {CONNECT_S:.0f} s") from None
        except TimeoutError:
            raise ProviderError(
                f"the provider was silent for {self.settings.silence_s} s", "timeout", retry_after_s=0
            ) from None
        except aiohttp.ClientPayloadError:
            raise ProviderError("the provider's answer broke off in the middle", retry_after_s=0) from None
        except aiohttp.ClientSSLError as error:
            reason = shown(str(error), key)
            raise ProviderError(f"the provider's certificate is not accepted: {reason}") from None
        except ValueError:  # what aiohttp makes of an address, too; it may hold a password
            raise ProviderError("the provider's address cannot be used", hint="look at [provider] base_url") from None
        except (aiohttp.ClientError, OSError) as error:
            raise unreachable(shown(str(error) or type(error).__name__, key)) from None

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
        what = json.loads(data)
        what = what.get("error", what) if isinstance(what, dict) else what
    except (ValueError, RecursionError):
        what = data.decode("utf-8", "replace")
    error = told(what, answer.status, key)
    if error.retry_after_s is not None:
        with suppress(ValueError):  # of a date: the pause of our own will do
            error.retry_after_s = max(0.0, float(answer.headers.get("Retry-After", "0")))
    return error
