"""A scripted LLM provider: OpenAI's chat completions over a real socket; only what it says is made up.

The answer follows from the last message of the user, so tests share no state:

- by default that message comes back, word by word: `You said: …`;
- a test registers other replies with `Provider.script`, or queues one for whoever asks next with `Provider.queue`;
- a message that holds `provider:<name>` gets the reply of that name out of `BEHAVIOURS`.

A reply is a list of parts. What stands behind a `ToolCall` is said when the results of the call have come.

    python -m tests.provider --port 8400
"""

from tests.provider.endpoint import MODEL, Provider, Request
from tests.provider.replies import (
    BEHAVIOURS,
    Body,
    Cut,
    Endless,
    Finish,
    Flood,
    Hold,
    Line,
    Part,
    Redirect,
    Reply,
    Sliver,
    Status,
    Text,
    ToolCall,
)

__all__ = [
    "BEHAVIOURS",
    "MODEL",
    "Body",
    "Cut",
    "Endless",
    "Finish",
    "Flood",
    "Hold",
    "Line",
    "Part",
    "Provider",
    "Redirect",
    "Reply",
    "Request",
    "Sliver",
    "Status",
    "Text",
    "ToolCall",
]
