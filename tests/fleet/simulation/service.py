"""What the service of a simulated board answers: its state, its budget, and nothing to any recall."""

from __future__ import annotations

import http.server
import json
import threading
from typing import Any

from pinch.settings import Settings
from pinch.tiers import MEBIBYTE

from .boards import SimulatedBoard, token


def answers(board: SimulatedBoard) -> dict[str, Any]:
    """Return the JSON of each path."""
    tier = board.tier
    budget = tier.budget_mb * MEBIBYTE
    return {
        "/readyz": {"ready": True},
        "/healthz": {"ok": True},
        "/v1/recall": {"hits": [], "degraded": False},
        "/v1/budget": {
            "tier": tier.name,
            "budget_bytes": budget,
            "anonymous_bytes": budget // 2,
            "unattributed_bytes": MEBIBYTE,
            "accounts": [{"name": "runtime", "limit_bytes": budget // 2}],
            "cgroup": {"max_bytes": tier.memory_max_mb * MEBIBYTE, "high_bytes": tier.memory_high_mb * MEBIBYTE},
        },
    }


def serve(board: SimulatedBoard) -> None:
    """Answer on the service's own address in the background."""
    known = answers(board)

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if not self.raw_requestline or not self.parse_request():
                self.close_connection = True
                return
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            let_in = self.headers.get("Authorization") == f"Bearer {token(board)}"
            status = 401 if not let_in else 200 if self.path in known else 404
            body = json.dumps(known.get(self.path) if status == 200 else {"error": {"type": "refused"}}).encode()
            self.send_response_only(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    host, _, port = Settings().listen.rpartition(":")
    server = http.server.ThreadingHTTPServer((host, int(port)), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
