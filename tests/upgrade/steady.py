"""Somebody who goes on remembering while a board is changed, and keeps what was acknowledged."""

from __future__ import annotations

import http.client
import threading
from types import TracebackType

from tests.client import Client, RefusedError

PAUSE_S = 0.5


class Steady:
    """Remembers one text after the other until the block ends; what fails is said again."""

    def __init__(self, port: int, token: str, space: str) -> None:
        self.acknowledged: list[str] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._write, args=(port, token, space), daemon=True)

    def __enter__(self) -> Steady:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._thread.join()

    def _write(self, port: int, token: str, space: str) -> None:
        number = 0
        with Client("127.0.0.1", port, token, timeout_s=20) as client:
            while not self._over.wait(PAUSE_S):
                text = f"Said while the board was changed, number {number}."
                try:
                    client.remember(text, space=space)
                except (OSError, http.client.HTTPException, RefusedError):
                    continue
                self.acknowledged.append(text)
                number += 1
