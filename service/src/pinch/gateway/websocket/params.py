"""Parameters of the methods. Where OpenClaw's clients send more than is used here, it is named and ignored."""

from __future__ import annotations

from typing import Any

from attrs import field, frozen


@frozen
class Nothing:
    """No parameters but those that say how much to tell."""

    probe: Any = None
    includeSensitive: Any = None
    includeChannelSummary: Any = None


@frozen
class LogsTail:
    """`logs.tail`."""

    cursor: int | None = None
    limit: int = 500
    maxBytes: int = 65536


@frozen
class SessionsList:
    """`sessions.list`."""

    limit: int = 100
    search: str = ""
    activeMinutes: int | None = None
    includeGlobal: Any = None
    includeUnknown: Any = None
    includeDerivedTitles: Any = None
    includeLastMessage: Any = None
    label: Any = None
    spawnedBy: Any = None
    agentId: Any = None


@frozen
class SessionsPreview:
    """`sessions.preview`."""

    keys: list[str]
    limit: int = 12
    maxChars: int = 240


@frozen
class SessionKey:
    """`sessions.reset` and `sessions.delete`."""

    key: str
    reason: Any = None
    deleteTranscript: Any = None
    emitLifecycleHooks: Any = None


@frozen
class ChatSend:
    """`chat.send`."""

    sessionKey: str
    message: str
    idempotencyKey: str
    attachments: list[Any] = field(factory=list)
    sessionId: Any = None
    thinking: Any = None
    fastMode: Any = None
    deliver: Any = None
    timeoutMs: Any = None


@frozen
class ChatHistory:
    """`chat.history`."""

    sessionKey: str
    limit: int = 200
    maxChars: int | None = None


@frozen
class ChatAbort:
    """`chat.abort`."""

    sessionKey: str
    runId: str | None = None


@frozen
class AgentTurn:
    """`agent`."""

    message: str
    idempotencyKey: str
    sessionKey: str = "main"
    extraSystemPrompt: str = ""
    attachments: list[Any] = field(factory=list)
    agentId: Any = None
    sessionId: Any = None
    to: Any = None
    thinking: Any = None
    deliver: Any = None
    channel: Any = None
    accountId: Any = None
    timeout: Any = None
    lane: Any = None
    label: Any = None


@frozen
class MemoryId:
    """`memory.get` and `memory.forget`."""

    id: str
