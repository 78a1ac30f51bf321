"""One message and its answer, over as many connections as it takes."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple, Protocol

from pinch.cli.address import Address
from pinch.cli.client import PATIENCE_S, unreachable
from pinch.cli.errors import FROM_RUN, CommandError, Exit
from pinch.cli.gateway import NEWEST_PROTOCOL, OLDEST_PROTOCOL, Busy, Event, Gateway, Lost, connected

FIRST_PAUSE_S = 1.0
"""Wait before the first new connection; each further one waits twice as long, up to `LONGEST_PAUSE_S`."""
LONGEST_PAUSE_S = 8.0
_GOING_ON = frozenset({"started", "in_flight"})
_LOOKED_BACK = 50
"""Messages of the history among which the answer to a message just sent must be."""


class Viewer(Protocol):
    """Who watches an answer come."""

    def text(self, more: str) -> None:
        """Take the next piece of the answer."""

    def anew(self) -> None:
        """Learn that the answer begins again from its first word."""

    def tool(self, name: str) -> None:
        """Learn that the agent uses a tool."""

    def note(self, sentence: str) -> None:
        """Take a sentence that is no part of the answer."""


class Answer(NamedTuple):
    """How a run ended."""

    session: str
    run: str
    state: str
    """`final` or `aborted`."""
    text: str
    stop_reason: str | None = None
    usage: Any = None
    interrupted: bool = False
    """Whether it was this program that asked for the end."""

    def document(self) -> dict[str, object]:
        """Return it as `--json` prints it."""
        return {
            "session": self.session,
            "runId": self.run,
            "state": self.state,
            "text": self.text,
            "stopReason": self.stop_reason,
            "usage": self.usage,
        }


class Exchange:
    """A message on its way, and what has come back.

    Args:
        where: the service.
        token: shown to it when connecting, and nowhere else.
        session: key of the session.
        message: what is said.
        run: name of the run, new for each message: the service takes a message of that name once, however
            often it is sent.
        viewer: watches the answer come.
    """

    def __init__(self, where: Address, token: str, *, session: str, message: str, run: str, viewer: Viewer) -> None:
        self.session = session
        self.run = run
        self._where = where
        self._token = token
        self._request = {"sessionKey": session, "message": message, "idempotencyKey": run}
        self._viewer = viewer
        self._shown = ""
        self._perhaps_stored = False
        self._cut = False
        self._interrupted = False
        self._waited_s = 0.0
        self._pause_s = FIRST_PAUSE_S
        self._away = True
        self._gateway: Gateway | None = None
        """Where the answer can be aborted: not before the message has arrived, or it would come after its abort."""
        self._abort: asyncio.Task[None] | None = None

    def answer(self) -> Answer:
        """Send the message and return the whole answer; Ctrl-C aborts it, a second one leaves it alone.

        Raises:
            CommandError: it was refused, it failed, or the service stayed away.
            KeyboardInterrupt: Ctrl-C before it was sent, or for the second time.
        """
        try:
            return asyncio.run(self._watched())
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    async def _watched(self) -> Answer:
        loop, task = asyncio.get_running_loop(), asyncio.current_task()
        assert task is not None
        loop.add_signal_handler(signal.SIGINT, self._interrupt, task.cancel)
        try:
            return await self._persistent()
        finally:
            loop.remove_signal_handler(signal.SIGINT)

    def _interrupt(self, leave: Callable[[], object]) -> None:
        if self._interrupted or not self._perhaps_stored:
            leave()
            return
        self._interrupted = True
        if self._gateway is not None:
            self._abort_on(self._gateway)
        elif self._away:
            self._viewer.note("the answer is aborted as soon as the service can be asked to; Ctrl-C again leaves it")

    def _abort_on(self, gateway: Gateway) -> None:
        async def abort() -> None:
            # A connection that ends here ends for the one who waits for the answer too, and is told there.
            with suppress(Lost):
                try:
                    await gateway.call("chat.abort", {"sessionKey": self.session, "runId": self.run})
                except CommandError as error:
                    self._viewer.note(f"the answer cannot be aborted: {error}")

        self._abort = asyncio.create_task(abort())

    async def _persistent(self) -> Answer:
        while True:
            # A delta of the newest protocol has what is new. After a cut a part is missing here, and the one
            # before has the whole text each time.
            newest = OLDEST_PROTOCOL if self._cut else NEWEST_PROTOCOL
            try:
                async with connected(self._where, self._token, newest=newest) as gateway:
                    return await self._over(gateway)
            except Busy as busy:
                await self._wait(busy.retry_after_s, busy, f"the service is busy ({busy.message})")
            except Lost as lost:
                if not self._perhaps_stored:
                    raise unreachable(self._where, str(lost)) from None
                await self._lost(str(lost))
            except CommandError as error:
                if error.exit_status is not Exit.UNREACHABLE or not self._perhaps_stored:
                    raise
                await self._lost("the service does not answer yet")

    async def _lost(self, reason: str) -> None:
        self._cut = True
        error = CommandError(
            f"the connection to {self._where.url} is lost ({reason})",
            f"when the service is back, `pinch chat --session {self.session}` shows what became of the answer",
            exit_status=Exit.UNREACHABLE,
        )
        pause, self._pause_s = self._pause_s, min(self._pause_s * 2, LONGEST_PAUSE_S)
        await self._wait(pause, error, f"the connection is lost ({reason})")

    async def _wait(self, pause_s: float, error: CommandError, sentence: str) -> None:
        if self._waited_s + pause_s > PATIENCE_S:
            raise error
        self._viewer.note(f"{sentence}; trying again in {pause_s:.0f} s")
        await asyncio.sleep(pause_s)
        self._waited_s += pause_s

    async def _over(self, gateway: Gateway) -> Answer:
        self._perhaps_stored = True
        self._away = False
        try:
            status = await self._send(gateway)
            self._gateway = gateway
            if self._interrupted:
                self._abort_on(gateway)
            if status not in _GOING_ON:
                return await self._recorded(gateway)
            while True:
                event = await gateway.event()
                if event.payload.get("runId") == self.run and self._take(event):
                    if self._cut:
                        self._catch_up(await self._told(gateway))
                    return self._ended(event.payload["state"], text_of(event.payload.get("message")), event.payload)
        finally:
            self._away = True
            self._gateway = None
            if self._abort is not None:
                self._abort.cancel()

    async def _send(self, gateway: Gateway) -> object:
        try:
            return (await gateway.call("chat.send", self._request)).get("status")
        except CommandError:
            # What is refused was not stored; at an earlier time, before a cut, it may have been.
            self._perhaps_stored = self._cut
            raise

    def _take(self, event: Event) -> bool:
        """Take an event of the run; return whether it was its last."""
        payload = event.payload
        if event.name == "agent":
            data = payload.get("data")
            if payload.get("stream") == "tool" and isinstance(data, dict) and data.get("phase") == "start":
                self._viewer.tool(str(data.get("name") or "a tool"))
        elif event.name == "chat":
            match payload.get("state"):
                case "delta":
                    whole = payload.get("message")
                    self._show(text_of(whole) if whole else self._shown + str(payload.get("deltaText") or ""))
                case "final" | "aborted":
                    return True
                case "error":
                    raise _failed(payload)
        return False

    def _show(self, whole: str) -> None:
        if self._shown.startswith(whole):
            # Begun again after a cut, it has not said yet what was seen already.
            return
        if not whole.startswith(self._shown):
            self._viewer.anew()
            self._shown = ""
        self._viewer.text(whole[len(self._shown) :])
        self._shown = whole
        self._waited_s, self._pause_s = 0.0, FIRST_PAUSE_S

    def _ended(self, state: str, text: str, said: Mapping[str, Any]) -> Answer:
        # What was said before a tool was used is shown, and no part of the answer.
        if text.startswith(self._shown) or (self._cut and not self._shown.endswith(text)):
            self._show(text)
        reason = said.get("stopReason")
        return Answer(
            self.session,
            self.run,
            state,
            text or self._shown,
            reason if isinstance(reason, str) else None,
            said.get("usage"),
            interrupted=self._interrupted,
        )

    async def _recorded(self, gateway: Gateway) -> Answer:
        """Return the answer that came to its end while nobody here was connected."""
        told = await self._told(gateway)
        error = next((message["errorMessage"] for message in told if message.get("errorMessage")), None)
        if error is not None:
            raise _failed({"errorMessage": error})
        self._catch_up(told)
        answers = [one for one in told if one.get("role") == "assistant" and one.get("stopReason") != "tool_calls"]
        if not answers and self._interrupted:
            return self._ended("aborted", "", {})
        if not answers:
            raise CommandError(
                "the answer came to its end while the connection was lost, and the session has none",
                "look at the service's log, and ask again",
            )
        state = "aborted" if answers[-1].get("stopReason") == "aborted" else "final"
        return self._ended(state, text_of(answers[-1]), answers[-1])

    async def _told(self, gateway: Gateway) -> list[dict[str, Any]]:
        """Return what the session has of the run."""
        history = await gateway.call("chat.history", {"sessionKey": self.session, "limit": _LOOKED_BACK})
        return [message for message in messages_of(history) if message.get("runId") == self.run]

    def _catch_up(self, told: list[dict[str, Any]]) -> None:
        whole = "".join(text_of(message) for message in told if message.get("role") == "assistant")
        if whole.startswith(self._shown):
            self._show(whole)


def messages_of(history: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the messages of a `chat.history`, oldest first."""
    messages = history.get("messages")
    return [message for message in messages if isinstance(message, dict)] if isinstance(messages, list) else []


def text_of(message: object) -> str:
    """Return what a message says, whether its content is a text or a list of parts."""
    content = message.get("content") if isinstance(message, dict) else None
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict) and part.get("type") == "text")
    return "".join(text for text in texts if isinstance(text, str))


def _failed(payload: Mapping[str, Any]) -> CommandError:
    kind = payload.get("errorKind")
    kind = kind if isinstance(kind, str) else "unknown"
    message = str(payload.get("errorMessage") or "the answer failed without a reason")
    return CommandError(message, exit_status=FROM_RUN.get(kind, Exit.ERROR), kind=kind)
