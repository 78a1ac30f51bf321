"""Running services for the command line, sound and unsound ones."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from service.tests.cli.command import Pinch, pinch_of
from service.tests.serving import Service


@pytest.fixture
def pinch(minimal: Service) -> Pinch:
    """The command line, with the service that all tests share."""
    return pinch_of(minimal)


@pytest.fixture
def fresh(start: Callable[..., Service]) -> Pinch:
    """The command line, with a service of this test's own."""
    return pinch_of(start())


Respond = Callable[[BaseHTTPRequestHandler], None]


@pytest.fixture
def scripted() -> Iterator[Callable[[Respond], Pinch]]:
    """A server that answers as no sound service does; give it a function for each request."""
    servers = []

    def start(respond: Respond) -> Pinch:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                if self.command == "POST":
                    self.rfile.read(int(self.headers["Content-Length"]))
                respond(self)

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return Pinch({"PINCH_URL": f"http://127.0.0.1:{server.server_port}", "PINCH_TOKEN": "t" * 20})

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
