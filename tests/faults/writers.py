"""Writers that remember what the service acknowledged, so that it can be held to it."""

from __future__ import annotations

import http.client
import secrets
import threading
from types import TracebackType

from tests.client import Client, RefusedError


class Writers:
    """A write load: several connections, each with one memory after the other, until the service is gone."""

    def __init__(self, port: int, token: str, space: str, count: int = 4) -> None:
        self.acknowledged: list[str] = []
        self.sent: set[str] = set()
        self.refused: list[RefusedError] = []
        self._space = space
        self._lock = threading.Lock()
        self._over = threading.Event()
        arguments = [(port, token)] * count
        self._threads = [threading.Thread(target=self._write, args=each, daemon=True) for each in arguments]

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _write(self, port: int, token: str) -> None:
        with Client("127.0.0.1", port, token, timeout_s=30) as client:
            while not self._over.is_set():
                text = f"An acknowledged write is on disk: {secrets.token_hex(16)} {'-' * secrets.randbelow(2000)}."
                with self._lock:
                    self.sent.add(text)
                try:
                    client.remember(text, space=self._space)
                except RefusedError as error:
                    self.refused.append(error)
                    return
                except (OSError, http.client.HTTPException):
                    return  # the service is gone; this write was not acknowledged
                with self._lock:
                    self.acknowledged.append(text)
