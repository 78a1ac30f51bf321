"""Methods that talk to the agent: `chat.send`, `chat.abort`, `agent`."""

from __future__ import annotations

from typing import Any

from pinch.agents.agent import Accepted
from pinch.agents.events import Finished
from pinch.agents.session import check_key
from pinch.clock import now_ms
from pinch.errors import Invalid
from pinch.gateway.bodies import check_name, check_text
from pinch.gateway.websocket.call import Call
from pinch.gateway.websocket.params import AgentTurn, ChatAbort, ChatSend

INSTRUCTIONS_LIMIT = 16 * 1024


async def send(call: Call[ChatSend]) -> Any:
    """Accept a message; its answer comes as events."""
    accepted = await _accept(call, call.params.sessionKey)
    return {"runId": accepted.run, "status": accepted.status}


async def agent(call: Call[AgentTurn]) -> Any:
    """Accept a message, say so, and return the answer when it is there."""
    key = check_key(call.params.sessionKey)
    with call.context.followers.follow(key, call.params.idempotencyKey) as follower:
        accepted = await _accept(call, key, call.params.extraSystemPrompt)
        if accepted.status == "ok":
            return {"runId": accepted.run, "status": "ok", "summary": "completed"}
        respond = call.respond
        del call  # who waits keeps nothing of what was asked: it is booked no longer
        await respond({"runId": accepted.run, "status": "accepted", "acceptedAt": now_ms()})
        while not isinstance(event := await follower.next(), Finished):
            pass
    if event.error is not None:
        raise event.error
    return {
        "runId": accepted.run,
        "status": "ok" if event.state == "final" else event.state,
        "summary": "completed" if event.state == "final" else event.state,
        "result": {"payloads": [{"text": event.text}], "meta": {"stopReason": event.stop, "usage": event.usage}},
    }


async def abort(call: Call[ChatAbort]) -> Any:
    """Stop one run of a session, or all."""
    key = check_key(call.params.sessionKey)
    stopped = await call.context.agent.abort(key, call.params.runId)
    return {"ok": True, "aborted": bool(stopped), "runIds": stopped}


async def _accept(call: Call[Any], key: str, instructions: str = "") -> Accepted:
    params = call.params
    if params.attachments:
        raise Invalid("attachments are not read here", param="attachments", hint="put their text into the message")
    check_text(params.message, "message")
    run = check_name(params.idempotencyKey, "idempotencyKey")
    if instructions:
        check_text(instructions, "extraSystemPrompt", INSTRUCTIONS_LIMIT)
    name = (key, run)
    call.client.runs.add(name)
    try:
        accepted = await call.context.agent.submit(key, params.message, run, instructions=instructions)
    except BaseException:
        call.client.runs.discard(name)
        raise
    if accepted.status == "ok":
        call.client.runs.discard(name)
    return accepted
