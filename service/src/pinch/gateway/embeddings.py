"""`/v1/embeddings` in OpenAI's shape."""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from aiohttp import web
from attrs import frozen

from pinch.errors import Conflict, Invalid, NotFound
from pinch.gateway.answers import dropped_when_stalled
from pinch.gateway.bodies import BATCH_LIMIT, check_text
from pinch.gateway.context import Context, context_of
from pinch.gateway.query import Query
from pinch.gateway.reading import STALL_S, read_json
from pinch.gateway.structuring import structure

if TYPE_CHECKING:
    from pinch.memory.model import Floats

ENCODINGS = ("float", "base64")
VECTOR_OVERHEAD = 128
"""Bytes that a numpy array takes beside its numbers."""


@frozen
class EmbeddingsBody:
    """Body of the request, its `input` made a list."""

    input: list[str]
    model: str
    encoding_format: str = "float"
    dimensions: int | None = None
    user: str | None = None


async def create(request: web.Request) -> web.StreamResponse:
    """Embed up to 256 texts; they and their vectors are booked while they wait for the model."""
    context = context_of(request)
    Query.of(request)
    raw = await read_json(request, context.max_body, context.in_flight)
    if isinstance(raw, dict) and isinstance(raw.get("input"), str):
        raw = {**raw, "input": [raw["input"]]}
    body = _checked(structure(raw, EmbeddingsBody), context)
    del raw
    manifest = context.embedder.manifest
    each = VECTOR_OVERHEAD + (4 * manifest.dimensions if manifest is not None else 0)
    with context.in_flight.holding(sum(map(sys.getsizeof, body.input)) + each * len(body.input)):
        tokens = 0
        vectors = []
        for text in body.input:
            if request.transport is None:
                raise ConnectionResetError("the client has gone")
            vector, count = await context.embedder.floats(text)
            vectors.append(vector)
            tokens += count
        with dropped_when_stalled(request):
            return await _send(request, body, vectors, tokens)


async def _send(
    request: web.Request, body: EmbeddingsBody, vectors: Sequence[Floats], tokens: int
) -> web.StreamResponse:
    """Answer vector by vector: as JSON a vector is several times as large."""
    answer = web.StreamResponse(headers={"Content-Type": "application/json"})
    await answer.prepare(request)
    opening = '{"object":"list","data":['
    for index, vector in enumerate(vectors):
        if body.encoding_format == "base64":
            encoded: Any = base64.b64encode(vector.astype("<f4").tobytes()).decode("ascii")
        else:
            encoded = vector.tolist()
        one = json.dumps({"object": "embedding", "index": index, "embedding": encoded}, separators=(",", ":"))
        async with asyncio.timeout(STALL_S):
            await answer.write(f"{opening}{one}".encode())
        opening = ","
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    async with asyncio.timeout(STALL_S):
        await answer.write(f'],"model":{json.dumps(body.model)},"usage":{json.dumps(usage)}}}'.encode())
        await answer.write_eof()
    return answer


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
