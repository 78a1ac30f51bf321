"""`/v1/chat/completions` and `/v1/models` in OpenAI's shape."""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import sys
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from aiohttp import web

from pinch.agents.events import Delta, Finished
from pinch.agents.followers import Follower
from pinch.agents.session import KEY
from pinch.errors import Invalid, NotFound, PinchError
from pinch.gateway.answers import dropped_when_stalled, respond
from pinch.gateway.bodies import TEXT_LIMIT, check_name, check_text
from pinch.gateway.context import Context, context_of
from pinch.gateway.faults import found_answer
from pinch.gateway.query import Query
from pinch.gateway.reading import STALL_S, read_json
from pinch.gateway.structuring import structure

MODEL = "pinch"
"""The model that clients name: the agent, whoever answers behind it."""
MESSAGES_LIMIT = 256
ROLES = ("system", "developer", "user", "assistant")
LOOK_S = 1.0
"""Seconds after which it is looked whether who waits is still there."""
FORWARDED = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "presence_penalty", "frequency_penalty", "seed",
    "stop",
)  # fmt: skip
"""Parameters that go to the provider as they are."""
IGNORED = ("metadata", "store", "prompt_cache_key", "safety_identifier", "parallel_tool_calls")
IGNORED_OF_MESSAGES = ("refusal", "annotations", "audio")
"""Fields that clients send and nobody reads: what they hold is not kept while the answer is made."""


class Part(NamedTuple):
    """A part of a message's content."""

    type: str
    text: str = ""


class ChatMessage(NamedTuple):
    """A message; its content is made a list of parts."""

    role: str
    content: list[Part]
    name: str | None = None
    refusal: Any = None
    annotations: Any = None
    audio: Any = None


class StreamOptions(NamedTuple):
    """What a stream has beside its pieces."""

    include_usage: bool = False


class ChatBody(NamedTuple):
    """Body of `POST /v1/chat/completions`."""

    model: str
    messages: list[ChatMessage]
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    seed: int | None = None
    stop: list[str] | None = None
    metadata: Any = None
    store: Any = None


async def models(request: web.Request) -> web.Response:
    """List what may be named as a model."""
    Query.of(request)
    return respond({"object": "list", "data": [_model(name) for name in _names(context_of(request))]})


async def model(request: web.Request) -> web.Response:
    """Return one model."""
    Query.of(request)
    name = request.match_info["model"]
    if name not in _names(context_of(request)):
        raise _no_model(name, context_of(request))
    return respond(_model(name))


async def create(request: web.Request) -> web.StreamResponse:
    """Answer a conversation, whole or as it comes."""
    context = context_of(request)
    Query.of(request)
    body = structure(_listed(await read_json(request, context.max_body, context.in_flight)), ChatBody)
    _check(body, context)
    context.agent.provider.require()
    lane, run = _place(body)
    texts = [*(part.text for one in body.messages for part in one.content), *(body.stop or ())]
    size = sum(map(sys.getsizeof, texts))
    with context.in_flight.holding(size), context.followers.follow(lane, run) as follower:
        ended = False
        try:
            await _begin(body, context, lane, run)
            if body.stream:
                with dropped_when_stalled(request):
                    response = await _stream(request, body, follower, run)
            else:
                response = await _whole(request, body, follower, run)
            ended = True
            return response
        finally:
            if not ended:  # whoever asked has gone: nobody is left to answer
                await context.agent.abort(lane, run)


async def _begin(body: ChatBody, context: Context, lane: str, run: str) -> None:
    options = {name: value for name in FORWARDED if (value := getattr(body, name)) is not None}
    told = [(one.role, _text(one)) for one in body.messages]
    if body.user is None:
        messages = [{"role": "system" if role == "developer" else role, "content": text} for role, text in told]
        context.agent.ask(messages, options, run)
        return
    # The session has what was said before. Of what the client sends, what follows the last answer is new.
    last = max((place for place, (role, _) in enumerate(told) if role == "assistant"), default=-1)
    # Where nothing does, the last question is asked again.
    asked = [text for role, text in told if role == "user"] or [told[-1][1]]
    said = "\n\n".join(text for role, text in told[last + 1 :] if role == "user") or asked[-1]
    system = "\n\n".join(text for role, text in told if role in {"system", "developer"})
    check_text(said, "messages")
    await context.agent.submit(lane, said, run, instructions=system, options=options, attended=True)


async def _whole(request: web.Request, body: ChatBody, follower: Follower, run: str) -> web.Response:
    event = await _next(request, follower)
    while not isinstance(event, Finished):
        event = await _next(request, follower)
    if event.error is not None:
        raise event.error
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": event.text, "refusal": None},
        "finish_reason": _reason(event),
        "logprobs": None,
    }
    return respond({**_head(run, body.model, "chat.completion"), "choices": [choice], "usage": _usage(event.usage)})


async def _stream(request: web.Request, body: ChatBody, follower: Follower, run: str) -> web.StreamResponse:
    event = await _next(request, follower)
    if isinstance(event, Finished) and event.error is not None:
        raise event.error  # nothing has been sent: it can still be an error with its status
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await answer.prepare(request)
    head = _head(run, body.model, "chat.completion.chunk")
    wants_usage = body.stream_options is not None and body.stream_options.include_usage

    async def send(value: Mapping[str, Any] | str) -> None:
        data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        async with asyncio.timeout(STALL_S):
            await answer.write(b"data: %s\n\n" % data.encode("utf-8", "replace"))

    def chunk(delta: Mapping[str, str], reason: str | None = None) -> Mapping[str, Any]:
        usage = {"usage": None} if wants_usage else {}
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}], **usage}

    await send(chunk({"role": "assistant", "content": ""}))
    while isinstance(event, Delta):
        await send(chunk({"content": event.text}))
        event = await _next(request, follower)
    if event.error is not None:
        await send({"error": _told(event.error)})
    else:
        await send(chunk({}, _reason(event)))
        if wants_usage:
            await send({**head, "choices": [], "usage": _usage(event.usage)})
        await send("[DONE]")
    async with asyncio.timeout(STALL_S):
        await answer.write_eof()
    return answer


async def _next(request: web.Request, follower: Follower) -> Delta | Finished:
    """Wait for what is said next, as long as there is someone to hear it."""
    event = None
    while event is None:
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_S):
                event = await follower.next()
        if request.transport is None:
            raise ConnectionResetError("the client has gone")
    return event


def _check(body: ChatBody, context: Context) -> None:
    if body.model not in {MODEL, context.settings.provider.model}:
        raise _no_model(body.model, context)
    if body.n not in {None, 1}:
        raise Invalid(f"n is {body.n}; one answer is given at a time", param="n")
    if not 0 < len(body.messages) <= MESSAGES_LIMIT:
        raise Invalid(f"messages has {len(body.messages)} entries; expected 1 to {MESSAGES_LIMIT}", param="messages")
    for place, one in enumerate(body.messages):
        if not one.content:
            raise Invalid(f"messages[{place}].content is empty", param=f"messages[{place}].content")
        for part in one.content:
            check_text(part.text, f"messages[{place}].content", TEXT_LIMIT)
    for name in FORWARDED:
        if isinstance(value := getattr(body, name), float) and not math.isfinite(value):
            raise Invalid(f"{name} is {value}; expected a number that there is", param=name)
    if body.user is not None:
        check_name(body.user, "user")


def _listed(raw: Any) -> Any:
    """Return the body with what may be one or a list made a list."""
    if not isinstance(raw, dict):
        return raw
    listed = {name: value for name, value in raw.items() if name not in IGNORED}
    if isinstance(raw.get("messages"), list):
        listed["messages"] = [
            _message(one, f"messages[{place}]") if isinstance(one, dict) else one
            for place, one in enumerate(raw["messages"])
        ]
    if isinstance(raw.get("stop"), str):
        listed["stop"] = [raw["stop"]]
    return listed


def _message(raw: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """Return a message with its content as parts; what other fields it has follows from a role or part of no use here.

    Raises:
        Invalid: it has such a role or part.
    """
    raw = {name: value for name, value in raw.items() if name not in IGNORED_OF_MESSAGES}
    role, content = raw.get("role"), raw.get("content")
    if isinstance(role, str) and role not in ROLES:
        raise Invalid(
            f"{where}.role is {role[:20]!r}; expected one of {', '.join(ROLES)}",
            param=f"{where}.role",
            hint="the agent brings its own tools",
        )
    if isinstance(content, str):
        return {**raw, "content": [{"type": "text", "text": content}]}
    if isinstance(content, list) and any(isinstance(part, dict) and part.get("type") != "text" for part in content):
        raise Invalid(f"{where} has a part that is no text", param=f"{where}.content")
    return raw


def _place(body: ChatBody) -> tuple[str, str]:
    """Return the lane and the run: `user` names a session, the same one each time."""
    run = f"chatcmpl-{uuid.uuid4().hex}"
    if body.user is None:
        return run, run
    key = f"openai:{body.user}"
    return key if KEY.fullmatch(key) else f"openai:{hashlib.sha256(body.user.encode()).hexdigest()[:32]}", run


def _text(message: ChatMessage) -> str:
    return "\n".join(part.text for part in message.content)


def _head(run: str, name: str, kind: str) -> dict[str, Any]:
    return {"id": run, "object": kind, "created": int(time.time()), "model": name}


def _reason(event: Finished) -> str:
    return event.stop if event.stop in {"stop", "length", "content_filter"} else "stop"


def _usage(usage: Mapping[str, int]) -> Mapping[str, int]:
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _told(error: PinchError) -> Mapping[str, Any]:
    kind = found_answer(error)
    return {"message": error.message, "type": "server_error", "param": error.param, "code": kind.type}


def _names(context: Context) -> list[str]:
    names = [MODEL]
    manifest = context.embedder.manifest
    if context.tier.semantic and manifest is not None:
        names.append(manifest.name)
    return names


def _no_model(name: str, context: Context) -> NotFound:
    return NotFound(f"there is no model {name[:60]!r}; there are {', '.join(_names(context))}", param="model")


def _model(name: str) -> Mapping[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "pinch"}
