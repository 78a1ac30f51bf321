"""The service on this board, asked over HTTP as any client would."""

from __future__ import annotations

import http.client
import json
import secrets
import ssl
import tomllib
from pathlib import Path
from typing import Any, NamedTuple

DEFAULT_LISTEN = "127.0.0.1:18789"
PROOF_SPACE = "pinch-proof"
"""Space of the memory that a round trip stores and forgets again."""
ANSWER_S = 10.0


class Address(NamedTuple):
    """Where programs on the board reach the service."""

    host: str
    port: int
    tls: bool


def address(settings: str) -> Address:
    """Return the address that a file of settings, given as TOML, makes the service listen on."""
    read = tomllib.loads(settings)
    host, _, port = str(read.get("listen", DEFAULT_LISTEN)).rpartition(":")
    plain = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104 (asked on loopback, never bound)
    bare = host.strip("[]")
    return Address(plain.get(bare, bare), int(port), bool(read.get("gateway", {}).get("tls_certificate")))


def first_token(tokens: Path) -> str:
    """Return the first token of a tokens file, empty where there is none."""
    try:
        lines = tokens.read_text("utf-8").splitlines()
    except OSError:
        return ""
    words = (line.split() for line in lines if line.strip() and not line.startswith("#"))
    return next((each[1] for each in words if len(each) > 1), "")


class Service:
    """A client of the service."""

    def __init__(self, where: Address, token: str, answer_s: float = ANSWER_S) -> None:
        self.where = where
        self._token = token
        self._answer_s = answer_s

    def call(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Send JSON and return the status with the JSON of the answer, None where it is none.

        Raises:
            OSError, http.client.HTTPException: there was no answer.
        """
        connection = self._connect()
        try:
            data = None if body is None else json.dumps(body).encode()
            headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            content = answer.read()
            try:
                return answer.status, json.loads(content)
            except ValueError:
                return answer.status, None
        finally:
            connection.close()

    def not_ready(self) -> str:
        """Say why the service is not ready, empty where it is."""
        try:
            status, answer = self.call("GET", "/readyz")
        except (OSError, http.client.HTTPException) as error:
            return f"it does not answer ({error or type(error).__name__})"
        if status == 200 and isinstance(answer, dict) and answer.get("ready") is True:
            return ""
        waiting = answer.get("waiting_for") if isinstance(answer, dict) else None
        return f"/readyz answers {status}" + (f", waiting for {', '.join(map(str, waiting))}" if waiting else "")

    def fault(self) -> str:
        """Remember something, recall it by its word and forget it again; say what went wrong, empty where nothing."""
        word = f"proof{secrets.token_hex(8)}"
        try:
            status, made = self.call("POST", "/v1/memories", {"text": f"The word is {word}.", "space": PROOF_SPACE})
            if status not in {200, 201} or not isinstance(made, dict) or "id" not in made:
                return f"it answers {status} to a memory"
            question = {"query": word, "space": PROOF_SPACE, "mode": "keyword", "k": 1}
            status, found = self.call("POST", "/v1/recall", question)
            forgotten, _ = self.call("DELETE", f"/v1/memories/{made['id']}")
        except (OSError, http.client.HTTPException) as error:
            return f"it broke off a round trip ({error or type(error).__name__})"
        hits = found.get("hits") if isinstance(found, dict) else None
        if status != 200 or not hits or word not in str(hits[0].get("text", "")):
            return f"it answers {status} to a recall and does not find what it was just told"
        return "" if forgotten in {200, 204} else f"it answers {forgotten} when a memory is to be forgotten"

    def _connect(self) -> http.client.HTTPConnection:
        host, port, tls = self.where
        if not tls:
            return http.client.HTTPConnection(host, port, timeout=self._answer_s)
        # Its own certificate names the board, and not the loopback that is asked here.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(host, port, timeout=self._answer_s, context=context)
