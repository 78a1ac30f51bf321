"""Clients that chat and remember what the service acknowledged, so that it can be held to it."""

from __future__ import annotations

import random
import threading
from types import TracebackType
from typing import NamedTuple

from tests.frames import Closed, Gateway, Refused, UpgradeRefused


class Message(NamedTuple):
    """What one client says; its key is the name of its run."""

    session: str
    key: str
    text: str


class Chatter:
    """One client with a session of its own; after a cut it says the last thing again, as a client should."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.sent: dict[str, Message] = {}
        self.acknowledged: dict[str, Message] = {}
        self.refused: list[Refused] = []
        self._chance = random.Random(seed)
        self._pending: Message | None = None
        self._last: Message | None = None

    def chat(self, port: int, token: str, session: str, over: threading.Event) -> None:
        """Say one thing after the other, and wait for some of the answers, until the service is gone."""
        self._pending = self._last
        try:
            with Gateway(port) as gateway:
                gateway.connect(token)
                while not over.is_set():
                    self._say(gateway, session)
        except (OSError, Closed, UpgradeRefused):
            return  # the service is gone; what was said last is not acknowledged

    def _say(self, gateway: Gateway, session: str) -> None:
        message = self._pending or self._new(session)
        self._pending = self._last = message
        wanted = {"sessionKey": message.session, "message": message.text, "idempotencyKey": message.key}
        try:
            answer = gateway.request("chat.send", wanted)
        except Refused as refused:
            if refused.details.get("type") != "busy":
                self.refused.append(refused)
            return  # nothing was stored: it is said again
        self._pending = None
        self.acknowledged[message.key] = message
        if answer["status"] != "ok" and self._chance.random() < 0.7:
            gateway.run(message.key)

    def _new(self, session: str) -> Message:
        key = f"{self.name}-{len(self.sent)}"
        message = Message(session, key, f"message {key} {'kettle ' * self._chance.randrange(12)}")
        self.sent[key] = message
        return message


class Chatters:
    """A chat load: several clients, each in a session of its own, until the service is gone."""

    def __init__(self, count: int, seed: int) -> None:
        self.chatters = [Chatter(f"client{number}", seed + number) for number in range(count)]
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def begin(self, port: int, token: str, turn: object) -> Chatters:
        """Let everyone chat in the sessions of this turn, inside a `with`."""
        self._over = threading.Event()
        self._threads = [
            threading.Thread(
                target=one.chat, args=(port, token, f"{one.name}.{turn}", self._over), name=one.name, daemon=True
            )
            for one in self.chatters
        ]
        return self

    def __enter__(self) -> Chatters:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    @property
    def acknowledged(self) -> list[Message]:
        """Everything that the service has acknowledged."""
        return [message for one in self.chatters for message in one.acknowledged.values()]

    @property
    def sent(self) -> dict[str, Message]:
        """Everything that was ever said, by its key."""
        return {key: message for one in self.chatters for key, message in one.sent.items()}

    @property
    def refused(self) -> list[Refused]:
        """Refusals other than that the service is busy."""
        return [refused for one in self.chatters for refused in one.refused]
