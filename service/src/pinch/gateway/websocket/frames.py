"""Frames: requests in; responses and events out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from pinch.errors import Busy, Invalid, PinchError
from pinch.gateway.faults import found_answer
from pinch.gateway.reading import parse_json

ID_CHARACTERS = 200
INVALID_REQUEST = "INVALID_REQUEST"
UNAVAILABLE = "UNAVAILABLE"
KEYS = frozenset({"type", "id", "method", "params"})


class Request(NamedTuple):
    """What a client asks."""

    id: str
    method: str
    params: dict[str, Any]


class BadFrame(Invalid):
    """A frame that is no request; `id` is what it gave as such."""

    def __init__(self, message: str, id: str = "") -> None:  # noqa: A002 - the frame's own word
        super().__init__(message, param="frame", hint='send {"type": "req", "id": …, "method": …, "params": {…}}')
        self.id = id


def parse_request(text: str) -> Request:
    """Read a request.

    Raises:
        BadFrame: it is none.
    """
    try:
        raw = parse_json(text.encode("utf-8", "surrogatepass"), "frame")
    except PinchError as error:
        raise BadFrame(error.message) from None
    if not isinstance(raw, dict):
        raise BadFrame("the frame is no JSON object")
    name = raw.get("id")
    if not isinstance(name, str) or not 0 < len(name) <= ID_CHARACTERS:
        raise BadFrame(f"the frame's id is no text of 1 to {ID_CHARACTERS} characters")
    if raw.get("type") != "req":
        raise BadFrame(f"the frame's type is {str(raw.get('type'))[:40]!r}; expected 'req'", name)
    if not isinstance(raw.get("method"), str) or not raw["method"]:
        raise BadFrame("the frame's method is no text", name)
    params = raw.get("params")
    if params is not None and not isinstance(params, dict):
        raise BadFrame("the frame's params are no JSON object", name)
    if unknown := raw.keys() - KEYS:
        raise BadFrame(f"the frame has a field {min(unknown)[:40]!r} that there is not", name)
    return Request(name, raw["method"], params or {})


def response(name: str, payload: Any) -> bytes:
    """Return the frame that answers request `name`."""
    return _frame({"type": "res", "id": name, "ok": True, "payload": payload})


def refusal(name: str, error: PinchError, details: Mapping[str, Any] | None = None) -> bytes:
    """Return the frame that tells what is wrong with request `name`."""
    told: dict[str, Any] = {
        "code": INVALID_REQUEST,
        "message": f"{error.message}; {error.hint}" if error.hint else error.message,
    }
    found = found_answer(error)
    told["details"] = {"type": found.type, "param": error.param, "hint": error.hint, **(details or {})}
    if found.status >= 500:
        told["code"] = UNAVAILABLE
        told["retryable"] = isinstance(error, Busy)
        if isinstance(error, Busy):
            told["retryAfterMs"] = error.retry_after * 1000
    return _frame({"type": "res", "id": name, "ok": False, "error": told})


class Event:
    """An event on its way to many: made into bytes once, and given each client's own number."""

    def __init__(self, name: str, payload: Mapping[str, Any]) -> None:
        self.name = name
        self._open = _frame({"type": "event", "event": name, "payload": payload})[:-1]

    def numbered(self, seq: int) -> bytes:
        """Return the frame for a client that has had `seq - 1` events."""
        return b'%s,"seq":%d}' % (self._open, seq)

    def bare(self) -> bytes:
        """Return the frame without a number, for one that is not connected yet."""
        return self._open + b"}"


def _frame(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
