"""One connected client: the handshake, its requests side by side, and what is sent to it."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from pinch import __version__
from pinch.clock import now_ms
from pinch.errors import Busy, Invalid, PinchError, internal_fault
from pinch.gateway.context import Context
from pinch.gateway.reading import PARSED_FACTOR
from pinch.gateway.tokens import digest_of
from pinch.gateway.websocket import frames
from pinch.gateway.websocket.frames import BadFrame, Event, Request
from pinch.gateway.websocket.socket import NORMAL, POLICY_VIOLATION, PROTOCOL_ERROR, UNSUPPORTED, Socket

if TYPE_CHECKING:
    from pinch.gateway.websocket.pool import Pool

log = logging.getLogger(__name__)

PROTOCOLS = (3, 4)
FIRST_BYTES = 16 * 1024
"""Bytes of a message before `connect` has gone well."""
MESSAGE_BYTES = 256 * 1024
"""Bytes of a message: the longest text a memory may have, however it is escaped, fits for all but the strangest."""
AT_ONCE = 8
"""Requests of one client that are served at once; while so many are, no more is read."""
WAITS = 32
"""Requests of one client that may wait for the end of an answer."""
LOOK_S = 1.0
"""Seconds after which it is looked whether a client whose requests wait is still there."""
IDS_KEPT = 64
"""Ids of the last requests, which another may not have."""
ROLE = "operator"
SCOPES = ("operator.read", "operator.write", "operator.admin")
TRY_AGAIN_LATER = 1013
FIELD_CHARACTERS = 80

Respond = Callable[[Any], Awaitable[None]]
Serve = Callable[["Client", Request, Respond], Awaitable[Any]]


class About(NamedTuple):
    """What a client says of itself."""

    id: str = ""
    version: str = ""
    platform: str = ""
    mode: str = ""
    name: str = ""
    instance: str = ""


class Refused(Exception):
    """The handshake failed; the client has been told."""


class Client:
    """A client from its upgrade to its end."""

    def __init__(self, socket: Socket, context: Context, pool: Pool, methods: Sequence[str], serve: Serve) -> None:
        self.socket = socket
        self.context = context
        self.pool = pool
        self.methods = methods
        self.serve = serve
        """Serves one request; a method may respond once before its end."""
        self.id = str(uuid.uuid4())
        self.about = About()
        self.protocol = PROTOCOLS[-1]
        self.token = b""
        """Digest of the token it came with."""
        self.connected_at = now_ms()
        self.active_at = asyncio.get_running_loop().time()
        """Loop time of what it asked last."""
        self.runs: set[tuple[str, str]] = set()
        """Answers it waits for."""
        self._seq = 0
        self._ids: deque[int] = deque(maxlen=IDS_KEPT)
        self._tasks: set[asyncio.Task[None]] = set()
        self._waits: set[asyncio.Task[None]] = set()
        """Requests that were answered once and wait for the rest."""

    async def run(self) -> None:
        """Speak with the client until one of the two ends it."""
        try:
            async with asyncio.timeout(self.context.settings.gateway.handshake_timeout_s):
                await self._shake_hands()
        except TimeoutError:
            self.socket.close(POLICY_VIOLATION, "handshake timeout")
            return
        except Refused:
            return
        try:
            while (text := await self.socket.receive()) is not None:
                if isinstance(text, bytes):
                    self.socket.close(UNSUPPORTED, "binary frames are not read here")
                    return
                self.active_at = asyncio.get_running_loop().time()
                await self._take(text)
                del text  # not kept while the next one is waited for
                while len(self._tasks) >= AT_ONCE and self.socket.open:
                    await asyncio.wait(self._tasks, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (*self._tasks, *self._waits):
                task.cancel()

    async def push(self, event: Event) -> None:
        """Send an event."""
        self._seq += 1
        await self._send(event.numbered(self._seq))

    async def _send(self, data: bytes) -> None:
        untaken = self.socket.untaken  # a message that is alone may have any size
        if untaken and untaken + len(data) > self.pool.buffer_bytes:
            self._too_slow()
            return
        await self.socket.send(data)
        if self.socket.untaken:
            self.pool.relieve()

    def _too_slow(self) -> None:
        if self.socket.open:
            log.warning("client %s of %s does not take what it is sent: closed", self.about.id, self.about.platform)
            self.socket.close(POLICY_VIOLATION, "slow consumer")

    async def _shake_hands(self) -> None:
        nonce = secrets.token_urlsafe(16)
        await self.socket.send(Event("connect.challenge", {"nonce": nonce, "ts": now_ms()}).bare())
        text = await self.socket.receive()
        if text is None:
            raise Refused
        if isinstance(text, bytes):
            self.socket.close(UNSUPPORTED, "binary frames are not read here")
            raise Refused
        try:
            request = frames.parse_request(text)
            if request.method != "connect":
                raise BadFrame(f"the first request is {request.method[:40]!r}; expected 'connect'", request.id)
        except BadFrame as error:
            await self._refuse(error.id, error, close=(POLICY_VIOLATION, "invalid request frame"))
            raise Refused from None
        try:
            await self._welcome(request)
        except Invalid as error:
            await self._refuse(request.id, error, close=(POLICY_VIOLATION, "invalid connect params"))
            raise Refused from None

    async def _welcome(self, request: Request) -> None:
        params = request.params
        self.about = _about(params.get("client"))
        least, most = _protocol(params, "minProtocol"), _protocol(params, "maxProtocol")
        common = [protocol for protocol in PROTOCOLS if least <= protocol <= most]
        if not common:
            ours = f"{PROTOCOLS[0]} to {PROTOCOLS[-1]}"
            mismatch = Invalid(
                f"protocol mismatch: the client speaks {least} to {most}, the service {ours}", param="maxProtocol"
            )
            details = {"code": "PROTOCOL_MISMATCH", "expectedProtocol": PROTOCOLS[-1]}
            await self._refuse(request.id, mismatch, details, close=(PROTOCOL_ERROR, "protocol mismatch"))
            raise Refused
        self.protocol = common[-1]
        await self._authorize(request)
        if not self.pool.enter(self):
            full = Busy("too many clients are connected", hint="try again in a second")
            await self._refuse(request.id, full, close=(TRY_AGAIN_LATER, "too many clients"))
            raise Refused
        self.socket.trust()
        self._ids.append(hash(request.id))
        await self._send(frames.response(request.id, self._hello()))

    async def _authorize(self, request: Request) -> None:
        auth = request.params.get("auth")
        given = auth.get("token") if isinstance(auth, dict) else None
        if not isinstance(given, str) or not given:
            missing = Invalid("unauthorized: gateway token missing", hint="`pinch token show` prints one")
            details = {"code": "AUTH_TOKEN_MISSING", "authReason": "token_missing"}
            await self._refuse(request.id, missing, details, close=(POLICY_VIOLATION, missing.message))
            raise Refused
        self.token = digest_of(given)
        if self.context.tokens.holder(self.token, datetime.now(UTC)) is None:
            wrong = Invalid(
                "unauthorized: gateway token mismatch (no such token, or it has ended)",
                hint="`pinch token show` prints one",
            )
            details = {"code": "AUTH_TOKEN_MISMATCH", "authReason": "token_mismatch"}
            await self._refuse(request.id, wrong, details, close=(POLICY_VIOLATION, wrong.message))
            raise Refused

    async def _refuse(
        self, name: str, error: PinchError, details: Mapping[str, Any] | None = None, *, close: tuple[int, str]
    ) -> None:
        if name:
            await self.socket.send(frames.refusal(name, error, details))
        self.socket.close(*close)

    def _hello(self) -> Mapping[str, Any]:
        gateway = self.context.settings.gateway
        return {
            "type": "hello-ok",
            "protocol": self.protocol,
            "server": {"version": __version__, "connId": self.id},
            "features": {"methods": self.methods, "events": self.pool.events},
            "snapshot": self.pool.snapshot(),
            "auth": {"role": ROLE, "scopes": SCOPES},
            "policy": {
                "maxPayload": MESSAGE_BYTES,
                "maxBufferedBytes": self.pool.buffer_bytes,
                "tickIntervalMs": gateway.tick_s * 1000,
            },
        }

    async def _take(self, text: str) -> None:
        try:
            request = frames.parse_request(text)
            if hash(request.id) in self._ids:
                raise BadFrame("the id is that of one of the last requests", request.id)
        except BadFrame as error:
            if not error.id:
                self.socket.close(POLICY_VIOLATION, error.message)
                return
            await self._send(frames.refusal(error.id, error))
            return
        self._ids.append(hash(request.id))
        task = asyncio.create_task(self._serve(request, sys.getsizeof(text)), name="pinch-request")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, request: Request, size: int) -> None:
        async def respond(payload: Any) -> None:
            """Answer for the first time: what follows is waiting, which keeps nobody from being served."""
            if len(self._waits) >= WAITS:
                raise Busy(f"{WAITS} requests of this client wait for answers", hint="wait for one of them")
            await self._send(frames.response(request.id, payload))
            request.params.clear()  # what is booked no longer must not stay
            held.close()
            task = asyncio.current_task()
            assert task is not None
            self._tasks.discard(task)
            self._waits.add(task)
            task.add_done_callback(self._waits.discard)

        try:
            with ExitStack() as held:
                held.enter_context(self.context.in_flight.holding(PARSED_FACTOR * size))
                self.context.require_ready()
                await self._send(frames.response(request.id, await self.serve(self, request, respond)))
        except PinchError as error:
            await self._send(frames.refusal(request.id, error))
        except Exception:
            log.exception("%s failed", request.method)
            fault = internal_fault()
            await self._send(frames.refusal(request.id, fault))

    def end(self, code: int = NORMAL, reason: str = "") -> None:
        """Close the connection."""
        self.socket.close(code, reason)


def _about(raw: Any) -> About:
    if not isinstance(raw, dict):
        raise Invalid("connect has no client", param="client", hint="send client: {id, version, platform, mode}")
    named = {"id": "id", "version": "version", "platform": "platform", "mode": "mode"}
    optional = {"name": "displayName", "instance": "instanceId"}
    values = {}
    for ours, theirs in (named | optional).items():
        value = raw.get(theirs, "" if ours in optional else None)
        if not isinstance(value, str) or (ours in named and not value):
            raise Invalid(f"client.{theirs} is no text", param=f"client.{theirs}")
        values[ours] = value[:FIELD_CHARACTERS]
    return About(**values)


def _protocol(params: Mapping[str, Any], name: str) -> int:
    value = params.get(name)
    if type(value) is not int or value < 1:
        raise Invalid(f"{name} is no whole number from 1", param=name)
    return value
