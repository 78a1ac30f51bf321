"""A small HTTP client for the service, over one kept connection and with nothing but the standard library."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO
from urllib.parse import quote

TIMEOUT_S = 120.0


class RefusedError(RuntimeError):
    """The service answered with an error."""

    def __init__(self, status: int, body: Any, what: str) -> None:
        super().__init__(f"{what}: {status} {body}")
        self.status = status
        self.body = body


class Client:
    """One connection to a service; reconnects when the service closed it."""

    def __init__(self, host: str, port: int, token: str, timeout_s: float = TIMEOUT_S) -> None:
        self.token = token
        self._connection = http.client.HTTPConnection(host, port, timeout=timeout_s)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send JSON (or raw bytes) and return the JSON of the answer.

        Raises:
            RefusedError: the status is 400 or above.
            OSError, http.client.HTTPException: there was no answer.
        """
        raw = isinstance(body, bytes)
        data = body if raw or body is None else json.dumps(body).encode()
        kind = "application/octet-stream" if raw else "application/json"
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": kind}
        try:
            self._connection.request(method, path, data, headers)
            answer = self._connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise
        said = json.loads(content) if "json" in answer.headers.get("Content-Type", "") else content
        if answer.status >= 400:
            raise RefusedError(answer.status, said, f"{method} {path}")
        return said

    def remember(self, text: str, **more: Any) -> str:
        """Store a memory and return its id once it is acknowledged."""
        return str(self.call("POST", "/v1/memories", {"text": text, **more})["id"])

    def memories(self, space: str = "default") -> list[dict[str, Any]]:
        """Return all memories of a space, page by page."""
        found: list[dict[str, Any]] = []
        cursor: str | None = None
        while True:
            more = f"&cursor={quote(cursor)}" if cursor else ""
            page = self.call("GET", f"/v1/memories?space={quote(space)}&limit=200{more}")
            found += page["memories"]
            cursor = page["cursor"]
            if not cursor:
                return found

    def recall(self, query: str, **more: Any) -> dict[str, Any]:
        """Ask a question and return the whole answer."""
        answer: dict[str, Any] = self.call("POST", "/v1/recall", {"query": query, **more})
        return answer

    def wait_for_vectors(self, patience_s: float = 600.0) -> float:
        """Wait until every text has its vector; return the seconds that took.

        Raises:
            TimeoutError: it took longer than `patience_s`.
        """
        begin = time.monotonic()
        while self.call("GET", "/v1/sync")["embedding"]["pending"]:
            if time.monotonic() - begin > patience_s:
                raise TimeoutError(f"texts still wait for their vector after {patience_s:.0f} s: journalctl -u pinch")
            time.sleep(0.5)
        return time.monotonic() - begin

    def put_document(self, path: str, content: bytes, space: str = "default") -> dict[str, Any]:
        """Ingest one document."""
        answer: dict[str, Any] = self.call("PUT", f"/v1/documents/{quote(path)}?space={quote(space)}", content)
        return answer

    def load_snapshot(self, file: Path) -> dict[str, Any]:
        """Replace the service's store by a snapshot; return what it holds now."""
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Content-Type": "application/octet-stream",
            "Content-Length": str(file.stat().st_size),
        }
        with file.open("rb") as content:
            self._connection.request("PUT", "/v1/snapshot", content, headers)
            answer = self._connection.getresponse()
            said = json.loads(answer.read())
        if answer.status >= 400:
            raise RefusedError(answer.status, said, "PUT /v1/snapshot")
        return dict(said)

    def save_snapshot(self, to: BinaryIO) -> int:
        """Stream the snapshot into `to` and return its length in bytes."""
        self._connection.request("GET", "/v1/snapshot", headers={"Authorization": f"Bearer {self.token}"})
        answer = self._connection.getresponse()
        if answer.status != 200:
            raise RefusedError(answer.status, answer.read(), "GET /v1/snapshot")
        total = 0
        while block := answer.read(1 << 20):
            total += to.write(block)
        return total
