"""Parameters of the methods. Where OpenClaw's clients send more than is used here, it is named and ignored.

They are named tuples, which take less memory than a dozen attrs classes. And their types are types, not texts that a
named tuple compiles one by one at each start.
"""

from typing import Any, NamedTuple


class Nothing(NamedTuple):
    """No parameters but those that say how much to tell."""

    probe: Any = None
    includeSensitive: Any = None
    includeChannelSummary: Any = None


class LogsTail(NamedTuple):
    """`logs.tail`."""

    cursor: int | None = None
    limit: int = 500
    maxBytes: int = 65536


class SessionsList(NamedTuple):
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


class SessionsPreview(NamedTuple):
    """`sessions.preview`."""

    keys: list[str]
    limit: int = 12
    maxChars: int = 240


class SessionKey(NamedTuple):
    """`sessions.reset` and `sessions.delete`."""

    key: str
    reason: Any = None
    deleteTranscript: Any = None
    emitLifecycleHooks: Any = None


class ChatSend(NamedTuple):
    """`chat.send`."""

    sessionKey: str
    message: str
    idempotencyKey: str
    attachments: list[Any] | None = None
    sessionId: Any = None
    thinking: Any = None
    fastMode: Any = None
    deliver: Any = None
    timeoutMs: Any = None


class ChatHistory(NamedTuple):
    """`chat.history`."""

    sessionKey: str
    limit: int = 200
    maxChars: int | None = None


class ChatAbort(NamedTuple):
    """`chat.abort`."""

    sessionKey: str
    runId: str | None = None


class AgentTurn(NamedTuple):
    """`agent`."""

    message: str
    idempotencyKey: str
    sessionKey: str = "main"
    extraSystemPrompt: str = ""
    attachments: list[Any] | None = None
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


class MemoryId(NamedTuple):
    """`memory.get` and `memory.forget`."""

    id: str
