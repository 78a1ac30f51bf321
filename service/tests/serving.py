"""A running service and what its answers look like, for the tests of this folder."""

from __future__ import annotations

import http.client
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from attrs import frozen

from tests.cache import REPOSITORY
from tests.running import LocalService

PIPELINE = REPOSITORY / "roles" / "models" / "pipeline"
WAIT_S = 90.0


@frozen
class Answer:
    """One response."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        """The body; anything but JSON fails the test."""
        assert self.headers["Content-Type"].startswith("application/json"), (self.status, self.content[:200])
        return json.loads(self.content)

    @property
    def error(self) -> dict[str, Any]:
        """The error in the contract's shape; anything else fails the test."""
        body = self.json
        assert list(body) == ["error"], body
        error: dict[str, Any] = body["error"]
        assert set(error) == {"type", "message", "param", "hint"}, error
        assert isinstance(error["type"], str)
        assert isinstance(error["message"], str)
        assert error["message"]
        assert isinstance(error["hint"], str)
        return error


def received(connection: socket.socket) -> Answer:
    """Read one whole answer off a connection, in however many pieces it comes."""
    answer = http.client.HTTPResponse(connection)
    answer.begin()
    return Answer(answer.status, dict(answer.headers), answer.read())


class Service(LocalService):
    """The real service with a client that hands back every answer, errors too."""

    def __enter__(self) -> Service:
        self.start()
        return self

    def _ready(self) -> bool:
        """Whether it answers: one with a damaged store does, and is not ready."""
        try:
            return self.call("GET", "/healthz").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        token: str | None = "",
    ) -> Answer:
        """Send JSON, or bytes as they are; `token=None` sends none, "" the right one."""
        sent = dict(headers or {})
        if token is not None:
            sent.setdefault("Authorization", f"Bearer {token or self.token}")
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        if data is not None:
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT_S)
        try:
            connection.request(method, path, data, sent)
            answer = connection.getresponse()
            return Answer(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def get(self, path: str) -> Any:
        """Return the JSON of a GET that must go well."""
        answer = self.call("GET", path)
        assert answer.status == 200, (path, answer.status, answer.content)
        return answer.json

    def remember(self, text: str, **more: Any) -> str:
        """Store a memory and return its id."""
        answer = self.call("POST", "/v1/memories", {"text": text, **more})
        assert answer.status in {200, 201}, answer.content
        return str(answer.json["id"])

    def recall(self, query: str, **more: Any) -> Any:
        """Return the whole answer to a query."""
        answer = self.call("POST", "/v1/recall", {"query": query, **more})
        assert answer.status == 200, answer.content
        return answer.json

    def texts(self, query: str, **more: Any) -> list[str]:
        """Return the texts of a query's hits."""
        return [hit["text"] for hit in self.recall(query, **more)["hits"]]

    def listed(self, **query: str) -> list[dict[str, Any]]:
        """Return every memory, page by page."""
        found: list[dict[str, Any]] = []
        parameters = "&".join(f"{name}={quote(value, safe='')}" for name, value in {"limit": "200", **query}.items())
        cursor = ""
        while True:
            page = self.get(f"/v1/memories?{parameters}{cursor}")
            found += page["memories"]
            if page["cursor"] is None:
                return found
            cursor = f"&cursor={quote(page['cursor'], safe='')}"

    def put(self, path: str, content: bytes, space: str = "default") -> Answer:
        """Upload a document."""
        return self.call("PUT", f"/v1/documents/{quote(path)}?space={quote(space)}", content)

    def embedded(self) -> None:
        """Wait until every text has its vector."""
        until(lambda: self.get("/v1/sync")["embedding"]["pending"] == 0, "every text has its vector")

    def synced(self) -> Any:
        """Sync the folders and return the progress at the end."""
        started = self.call("POST", "/v1/sync")
        assert started.status == 202, started.content
        until(lambda: self.get("/v1/sync")["state"] == "idle", "the sync ends")
        return self.get("/v1/sync")

    def connect(self) -> socket.socket:
        """Return a raw connection."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)

    def said(self) -> str:
        """Return what it logged."""
        return self.log.read_text("utf-8", "replace")

    @property
    def state(self) -> Path:
        """Folder of the store."""
        return self.folder / "state"

    @property
    def store(self) -> Path:
        """The store's file."""
        return self.state / "pinch.db"

    def exit_status(self) -> int:
        """Wait for the end and return the exit status."""
        assert self._process is not None
        return self._process.wait(WAIT_S)

    def terminate(self) -> None:
        """Send SIGTERM and go on."""
        assert self._process is not None
        self._process.terminate()


def until(condition: Callable[[], bool], what: str, within_s: float = WAIT_S) -> None:
    """Wait for a condition."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"waited {within_s:.0f} s in vain: {what}"
        time.sleep(0.02)


def rss_bytes(pid: int, kind: str = "Anonymous") -> int:
    """Return what a process holds, by a name of its `smaps_rollup`."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith(f"{kind}:"):
            return int(line.split()[1]) * 1024
    raise KeyError(kind)


def model(name: str) -> Path:
    """Return a model's folder out of the pipeline's cache, where it is built when it is missing.

    Skips the test where the service runs on a distribution's packages, among which there is no ONNX Runtime.
    """
    if importlib.util.find_spec("onnxruntime") is None:
        pytest.skip("no ONNX Runtime here")
    environment = {**os.environ, "PYTHONPATH": str(PIPELINE)}
    command = [sys.executable, "-m", "pinch_models", "build", "--json", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"model {name} cannot be built:\n{done.stderr}"
    return Path(json.loads(done.stdout.splitlines()[-1])["path"])
