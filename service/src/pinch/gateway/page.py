"""The web page: a fixed table of files, told to the browser with the strictest policy they work under."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

from aiohttp import ETag, web

from pinch.errors import NotFound
from pinch.gateway.query import Query

FOLDER = Path(__file__).parent.parent / "web"
PAGE = "index.html"
ASSET_PATH = "/web/{name}"
ASSETS = {
    "app.css": "text/css",
    "app.js": "text/javascript",
    "chat.js": "text/javascript",
    "dom.js": "text/javascript",
    "gateway.js": "text/javascript",
    "icon.svg": "image/svg+xml",
    "memory.js": "text/javascript",
    "sessions.js": "text/javascript",
    "text.js": "text/javascript",
}
"""What the page is made of, beside itself: no path out of a request ever becomes one of ours."""
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'none'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


async def page(request: web.Request) -> web.Response:
    """Return the page."""
    return await _file(request, PAGE, "text/html")


async def asset(request: web.Request) -> web.Response:
    """Return one of the files that the page is made of.

    Raises:
        NotFound: there is none of that name.
    """
    name = request.match_info["name"]
    if name not in ASSETS:
        raise NotFound(f"there is no {request.path[:80]}", hint="GET / is the page")
    return await _file(request, name, ASSETS[name])


async def _file(request: web.Request, name: str, kind: str) -> web.Response:
    """Return one file, or 304 to who has it already.

    Raises:
        Invalid: the URL has a query, where a token could have ended up.
    """
    Query.of(request)
    # Read and hashed each time: that is quicker than the answer, and nothing of the page stays in memory.
    content = await asyncio.get_running_loop().run_in_executor(None, (FOLDER / name).read_bytes)
    tag = ETag(hashlib.sha256(content).hexdigest()[:16])
    known = request.if_none_match or ()
    if any(one.value in {tag.value, "*"} for one in known):
        response = web.Response(status=304, headers=HEADERS)
    else:
        response = web.Response(body=content, content_type=kind, charset="utf-8", headers=HEADERS)
    response.etag = tag
    return response
