"""Reading a request as a provider does: who said what, and whether it is a conversation at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

ROLES = frozenset({"system", "developer", "user", "assistant", "tool"})


def asked_in(body: Mapping[str, Any]) -> str:
    """Return the text of the user's last message."""
    for message in reversed(body["messages"]):
        if message["role"] == "user":
            content = message["content"]
            return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return ""


def turn_of(body: Mapping[str, Any]) -> int:
    """Return how often the model has spoken since the user's last message: each time it called tools."""
    turn = 0
    for message in body["messages"]:
        turn = 0 if message["role"] == "user" else turn + (message["role"] == "assistant")
    return turn


def objection(body: Any) -> str:
    """Return what OpenAI would refuse this request for, or nothing: above all calls and results that do not pair."""
    if not isinstance(body, dict) or not isinstance(body.get("model"), str) or not body.get("messages"):
        return "model and messages are wanted"
    unanswered: set[str] = set()
    for place, message in enumerate(body["messages"]):
        if fault := _shape(message):
            return f"messages[{place}]{fault}"
        if message["role"] == "tool":
            if message.get("tool_call_id") not in unanswered:
                return f"messages[{place}] is the result of no call right before it"
            unanswered.discard(message["tool_call_id"])
        elif unanswered:
            return f"messages[{place}] stands where the results of {sorted(unanswered)} are wanted"
        unanswered |= {call["id"] for call in message.get("tool_calls", ())}
    return f"the results of {sorted(unanswered)} are missing" if unanswered else ""


def _shape(message: Any) -> str:
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        return " has no role that there is"
    if message.get("content") is None and not (message["role"] == "assistant" and message.get("tool_calls")):
        return ".content is missing"
    return ".tool_calls is empty" if "tool_calls" in message and not message["tool_calls"] else ""
