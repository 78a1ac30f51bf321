"""The making of one answer: what is recalled, what the model is shown, what it says, and the tools it calls."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from functools import partial
from typing import Any

from pinch.agents import conversation, journal
from pinch.agents.bus import Bus
from pinch.agents.completion import Call, Ended, Said
from pinch.agents.errors import ProviderError
from pinch.agents.events import Delta, Prompt, ToolUse
from pinch.agents.journal import Entry
from pinch.agents.provider import Provider
from pinch.agents.sessions import Sessions
from pinch.agents.tools import DECLARATIONS, Tools, clipped
from pinch.clock import now_ms
from pinch.errors import Conflict, NotFound, PinchError
from pinch.memory.search import Hit, Recall, RecallRequest
from pinch.settings import AgentSettings

log = logging.getLogger(__name__)

RECALL_HITS = 6
QUERY_CHARACTERS = 2000
"""Of a message that is what is looked up in the memory."""
RESULT_BYTES = 500
"""Bytes that a tool's result may have, however many there are."""


class Run:
    """An answer in the making."""

    def __init__(self, prompt: Prompt) -> None:
        self.prompt = prompt
        self.task: asyncio.Task[None] | None = None
        self.aborted = False
        self.ending = False
        """Whether its end is being written: there is nothing left to abort."""
        self.told = False
        """Whether its end has been told: who comes now would wait for it in vain."""
        self.text: list[str] = []
        self.size = 0
        self.results_bytes = 0
        """Bytes of what tools have given."""
        self.stored_bytes = 0
        """Bytes of its rounds with tools, as they are in the file."""

    def begin(self) -> None:
        """Begin another round of the answer."""
        self.text.clear()
        self.size = 0

    def say(self, text: str) -> None:
        """Add to what has been said."""
        self.text.append(text)
        self.size += sys.getsizeof(text)


class Answering:
    """Makes answers; the ends of runs are the agent's."""

    def __init__(
        self, *, settings: AgentSettings, sessions: Sessions, provider: Provider, recall: Recall, tools: Tools, bus: Bus
    ) -> None:
        self.settings = settings
        self.sessions = sessions
        self.provider = provider
        self.recall = recall
        self.tools = tools
        self.bus = bus

    async def answer(self, run: Run) -> Ended:
        """Let the model speak and call tools until it has answered."""
        prompt = run.prompt
        hits = await self._recalled(prompt)
        for rounds in range(self.settings.tool_rounds + 1):
            messages = await self._messages(prompt, hits)
            tools = DECLARATIONS if prompt.session is not None and rounds < self.settings.tool_rounds else ()
            run.begin()
            ended = await self._listen(run, messages, tools)
            if not ended.calls or not tools:
                return ended
            await self._call(run, ended.calls)
        raise AssertionError("the last round has no tools")

    async def _listen(self, run: Run, messages: Sequence[Mapping[str, Any]], tools: Sequence[Any]) -> Ended:
        prompt = run.prompt
        async with aclosing(self.provider.stream(messages, tools, prompt.options)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Said):
                    run.say(piece.text)
                    await self.bus.events.put(Delta(prompt.lane, prompt.run, piece.text, prompt.session))
                else:
                    return piece
        raise ProviderError("the provider's answer has no end")

    async def _call(self, run: Run, calls: Sequence[Call]) -> None:
        """Call tools, each result on disk with the calls before the model hears of it."""
        prompt = run.prompt
        entries = [
            Entry("assistant", prompt.run, now_ms(), "".join(run.text), {"calls": [call._asdict() for call in calls]})
        ]
        # All results of a run together have half of the model's window, and each a few lines anyway.
        window = self.settings.context_tokens * conversation.BYTES_PER_TOKEN // 2
        share = max(RESULT_BYTES, (window - run.results_bytes) // len(calls))
        for call in calls:
            await self.bus.events.put(
                ToolUse(prompt.lane, prompt.run, "start", call.name, call.id, call.arguments, prompt.session)
            )
            result = clipped(await self.tools.call(call.name, call.arguments), share)
            run.results_bytes += len(result.encode())
            entries.append(Entry("tool", prompt.run, now_ms(), result, {"call": call.id, "name": call.name}))
            await self.bus.events.put(
                ToolUse(prompt.lane, prompt.run, "result", call.name, call.id, result, prompt.session)
            )
        run.stored_bytes += sum(len(journal.entry_line(entry)) for entry in entries)
        if run.stored_bytes > self.sessions.file_limit:  # it is read whole, and the next run needs room too
            raise Conflict("the calls of this answer are more than a session holds", hint="ask for less at once")
        assert prompt.session is not None
        async with self.sessions.hold(prompt.session) as held:
            await self.sessions.append(held, *entries)

    async def _messages(self, prompt: Prompt, hits: Sequence[Hit]) -> Sequence[Mapping[str, Any]]:
        settings = self.settings
        if prompt.session is None:
            system = conversation.recalled(hits, settings.recall_tokens)
            return [*([{"role": "system", "content": system}] if system else []), *prompt.messages]
        async with self.sessions.hold(prompt.session) as held:
            if held.ended(prompt.run) is None:
                raise NotFound("the message is gone: the session was reset meanwhile")
            instructions = "\n\n".join(part for part in (settings.instructions, prompt.instructions) if part)
            build = partial(
                conversation.build,
                held.entries,
                prompt.run,
                instructions=instructions,
                hits=hits,
                tokens=settings.context_tokens,
                recall_tokens=settings.recall_tokens,
            )
            # Counting the tokens of a whole window takes a board long enough for others to notice.
            return await asyncio.get_running_loop().run_in_executor(None, build)

    async def _recalled(self, prompt: Prompt) -> list[Hit]:
        """Return the memories that fit the message; none where they cannot be had: an answer without is better."""
        text = prompt.text or next(
            (str(one["content"]) for one in reversed(prompt.messages) if one["role"] == "user"), ""
        )
        if not self.settings.recall_tokens or not text.strip():
            return []
        try:
            found = await self.recall.recall(RecallRequest(text[:QUERY_CHARACTERS], k=RECALL_HITS))
        except PinchError as error:
            log.warning("a run goes on without its memories: %s", error.message)
            return []
        return found.hits
