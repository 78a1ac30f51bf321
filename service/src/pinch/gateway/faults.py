"""The one table from errors to HTTP answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from aiohttp import web

from pinch import errors
from pinch.agents.errors import NoProvider, ProviderError
from pinch.gateway.answers import respond
from pinch.memory.model import ModelUnusable


class Unauthorized(errors.PinchError):
    """No token, or one that opens nothing."""


class Forbidden(errors.PinchError):
    """A host or origin that may not call."""


class UnsupportedMediaType(errors.PinchError):
    """A body in a coding that is not read here."""


class MethodNotAllowed(errors.PinchError):
    """The path exists, the method on it does not."""


class Answer(NamedTuple):
    """How one kind of error is told."""

    status: int
    type: str
    headers: Mapping[str, str] = {}


BUSY_HEADERS = {"Retry-After": str(errors.Busy.retry_after)}
DONE_TRYING = {"x-should-retry": "false"}
"""Tells OpenAI's clients that the service has tried again already, or that trying again is of no use."""

ANSWERS: dict[type[errors.PinchError], Answer] = {
    errors.Invalid: Answer(400, "invalid_request"),
    Unauthorized: Answer(401, "unauthorized", {"WWW-Authenticate": 'Bearer realm="pinch"'}),
    Forbidden: Answer(403, "forbidden"),
    errors.NotFound: Answer(404, "not_found"),
    MethodNotAllowed: Answer(405, "method_not_allowed"),
    errors.Conflict: Answer(409, "conflict"),
    errors.TooLarge: Answer(413, "too_large"),
    UnsupportedMediaType: Answer(415, "unsupported_media_type"),
    ProviderError: Answer(502, "provider_failed", DONE_TRYING),
    errors.Busy: Answer(503, "busy", BUSY_HEADERS),
    NoProvider: Answer(503, "no_provider", DONE_TRYING),
    ModelUnusable: Answer(503, "model_unusable"),
    errors.StoreDamaged: Answer(503, "store_damaged"),
    errors.StoreUnusable: Answer(503, "store_unusable"),
    errors.StorageFull: Answer(507, "storage_full"),
}
INTERNAL = Answer(500, "internal")

OPENAI_PATHS = ("/v1/embeddings", "/v1/chat/completions", "/v1/models")
"""Where errors take the shape that OpenAI's clients read."""


def answer(error: errors.PinchError, path: str) -> web.Response:
    """Return the response that tells a client of `error`."""
    return _respond(found_answer(error), error, path)


def found_answer(error: errors.PinchError) -> Answer:
    """Return how an error is told."""
    return next((ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS), INTERNAL)


def internal(path: str) -> web.Response:
    """Return the response to a fault of our own; the log has the cause."""
    error = errors.internal_fault()
    return _respond(INTERNAL, error, path)


def refuse(status: int, message: str, path: str) -> web.Response:
    """Return the response with `status`, for what no handler of ours has seen."""
    if status >= 500:
        return internal(path)
    kind = next((one.type for one in ANSWERS.values() if one.status == status), "invalid_request")
    return _respond(Answer(status, kind), errors.PinchError(message, hint="send plain HTTP/1.1"), path)


def _respond(found: Answer, error: errors.PinchError, path: str) -> web.Response:
    body: dict[str, str | None] = {"type": found.type, "message": error.message, "param": error.param}
    if path.startswith(OPENAI_PATHS):
        # Its clients show the message alone.
        body["message"] = f"{error.message}; {error.hint}" if error.hint else error.message
        body["code"] = found.type
        body["type"] = "invalid_request_error" if found.status < 500 else "server_error"
    else:
        body["hint"] = error.hint
    return respond({"error": body}, found.status, found.headers)
