"""`python -m tests.benchmarks.burst`: 10,000 messages through a client, the bus, sessions, a provider and back.

The service runs in a process of its own, which tells its memory phase by phase; so does the provider.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.benchmarks.holding import KIBIBYTE, resident_kb, settled_kb
from tests.benchmarks.machine import machine
from tests.frames import Gateway
from tests.provider import MODEL
from tests.running import LocalService, free_port

MESSAGES = 10_000
WARM_UP = 1500
"""Messages before the first reading: each session has been compacted by then, and every cache is full."""
SESSIONS = 3
AT_ONCE = 6
MOST_KB = 1024
PROBE = """
import os, sys, time
def tell(phase):
    held = [line for line in open("/proc/self/smaps_rollup") if line.startswith("Rss")][0].split()[1]
    print(f"{phase}: {int(held) / 1024:.2f} MB RSS", file=sys.stderr, flush=True)
import asyncio
from pinch import app
from pinch.budget import allocator
from pinch.logbook import Logbook
allocator.settle()
tell("baseline (interpreter and modules)")
from pinch.settings import load_settings
settings = load_settings(os.environ)
tier = app.choose_tier(settings, app.load_tiers())
tell("config loaded")
service = app.Service.build(settings, tier, Logbook())
tell("bus created")
asyncio.run(app.serve(service))
"""


class ProbedService(LocalService):
    """The service, started part by part by a process that tells what it holds."""

    def spawn(self) -> subprocess.Popen[bytes]:
        """Start without waiting."""
        self._command = [sys.executable, "-c", PROBE]
        return super().spawn()


def burst(gateway: Gateway, messages: int, name: str) -> None:
    """Send messages, some at a time, and take every answer."""
    waiting: set[str] = set()
    sent = 0
    while sent < messages or waiting:
        while sent < messages and len(waiting) < AT_ONCE:
            run = f"{name}-{sent}"
            session = f"burst-{sent % SESSIONS}"
            gateway.request("chat.send", {"sessionKey": session, "message": f"word {sent}", "idempotencyKey": run})
            waiting.add(run)
            sent += 1
        *_, event = gateway.events(until=lambda event: event["payload"].get("state") in {"final", "error", "aborted"})
        told = event["payload"]
        assert told["state"] == "final", told
        waiting.discard(told["runId"])


def main() -> int:
    """Print the phases; return 1 where the burst left more than it may."""
    print(f"machine: {machine()}")
    port = free_port()
    provider = subprocess.Popen([sys.executable, "-m", "tests.provider", "--port", str(port)])
    try:
        with tempfile.TemporaryDirectory() as folder:
            service = ProbedService(
                Path(folder),
                PINCH_TIER="minimal",
                PINCH_PROVIDER_BASE_URL=f"http://127.0.0.1:{port}/v1",
                PINCH_PROVIDER_MODEL=MODEL,
                PINCH_PROVIDER_RETRIES="8",
            )
            with service, Gateway(service.port) as gateway:
                gateway.connect(service.token)
                burst(gateway, WARM_UP, "warm")
                print("\n".join(line for line in service.log.read_text("utf-8").splitlines() if " MB RSS" in line))
                warm = settled_kb(service.pid)
                print(f"after warm-up, {WARM_UP} messages: {warm / KIBIBYTE:.2f} MB RSS")
                begin = time.monotonic()
                burst(gateway, MESSAGES, "burst")
                seconds = time.monotonic() - begin
                print(f"after burst, {MESSAGES} messages in {seconds:.0f} s: "
                      f"{resident_kb(service.pid) / KIBIBYTE:.2f} MB RSS")  # fmt: skip
                steady = settled_kb(service.pid)
                growth = steady - warm
                print(f"steady: {steady / KIBIBYTE:.2f} MB RSS, {growth:+d} KiB (expected at most +{MOST_KB})")
    finally:
        provider.terminate()
        provider.wait()
    return int(growth > MOST_KB)


if __name__ == "__main__":
    raise SystemExit(main())
