"""`python -m tests.provider`: the provider alone, for load."""

from __future__ import annotations

import argparse
import contextlib
import signal

from tests.provider import Provider


def main() -> None:
    """Serve until a signal comes."""
    parser = argparse.ArgumentParser(prog="python -m tests.provider", description="A scripted LLM provider.")
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on")
    parser.add_argument("--key", default="", help="the API key it wants")
    parser.add_argument("--context-tokens", type=int, default=0, help="what the model takes")
    parser.add_argument("--chunk-s", type=float, default=0, help="seconds between the chunks of an answer")
    chosen = parser.parse_args()
    with Provider(
        chosen.port,
        host=chosen.host,
        key=chosen.key,
        context_tokens=chosen.context_tokens,
        chunk_s=chosen.chunk_s,
        remember=False,
    ) as provider:
        print(provider.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
