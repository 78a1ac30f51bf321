"""The service's WebSocket gateway as the command line sees it: one connection, requests and events."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, NoReturn

import aiohttp
from aiohttp import WSMsgType

from pinch import __version__
from pinch.cli.address import Address
from pinch.cli.client import ANSWER_TIMEOUT_S, CONNECT_TIMEOUT_S, trust, unreachable
from pinch.cli.errors import FROM_GATEWAY, FROM_HTTP, CommandError, Exit

OLDEST_PROTOCOL = 3
"""Its deltas hold the whole text so far."""
NEWEST_PROTOCOL = 4
HEARTBEAT_S = 60.0
"""After this silence the service is asked whether it is there; half of it later the connection counts as lost."""
_LARGEST_FRAME_BYTES = 4 * 1024 * 1024
_CLOSE_S = 2.0
_CLOSED_FOR = {
    1001: "it goes away",
    1006: "it broke off",
    1008: "the service closed it",
    1012: "the service stops or restarts",
}


class Lost(Exception):
    """A connection that ended before the answer had come; its text says why."""


class Busy(CommandError):
    """A request that was refused for now.

    Args:
        retry_after_s: how long the service asks to wait, in seconds.
    """

    def __init__(self, message: str, retry_after_s: float, *, exit_status: Exit, kind: str) -> None:
        super().__init__(message, exit_status=exit_status, kind=kind)
        self.retry_after_s = retry_after_s


class Event(NamedTuple):
    """Something the service tells without being asked."""

    name: str
    payload: dict[str, Any]


class Gateway:
    """One connection that has been opened; `connected` makes it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, where: Address) -> None:
        self.longest_bytes = 0
        """Longest request that the service takes; 0 where it has not said."""
        self._socket = socket
        self._where = where
        self._number = 0
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        self._events: asyncio.Queue[Event | Lost] = asyncio.Queue()
        self._lost: Lost | None = None
        self._reader = asyncio.create_task(self._read())

    async def call(self, method: str, params: dict[str, Any], *, timeout_s: float = ANSWER_TIMEOUT_S) -> dict[str, Any]:
        """Send a request and return the payload of its answer.

        Raises:
            CommandError: the service refuses it; `Busy` where it says for how long.
            Lost: the connection ended before the answer.
        """
        if self._lost is not None:
            raise self._lost
        self._number += 1
        number = str(self._number)
        frame = json.dumps({"type": "req", "id": number, "method": method, "params": params}, ensure_ascii=False)
        length = len(frame.encode("utf-8"))
        if 0 < self.longest_bytes < length:
            raise CommandError(
                f"the request has {length} bytes; the service takes {self.longest_bytes}",
                "send less at once, or use `pinch ingest` for documents",
                exit_status=Exit.LIMIT,
            )
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            await self._socket.send_str(frame)
            async with asyncio.timeout(timeout_s):
                payload = await answer
        except TimeoutError:
            raise Lost(f"no answer to {method} within {timeout_s:.0f} s") from None
        except (OSError, aiohttp.ClientError):
            # Why it ended stands in what the service sent last.
            await self._reader
            raise self._lost or Lost(_CLOSED_FOR[1006]) from None
        finally:
            self._waiting.pop(number, None)
        return payload if isinstance(payload, dict) else {}

    async def event(self) -> Event:
        """Return the next event.

        Raises:
            Lost: the connection ended.
        """
        found = await self._events.get()
        if isinstance(found, Lost):
            self._events.put_nowait(found)
            raise found
        return found

    async def close(self) -> None:
        """Take leave."""
        await self._socket.close()
        self._reader.cancel()

    async def _read(self) -> None:
        reason = _CLOSED_FOR[1006]
        try:
            while (message := await self._socket.receive()).type is WSMsgType.TEXT:
                self._take(json.loads(message.data))
            reason = _why(message, self._socket.close_code)
        except (ValueError, LookupError, TypeError, AttributeError):
            reason = f"what answers at {self._where.url} does not speak the gateway's protocol"
        finally:
            self._lost = Lost(reason)
            for answer in self._waiting.values():
                if not answer.done():
                    answer.set_exception(self._lost)
            self._events.put_nowait(self._lost)

    def _take(self, frame: dict[str, Any]) -> None:
        if frame["type"] == "event":
            payload = frame.get("payload")
            self._events.put_nowait(Event(frame["event"], payload if isinstance(payload, dict) else {}))
            return
        answer = self._waiting.get(frame["id"])
        if answer is None or answer.done():
            return
        if frame["ok"]:
            answer.set_result(frame.get("payload"))
        else:
            answer.set_exception(_refused(frame.get("error") or {}))


@asynccontextmanager
async def connected(where: Address, token: str, *, newest: int = NEWEST_PROTOCOL) -> AsyncIterator[Gateway]:
    """Connect, show the token and give the connection while the block runs.

    Raises:
        CommandError: nothing answers, or the service refuses.
        Lost: the connection ended before the service had said yes.
    """
    tracing = aiohttp.TraceConfig()
    tracing.on_request_redirect.append(_redirected)
    async with aiohttp.ClientSession(trace_configs=[tracing]) as session:
        gateway = Gateway(await _upgraded(session, where), where)
        try:
            hello = await gateway.call("connect", _introduction(token, newest), timeout_s=CONNECT_TIMEOUT_S)
            policy = hello.get("policy")
            longest = policy.get("maxPayload") if isinstance(policy, dict) else None
            gateway.longest_bytes = longest if isinstance(longest, int) else 0
            yield gateway
        finally:
            await gateway.close()


async def _upgraded(session: aiohttp.ClientSession, where: Address) -> aiohttp.ClientWebSocketResponse:
    scheme, trusted = ("wss", trust(where)) if where.scheme == "https" else ("ws", True)
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            return await session.ws_connect(
                f"{scheme}://{where.netloc}/",
                ssl=trusted,
                heartbeat=HEARTBEAT_S,
                max_msg_size=_LARGEST_FRAME_BYTES,
                timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
                headers={"User-Agent": f"pinch/{__version__}"},
            )
    except TimeoutError:
        raise unreachable(where, "no answer in time") from None
    except aiohttp.WSServerHandshakeError as error:
        raise _no_gateway(where, error.status) from None
    except aiohttp.ClientConnectorCertificateError as error:
        raise unreachable(where, f"its certificate is not trusted: {_complaint(error)}") from None
    except aiohttp.ClientOSError as error:
        # The library's own words name the address once more.
        known = error.errno in errno.errorcode
        reason = os.strerror(error.errno or 0) if known else str(error.strerror or error)
        raise unreachable(where, reason.lower()) from None
    except aiohttp.ServerDisconnectedError:
        raise unreachable(where, "it closed the connection without an answer") from None
    except aiohttp.ClientError:
        raise unreachable(where, "what answers there does not speak HTTP") from None


def _introduction(token: str, newest: int) -> dict[str, Any]:
    return {
        "minProtocol": OLDEST_PROTOCOL,
        "maxProtocol": newest,
        "client": {"id": "cli", "version": __version__, "platform": sys.platform, "mode": "cli"},
        "auth": {"token": token},
    }


async def _redirected(session: object, context: object, params: aiohttp.TraceRequestRedirectParams) -> NoReturn:
    # The token is for the service, not for whoever it is said to have moved to.
    raise aiohttp.WSServerHandshakeError(
        params.response.request_info, params.response.history, status=params.response.status
    )


def _no_gateway(where: Address, status: int) -> CommandError:
    exit_status = FROM_HTTP.get(status, Exit.ERROR)
    hint = "check that PINCH_URL or the setting listen names the Pinch service, and look at its log"
    return CommandError(
        f"{where.url} answered the upgrade to a WebSocket with {status}", hint, exit_status=exit_status, status=status
    )


def _complaint(error: aiohttp.ClientConnectorCertificateError) -> str:
    cause = error.certificate_error
    return cause.verify_message if isinstance(cause, ssl.SSLCertVerificationError) else str(cause)


def _why(message: aiohttp.WSMessage, code: int | None) -> str:
    if isinstance(message.data, TimeoutError | aiohttp.ServerTimeoutError):
        return "the service is silent"
    said = message.extra if message.type is WSMsgType.CLOSE and isinstance(message.extra, str) else ""
    known = _CLOSED_FOR.get(code or 1006, "the service closed it")
    return f"{known}: {said}" if said else known


def _refused(error: dict[str, Any]) -> CommandError:
    details = error.get("details")
    details = details if isinstance(details, dict) else {}
    names = [name for name in (details.get("code"), details.get("type"), error.get("code")) if isinstance(name, str)]
    exit_status = next((FROM_GATEWAY[name] for name in names if name in FROM_GATEWAY), Exit.ERROR)
    kind = names[0] if names else ""
    hint = str(details.get("hint") or "")
    message = str(error.get("message") or "the service refused the request without a reason").removesuffix(f"; {hint}")
    after_ms = error.get("retryAfterMs")
    if error.get("retryable") and isinstance(after_ms, int | float):
        return Busy(message, max(0.1, after_ms / 1000), exit_status=exit_status, kind=kind)
    return CommandError(
        message,
        hint,
        exit_status=exit_status,
        kind=kind,
        param=str(details["param"]) if details.get("param") else None,
    )


def ask(where: Address, token: str, method: str, params: dict[str, Any]) -> dict[str, Any]:
    """Connect for one request and return the payload of its answer.

    Raises:
        CommandError: as `connected` and `Gateway.call` do; where the connection ended, no service is there.
    """

    async def once() -> dict[str, Any]:
        async with connected(where, token) as gateway:
            return await gateway.call(method, params)

    try:
        return asyncio.run(once())
    except Lost as lost:
        raise unreachable(where, str(lost)) from None
