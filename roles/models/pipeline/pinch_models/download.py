"""One file over HTTP: resumed where it broke off, tried again when that can help, never too long."""

import http.client
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pinch_models.errors import FetchError

_BLOCK_BYTES = 2**18
_AGENT = "pinch-models"
# Answers that a moment may change; any other refusal is final.
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNSATISFIABLE = 416


@dataclass(frozen=True)
class Patience:
    """How often and how long to try; ``sleep`` takes seconds and is passed in for tests."""

    attempts: int = 4
    first_pause_s: float = 0.5
    timeout_s: float = 10.0
    sleep: Callable[[float], None] = time.sleep


class _Passing(Exception):
    """A failure that another attempt may not meet."""


def download(url: str, target: Path, limit: int, length: int | None, patience: Patience) -> None:
    """Fetch ``url`` into ``target``, going on from what is there already.

    ``limit`` is the most bytes accepted; ``length`` the exact number where it is known.
    Raises `FetchError` with the reason; OSError where ``target`` cannot be written.
    """
    reason = ""
    for attempt in range(patience.attempts):
        if attempt:
            patience.sleep(patience.first_pause_s * 2 ** (attempt - 1))
        try:
            _attempt(url, target, limit, length, patience.timeout_s)
        except _Passing as passing:
            reason = str(passing)
        else:
            return
    raise FetchError(f"{reason}, {patience.attempts} attempts")


def _attempt(url: str, target: Path, limit: int, length: int | None, timeout: float) -> None:
    have = target.stat().st_size if target.exists() else 0
    if have > limit or (have and length is None):
        # Without a pinned length nothing tells a finished file from a torso.
        target.unlink()
        have = 0
    if have == length:
        return
    request = urllib.request.Request(url, headers={"User-Agent": _AGENT, "Accept-Encoding": "identity"})  # noqa: S310
    if have:
        request.add_header("Range", f"bytes={have}-")
    with _open(request, target, timeout) as answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT and _starts_at(answer, have)
        have = have if resumed else 0
        with target.open("ab" if resumed else "wb") as stream:
            have += _receive(answer, stream, limit - have)
    if length is not None and have != length:
        raise _Passing(f"the answer ended after {have:,} of {length:,} bytes")


def _open(request: urllib.request.Request, target: Path, timeout: float) -> http.client.HTTPResponse:
    """Return the answer's head, or sort the failure into passing and final."""
    try:
        answer: http.client.HTTPResponse = urllib.request.urlopen(request, timeout=timeout)  # noqa: S310
    except urllib.error.HTTPError as error:
        if error.code == _UNSATISFIABLE:
            target.unlink(missing_ok=True)
            raise _Passing("the server refused to resume") from error
        if error.code in _PASSING:
            raise _Passing(f"HTTP {error.code} {error.reason}") from error
        raise FetchError(f"HTTP {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise _unreachable(error) from error
    except (OSError, http.client.HTTPException) as error:
        raise _Passing(f"no answer ({_words(error)})") from error
    return answer


def _starts_at(answer: http.client.HTTPResponse, offset: int) -> bool:
    return (answer.headers.get("Content-Range") or "").startswith(f"bytes {offset}-")


def _receive(answer: http.client.HTTPResponse, stream: BinaryIO, limit: int) -> int:
    """Copy the body and return its length; a write error is left to the caller."""
    received = 0
    while True:
        try:
            block = answer.read(_BLOCK_BYTES)
        except (OSError, http.client.HTTPException) as error:
            stream.flush()
            raise _Passing(f"the connection broke ({_words(error)})") from error
        if not block:
            break
        received += len(block)
        if received > limit:
            raise FetchError(f"the answer is longer than the {limit:,} bytes still expected")
        stream.write(block)
    announced = answer.headers.get("Content-Length")
    if announced and announced.isdigit() and received < int(announced):
        raise _Passing(f"the answer ended after {received:,} of {int(announced):,} bytes")
    return received


def _unreachable(error: urllib.error.URLError) -> Exception:
    cause = error.reason
    if isinstance(cause, ssl.SSLCertVerificationError):
        return FetchError(f"its certificate was not accepted ({cause.verify_message})")
    if isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME:
        return FetchError(f"its host name has no address ({cause.strerror})")
    return _Passing(f"no connection ({_words(cause)})")


def _words(cause: object) -> str:
    if isinstance(cause, TimeoutError):
        return "timed out"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    return str(cause) or type(cause).__name__
