"""A provider for a board under test: it says back what it is asked, in OpenAI's wire format.

It is pushed onto the board and runs there with nothing but Python's standard library, outside the service's control
group. `tests/provider` is the one with all the faults; it needs what a board does not have.
"""

from __future__ import annotations

import argparse
import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHUNK_CHARACTERS = 12


class Handler(BaseHTTPRequestHandler):
    """Answers each conversation with its last message, in pieces."""

    protocol_version = "HTTP/1.1"
    pause_s = 0.0

    def do_POST(self) -> None:
        """Stream one answer."""
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        text = f"You said: {asked['messages'][-1]['content']}"
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for begin in range(0, len(text), CHUNK_CHARACTERS):
            self._event({"choices": [{"index": 0, "delta": {"content": text[begin : begin + CHUNK_CHARACTERS]}}]})
            time.sleep(self.pause_s)
        self._event({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        self._chunk(b"data: [DONE]\n\n")
        self._chunk(b"")

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def _event(self, event: dict[str, Any]) -> None:
        self._chunk(b"data: %s\n\n" % json.dumps({"id": "1", "object": "chat.completion.chunk", **event}).encode())

    def _chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))


def main() -> None:
    """Serve until the end."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--pause", type=float, default=0.0, help="seconds after each piece of an answer")
    options = parser.parse_args()
    Handler.pause_s = options.pause
    ThreadingHTTPServer(("127.0.0.1", options.port), Handler).serve_forever()


if __name__ == "__main__":
    main()
