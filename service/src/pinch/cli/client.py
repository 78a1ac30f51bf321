"""The service as the command line sees it: HTTP with streamed bodies, patience and typed errors."""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from attrs import define, field, frozen

from pinch import __version__
from pinch.cli.address import Address
from pinch.cli.errors import FROM_HTTP, CommandError, Exit

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 120.0
"""A recall on a small board right after its start waits for the model; more than this is a fault."""
PATIENCE_S = 60.0
"""How long one request waits, all retries together, for a service that says it is busy."""
BLOCK_BYTES = 64 * 1024
_SHORTEST_RETRY_S = 0.1
_DATED_RETRY_S = 5.0
_LARGEST_ERROR_BYTES = 64 * 1024


class Body(Protocol):
    """A request body that can be sent again."""

    @property
    def length(self) -> int:
        """Bytes that `blocks` yields."""

    def blocks(self) -> Iterator[bytes]:
        """Yield the body from its beginning."""


@frozen
class Bytes:
    """A body that is in memory."""

    data: bytes

    @property
    def length(self) -> int:
        """Bytes of the body."""
        return len(self.data)

    def blocks(self) -> Iterator[bytes]:
        """Yield the body in one piece."""
        yield self.data


def document_path(path: str) -> str:
    """Return the URL path of the document called `path`."""
    return "/v1/documents/" + quote(path, safe="/")


def trust(where: Address) -> ssl.SSLContext:
    """Return which certificates are believed to be the service's."""
    trusted = ssl.create_default_context()
    if where.certificate:
        # The service's own certificate, from its own settings: whatever name it carries, it is the one.
        trusted.load_verify_locations(where.certificate)
        trusted.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        trusted.check_hostname = False
    return trusted


def unreachable(where: Address, reason: str) -> CommandError:
    """Return the error of a service that does not answer."""
    return CommandError(
        f"the service does not answer at {where.url} ({reason})",
        "start it (`systemctl start pinch`, or `pinch serve`), or set PINCH_URL",
        exit_status=Exit.UNREACHABLE,
    )


@frozen
class _Request:
    method: str
    target: str
    body: Body | None
    headers: Mapping[str, str]
    timeout_s: float


@define
class Client:
    """One connection to the service, kept open between requests.

    Args:
        address: where it is.
        token: bearer token.
        sleep: waits that many seconds, when the service is busy.
        notice: takes a sentence for the person who waits.
    """

    address: Address
    token: str = field(repr=False)
    sleep: Callable[[float], None]
    notice: Callable[[str], None]
    _connection: http.client.HTTPConnection | None = None

    def json(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int | None] | None = None,
        body: object = None,
        upload: Body | None = None,
        timeout_s: float = ANSWER_TIMEOUT_S,
        retry: bool = True,
    ) -> Any:
        """Send a request and return the JSON of its answer, or None where the answer has no body.

        Args:
            method: HTTP method.
            path: path, already percent-encoded.
            query: parameters; None values are left out.
            body: sent as JSON, unless None.
            upload: sent as it is, in blocks.
            timeout_s: longest silence of the service, in seconds.
            retry: wait and try again when the service is busy and says for how long.

        Raises:
            CommandError: with the exit status that `FROM_HTTP` gives.
        """
        headers = {}
        if body is not None:
            upload = Bytes(json.dumps(body, ensure_ascii=False).encode("utf-8"))
            headers["Content-Type"] = "application/json"
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = f"{path}?{urlencode(given)}" if given else path
        response = self._send(_Request(method, target, upload, headers, timeout_s), retry=retry)
        try:
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._broken_off(error) from None
        if not content:
            return None
        try:
            return json.loads(content)
        except ValueError:
            raise CommandError(
                f"{self.address.url} answered {path} with something that is not JSON", self._who()
            ) from None

    def health(self, path: str) -> tuple[int, Any]:
        """Return the status and the JSON of a health path, whatever they are; None for what is no JSON.

        Raises:
            CommandError: the service does not answer.
        """
        response = self._once(_Request("GET", path, None, {}, CONNECT_TIMEOUT_S))
        try:
            return response.status, json.loads(response.read())
        except ValueError:
            return response.status, None
        except (OSError, http.client.HTTPException) as error:
            raise self._broken_off(error) from None

    def download(self, path: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> tuple[int | None, Iterator[bytes]]:
        """Return the length in bytes that the service announces, and the blocks of the body.

        Raises:
            CommandError: as `json` does; also while iterating, when the answer breaks off.
        """
        response = self._send(_Request("GET", path, None, {}, timeout_s), retry=True)
        return response.length, self._blocks(response)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _blocks(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        try:
            while block := response.read(BLOCK_BYTES):
                yield block
        except (OSError, http.client.HTTPException) as error:
            raise self._broken_off(error) from None
        if response.length:
            raise self._broken_off(None, response.length)

    def _send(self, request: _Request, *, retry: bool) -> http.client.HTTPResponse:
        waited = 0.0
        while True:
            response = self._once(request)
            if response.status < 400:
                return response
            delay = _retry_after(response)
            error = self._error(response, request.target)
            if not retry or delay is None or waited + delay > PATIENCE_S:
                raise error
            self.notice(f"the service is busy ({error.message}); trying again in {delay:.0f} s")
            self.sleep(delay)
            waited += delay

    def _once(self, request: _Request) -> http.client.HTTPResponse:
        reused = self._connection is not None
        try:
            return self._guarded(request)
        except (ConnectionResetError, BrokenPipeError) as error:
            if not reused:
                raise self._unreachable(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        # A connection kept open may have been closed by the service meanwhile. Everything this
        # command line sends may be sent twice: the same text, document or snapshot is stored once.
        try:
            return self._guarded(request)
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _guarded(self, request: _Request) -> http.client.HTTPResponse:
        try:
            return self._exchange(request)
        except BaseException:
            # Half a request has been sent: no other one can follow on this connection.
            self.close()
            raise

    def _exchange(self, request: _Request) -> http.client.HTTPResponse:
        connection = self._connection = self._connection or self._connect()
        if connection.sock is None:
            connection.connect()
        connection.sock.settimeout(request.timeout_s)
        headers = {"Authorization": f"Bearer {self.token}", "User-Agent": f"pinch/{__version__}"}
        headers |= request.headers
        blocks = None
        if request.body is not None:
            headers["Content-Length"] = str(request.body.length)
            blocks = request.body.blocks()
        try:
            connection.request(request.method, request.target, body=blocks, headers=headers)
        except (BrokenPipeError, ConnectionResetError):
            # A service that refuses a body answers before it has read it all, then closes: its answer
            # says why, and this side must not try to go on with the connection.
            try:
                response = connection.getresponse()
            except (OSError, http.client.HTTPException):
                raise BrokenPipeError("the service closed the connection while the body was sent") from None
            self._connection = None
            return response
        return connection.getresponse()

    def _connect(self) -> http.client.HTTPConnection:
        where = self.address
        if where.scheme == "http":
            return http.client.HTTPConnection(where.host, where.port, timeout=CONNECT_TIMEOUT_S, blocksize=BLOCK_BYTES)
        return http.client.HTTPSConnection(
            where.host, where.port, timeout=CONNECT_TIMEOUT_S, blocksize=BLOCK_BYTES, context=trust(where)
        )

    def _error(self, response: http.client.HTTPResponse, path: str) -> CommandError:
        exit_status = FROM_HTTP.get(response.status, Exit.ERROR)
        try:
            content = response.read(_LARGEST_ERROR_BYTES)
            if response.read(1):
                self.close()
            error = json.loads(content)["error"]
            message, hint, kind, param = (error.get(key) for key in ("message", "hint", "type", "param"))
        except (ValueError, LookupError, TypeError, AttributeError, OSError, http.client.HTTPException):
            self.close()
            message, hint, kind, param = None, None, None, None
        if not isinstance(message, str):
            message = f"{self.address.url} answered {path} with {response.status} {response.reason}"
            hint = self._who() if exit_status is Exit.ERROR else None
        return CommandError(
            message,
            str(hint or ""),
            exit_status=exit_status,
            kind=str(kind or ""),
            param=param,
            status=response.status,
        )

    def _unreachable(self, error: Exception) -> CommandError:
        if isinstance(error, TimeoutError):
            reason = "no answer in time"
        elif isinstance(error, ssl.SSLCertVerificationError):
            reason = f"its certificate is not trusted: {error.verify_message}"
        elif isinstance(error, ConnectionResetError | BrokenPipeError):
            reason = "it closed the connection without an answer"
        elif isinstance(error, http.client.HTTPException):
            reason = "what answers there does not speak HTTP"
        else:
            reason = str(getattr(error, "strerror", None) or error).lower()
        return unreachable(self.address, reason)

    def _broken_off(self, error: Exception | None, missing: int | None = None) -> CommandError:
        self.close()
        reason = f"{missing} bytes are missing" if missing else str(error)
        return CommandError(
            f"the answer of {self.address.url} broke off ({reason})",
            "run the command again",
            exit_status=Exit.UNREACHABLE,
        )

    def _who(self) -> str:
        return "check that PINCH_URL or the setting listen names the Pinch service, and look at its log"


def _retry_after(response: http.client.HTTPResponse) -> float | None:
    """Seconds that a busy service asks to wait; None where it promises nothing from waiting."""
    given = response.headers.get("Retry-After")
    if given is None or response.status not in {429, 503}:
        return None
    try:
        return max(_SHORTEST_RETRY_S, float(given))
    except ValueError:
        # A date: rare enough from a service to be met with a round number.
        return _DATED_RETRY_S
