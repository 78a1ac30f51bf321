"""OpenAI's chat completions on the wire, whole and streamed."""

from __future__ import annotations

import json
import secrets
import time
from typing import Any

from aiohttp import web

ARGUMENT_CHARACTERS = 5


class Completion:
    """One answer; nothing of it is sent before there is something to say."""

    content_type = "application/json"

    def __init__(self, request: web.Request, model: str, prompt_tokens: int, *, usage: bool) -> None:
        self.response = web.StreamResponse(headers={"Content-Type": self.content_type})
        self.chunks = 0
        """How many pieces of the answer were sent."""
        self.sliver = 0
        """Bytes of one write; 0 writes what there is."""
        self.reason = ""
        self._request = request
        self._model = model
        self._prompt_tokens = prompt_tokens
        self._with_usage = usage
        self._id = f"chatcmpl-{secrets.token_hex(12)}"
        self._created = int(time.time())
        self._calls: list[dict[str, Any]] = []

    async def text(self, text: str) -> None:
        """Say a piece of text."""
        raise NotImplementedError

    async def tool(self, name: str, arguments: str) -> None:
        """Call a tool."""
        raise NotImplementedError

    async def finish(self) -> None:
        """Say why it ends."""
        raise NotImplementedError

    async def end(self) -> None:
        """Say why it ends, and end."""
        await self.finish()
        await self.response.write_eof()

    async def begin(self) -> None:
        """Send the headers, once."""
        if not self.response.prepared:
            await self.response.prepare(self._request)

    async def flood(self, size: int, chunk: int) -> None:
        """Say `size` bytes in pieces of `chunk`."""
        for begin in range(0, size, chunk):
            await self.text("x" * min(chunk, size - begin))

    async def raw(self, content: bytes) -> None:
        """Send bytes as they are."""
        await self.begin()
        step = self.sliver or len(content)
        for begin in range(0, len(content), step):
            await self.response.write(content[begin : begin + step])

    async def cut(self, *, clean: bool) -> None:
        """End here, as a proxy that gave up would with `clean`, else by closing the connection."""
        if clean:
            await self.begin()
            await self.response.write_eof()
        elif self._request.transport is not None:
            self._request.transport.close()

    def _call(self, name: str, arguments: str) -> dict[str, Any]:
        call = {"id": f"call_{secrets.token_hex(12)}", "type": "function"}
        whole = {**call, "function": {"name": name, "arguments": arguments}}
        self._calls.append(whole)
        return whole

    def _reason(self) -> str:
        return self.reason or ("tool_calls" if self._calls else "stop")

    def _usage(self) -> dict[str, int]:
        prompt, said = self._prompt_tokens, self.chunks
        return {"prompt_tokens": prompt, "completion_tokens": said, "total_tokens": prompt + said}


class Whole(Completion):
    """One JSON object, written as it comes."""

    async def text(self, text: str) -> None:
        await self._open()
        self.chunks += 1
        await self.raw(json.dumps(text)[1:-1].encode())

    async def tool(self, name: str, arguments: str) -> None:
        await self._open()
        self.chunks += 1
        self._call(name, arguments)

    async def finish(self) -> None:
        await self._open()
        calls = f', "tool_calls": {json.dumps(self._calls)}' if self._calls else ""
        rest = f'"{calls}}}, "finish_reason": {json.dumps(self._reason())}, "logprobs": null}}], '
        await self.raw(f'{rest}"usage": {json.dumps(self._usage())}}}'.encode())

    async def _open(self) -> None:
        if not self.response.prepared:
            about = {"id": self._id, "object": "chat.completion", "created": self._created, "model": self._model}
            choice = '"choices": [{"index": 0, "message": {"role": "assistant", "content": "'
            await self.raw(f"{json.dumps(about)[:-1]}, {choice}".encode())


class Stream(Completion):
    """Server-sent events, a chunk each."""

    content_type = "text/event-stream; charset=utf-8"

    async def text(self, text: str) -> None:
        self.chunks += 1
        await self._delta({"content": text})

    async def tool(self, name: str, arguments: str) -> None:
        self.chunks += 1
        call = self._call(name, arguments)
        index = len(self._calls) - 1
        begun = {**call, "index": index, "function": {"name": name, "arguments": ""}}
        await self._delta({"tool_calls": [begun]})
        for place in range(0, len(arguments), ARGUMENT_CHARACTERS):
            piece = {"arguments": arguments[place : place + ARGUMENT_CHARACTERS]}
            await self._delta({"tool_calls": [{"index": index, "function": piece}]})

    async def finish(self) -> None:
        await self._delta({}, self._reason())
        if self._with_usage:
            await self._event({"choices": [], "usage": self._usage()})

    async def end(self) -> None:
        await self.finish()
        await self.raw(b"data: [DONE]\n\n")
        await self.response.write_eof()

    async def _delta(self, delta: dict[str, Any], reason: str | None = None) -> None:
        if not self.response.prepared:
            await self.begin()
            await self._choice({"role": "assistant", "content": ""})
        await self._choice(delta, reason)

    async def _choice(self, delta: dict[str, Any], reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        await self._event({"choices": [choice], **({"usage": None} if self._with_usage else {})})

    async def _event(self, more: dict[str, Any]) -> None:
        about = {"id": self._id, "object": "chat.completion.chunk", "created": self._created, "model": self._model}
        await self.raw(b"data: " + json.dumps({**about, **more}, ensure_ascii=False).encode() + b"\n\n")
