"""One client's connection: what goes wrong below the routes is told in the contract's shape too."""

from __future__ import annotations

from aiohttp import web

from pinch.gateway.faults import refuse


class Connection(web.RequestHandler):
    """aiohttp's protocol, with its own pages for bad HTTP, refused expectations and faults replaced."""

    __slots__ = ()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """Return the answer to bytes that are no HTTP, or to a fault of ours; the connection closes after it."""
        if status >= 500:
            super().handle_error(request, status, exc, message)
        elif request.writer.output_size > 0:
            raise ConnectionError("the answer has begun; only closing is left")
        # What follows a colon quotes the request, which may hold a token; it is not logged either.
        reason = (message or "").strip().partition("\n")[0].partition(":")[0]
        response = refuse(status, f"the request is not HTTP/1.1: {reason}", request.path)
        response.force_close()
        return response

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Send a response; one that aiohttp raised by itself is worded anew."""
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            resp = refuse(resp.status, f"{request.method} {request.path[:80]}: {resp.reason}", request.path)
        return await super().finish_response(request, resp, start_time)
