"""Methods that list, show, reset and delete sessions."""

from __future__ import annotations

from typing import Any

from pinch.agents.journal import Entry
from pinch.agents.session import Session, Summary
from pinch.clock import now_ms
from pinch.errors import Invalid, NotFound
from pinch.gateway.websocket.call import Call
from pinch.gateway.websocket.events import message
from pinch.gateway.websocket.params import ChatHistory, SessionKey, SessionsList, SessionsPreview

LIST_LIMIT = 500
PREVIEWS_LIMIT = 20
ITEMS_LIMIT = 50
CHARACTERS_LIMIT = 2000
HISTORY_LIMIT = 1000
HISTORY_CHARACTERS = 60_000
"""Characters of a history's texts, newest first: it has to fit what a client may leave untaken."""
MINUTE_MS = 60_000


async def listing(call: Call[SessionsList]) -> Any:
    """List sessions, newest first."""
    wanted = call.params
    if not 1 <= wanted.limit <= LIST_LIMIT:
        raise Invalid(f"limit is {wanted.limit}; expected 1 to {LIST_LIMIT}", param="limit")
    now = now_ms()
    found = call.context.sessions.listing(wanted.search)
    if wanted.activeMinutes is not None:
        found = [one for one in found if now - one.updated_at <= wanted.activeMinutes * MINUTE_MS]
    model = call.context.settings.provider.model or None
    return {
        "ts": now,
        "path": str(call.context.sessions.folder),
        "count": len(found),
        "totalCount": len(call.context.sessions),
        "defaults": {
            "modelProvider": None,
            "model": model,
            "contextTokens": call.context.settings.agents.context_tokens,
        },
        "sessions": [_row(call, one) for one in found[: wanted.limit]],
    }


def _row(call: Call[SessionsList], one: Summary) -> dict[str, Any]:
    return {
        "key": one.key,
        "kind": "direct",
        "sessionId": one.id,
        "updatedAt": one.updated_at,
        "title": one.title,
        "displayName": one.title or one.key,
        "messages": one.messages,
        "bytes": one.file_bytes,
        "running": call.context.agent.is_running(one.key),
        "damage": one.damage or None,
    }


async def preview(call: Call[SessionsPreview]) -> Any:
    """Return the last items of some sessions."""
    wanted = call.params
    if not 1 <= len(wanted.keys) <= PREVIEWS_LIMIT:
        raise Invalid(f"keys has {len(wanted.keys)} entries; expected 1 to {PREVIEWS_LIMIT}", param="keys")
    if not (1 <= wanted.limit <= ITEMS_LIMIT and 20 <= wanted.maxChars <= CHARACTERS_LIMIT):
        raise Invalid(f"limit or maxChars is out of range; expected 1 to {ITEMS_LIMIT}, 20 to {CHARACTERS_LIMIT}")
    previews, left = [], HISTORY_CHARACTERS
    for key in wanted.keys:
        items: list[dict[str, str]] = []
        try:
            async with call.context.sessions.hold(key) as session:
                said = [
                    entry for entry in session.entries if entry.kind in {"user", "assistant", "tool"} and entry.text
                ]
                for one in reversed(said[-wanted.limit :]):
                    text = one.text[: min(wanted.maxChars, left)]
                    left -= len(text)
                    if text:
                        items.insert(0, {"role": one.kind, "text": text})
            status = "ok" if items else "empty"
        except NotFound:
            status = "missing"
        previews.append({"key": key, "status": status, "items": items})
    return {"ts": now_ms(), "previews": previews}


async def reset(call: Call[SessionKey]) -> Any:
    """Begin a session anew."""
    key = call.params.key
    await call.context.agent.quiet(key)
    summary = await call.context.sessions.reset(key)
    return {"ok": True, "key": key, "entry": {"sessionId": summary.id, "updatedAt": summary.updated_at}}


async def delete(call: Call[SessionKey]) -> Any:
    """Remove a session."""
    key = call.params.key
    await call.context.agent.quiet(key)
    await call.context.sessions.delete(key)
    return {"ok": True, "key": key, "deleted": True}


async def history(call: Call[ChatHistory]) -> Any:
    """Return the last messages of a session; one that is not there yet has none."""
    wanted = call.params
    if not 1 <= wanted.limit <= HISTORY_LIMIT:
        raise Invalid(f"limit is {wanted.limit}; expected 1 to {HISTORY_LIMIT}", param="limit")
    if wanted.maxChars is not None and wanted.maxChars < 1:
        raise Invalid(f"maxChars is {wanted.maxChars}; expected 1 or more", param="maxChars")
    key = wanted.sessionKey
    try:
        async with call.context.sessions.hold(key) as session:
            left = min(wanted.maxChars or HISTORY_CHARACTERS, HISTORY_CHARACTERS)
            messages = _messages(session, wanted.limit, left)
            return {
                "sessionKey": key,
                "sessionId": session.head.id,
                "messages": messages,
                "running": call.context.agent.is_running(key),
                "damage": session.damage or None,
            }
    except NotFound:
        return {"sessionKey": key, "sessionId": None, "messages": [], "running": False, "damage": None}


def _messages(session: Session, limit: int, left: int) -> list[dict[str, Any]]:
    """Return the newest messages, oldest first, of at most `left` characters; the last is cut rather than left out."""
    ends = {entry.run: entry for entry in session.entries if entry.kind == "end"}
    messages: list[dict[str, Any]] = []
    for entry in reversed(session.entries):
        if len(messages) >= limit or (left <= 0 and messages):
            break
        shown = _message(entry, ends, left)
        if shown is not None:
            left -= len(entry.text)
            messages.append(shown)
    messages.reverse()
    return messages


def _message(entry: Entry, ends: dict[str, Entry], left: int) -> dict[str, Any] | None:
    if entry.kind == "end" and entry.more["state"] != "final":
        told = {"role": "system", "content": [], "timestamp": entry.at, "runId": entry.run}
        if entry.more["state"] == "error":
            return {**told, "stopReason": "error", "errorMessage": entry.more.get("error", "")}
        return {**told, "stopReason": entry.more["state"]}
    if entry.kind not in {"user", "assistant", "tool"}:
        return None
    shown = message(entry.kind, entry.text[: max(1, left)], entry.at)
    shown["runId"] = entry.run
    if entry.kind == "tool":
        shown["name"], shown["toolCallId"] = entry.more["name"], entry.more["call"]
    end = ends.get(entry.run)
    if entry.kind == "assistant":
        shown["stopReason"] = "tool_calls" if entry.more.get("calls") else end.more.get("stop", "") if end else ""
    return shown
