"""`/v1/embeddings` in OpenAI's shape."""

from __future__ import annotations

import base64
from typing import Any

from aiohttp import web
from attrs import frozen

from pinch.errors import Conflict, Invalid, NotFound
from pinch.gateway.answers import respond
from pinch.gateway.bodies import BATCH_LIMIT, check_text
from pinch.gateway.context import Context, context_of
from pinch.gateway.query import Query
from pinch.gateway.reading import read_json
from pinch.gateway.structuring import structure

ENCODINGS = ("float", "base64")


@frozen
class EmbeddingsBody:
    """Body of the request, its `input` made a list."""

    input: list[str]
    model: str
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str | None = None


async def create(request: web.Request) -> web.Response:
    """Embed up to 256 texts."""
    context = context_of(request)
    Query.of(request)
    raw = await read_json(request, context.max_body, context.in_flight)
    if isinstance(raw, dict) and isinstance(raw.get("input"), str):
        raw = {**raw, "input": [raw["input"]]}
    body = _checked(structure(raw, EmbeddingsBody), context)
    data: list[dict[str, Any]] = []
    tokens = 0
    for index, text in enumerate(body.input):
        vector, count = await context.embedder.floats(text)
        tokens += count
        if body.encoding_format == "base64":
            encoded: Any = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
        else:
            encoded = vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return respond({"object": "list", "data": data, "model": body.model, "usage": usage})


def _checked(body: EmbeddingsBody, context: Context) -> EmbeddingsBody:
    if not context.tier.semantic:
        raise Conflict(
            f"tier {context.tier.name} has no embedding model", param="model", hint="use a board of 1 GB or more"
        )
    manifest = context.embedder.manifest
    if manifest is not None and body.model != manifest.name:
        raise NotFound(f"there is no model {body.model[:60]!r}; this service has {manifest.name}", param="model")
    if not 0 < len(body.input) <= BATCH_LIMIT:
        raise Invalid(f"input has {len(body.input)} texts; expected 1 to {BATCH_LIMIT}", param="input")
    for text in body.input:
        check_text(text, "input")
    if body.encoding_format not in ENCODINGS:
        raise Invalid(
            f"encoding_format is {body.encoding_format[:20]!r}; expected float or base64", param="encoding_format"
        )
    if manifest is not None and body.dimensions not in {None, manifest.dimensions}:
        raise Invalid(
            f"dimensions is {body.dimensions}; {manifest.name} makes {manifest.dimensions}", param="dimensions"
        )
    return body
