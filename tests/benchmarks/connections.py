"""`python -m tests.benchmarks.connections`: what idle, coming, half-open and creeping clients cost, on this machine."""

from __future__ import annotations

import resource
import socket
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.benchmarks.holding import KIBIBYTE, settled_kb
from tests.benchmarks.machine import machine
from tests.frames import Gateway, UpgradeRefused
from tests.running import LocalService

IDLE = 1000
IDLE_MOST_KB = 32
RECONNECTS = 10_000
WARM_UP = 100
HALF_OPEN = 1000
CREEPING = 24
MOST_LEFT_KB = 1024
"""What may be left of them all, KiB."""
ROOM = {"PINCH_TIER": "minimal", "PINCH_GATEWAY_MAX_CONNECTIONS": "1250", "PINCH_BUDGET_MB": "90"}


def idle(service: LocalService) -> bool:
    """Connect many clients, and let them be."""
    with Gateway(service.port) as first:
        first.connect(service.token)
        before = settled_kb(service.pid)
        clients = []
        for _ in range(IDLE):
            client = Gateway(service.port)
            client.connect(service.token)
            clients.append(client)
        each = (settled_kb(service.pid) - before) / IDLE
        print(f"idle: {each:.1f} KiB for each of {IDLE} WebSockets (expected at most {IDLE_MOST_KB})")
        for client in clients:
            client.wire.drop()
    return each <= IDLE_MOST_KB


def reconnects(service: LocalService, times: int = RECONNECTS) -> None:
    """Connect and leave again and again."""
    for _ in range(times):
        with Gateway(service.port) as gateway:
            gateway.connect(service.token)


def half_open(service: LocalService) -> None:
    """Open connections and upgrade half of them, and go no further."""
    opened, upgraded = [], []
    for number in range(HALF_OPEN):
        if number % 2:
            opened.append(_opened(service))
            continue
        with suppress(UpgradeRefused):  # there are more of them than places
            upgraded.append(Gateway(service.port))
    for connection in opened:
        connection.close()
    for gateway in upgraded:
        gateway.wire.drop()


def creeping(service: LocalService) -> None:
    """Send requests a byte at a time until they are given up."""
    clients = [_opened(service) for _ in range(CREEPING)]
    for sign in b"GET /healthz HTTP/1.1\r\nHost: 127":
        for client in clients:
            client.sendall(bytes([sign]))
    for client in clients:
        assert client.recv(1) == b"", "a request that does not end is given up"
        client.close()


def _opened(service: LocalService) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=60)


def left(service: LocalService, what: str, act: Callable[[LocalService], None]) -> bool:
    """Do something; print what is left of it in memory and in the pool."""
    before = settled_kb(service.pid)
    act(service)
    after = settled_kb(service.pid)
    with Gateway(service.port) as gateway:
        gateway.connect(service.token)
        clients = gateway.request("status")["connections"]["clients"]
    grown = after - before
    print(f"{what}: {before / KIBIBYTE:.2f} → {after / KIBIBYTE:.2f} MB RSS, {grown:+d} KiB "
          f"(expected ±{MOST_LEFT_KB}), {clients - 1} slots still taken")  # fmt: skip
    return abs(grown) <= MOST_LEFT_KB and clients == 1


def main() -> int:
    """Print the figures; return 1 where one is worse than its bound."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(limit, 8192), limit))
    print(f"machine: {machine()}")
    with tempfile.TemporaryDirectory() as folder, LocalService(Path(folder), **ROOM) as service:
        good = [idle(service)]
    with tempfile.TemporaryDirectory() as folder:
        service = LocalService(Path(folder), PINCH_TIER="minimal")
        with service:
            reconnects(service, WARM_UP)
            print(f"warm: {settled_kb(service.pid) / KIBIBYTE:.2f} MB RSS")
            good += [
                left(service, f"{RECONNECTS} reconnects", reconnects),
                left(service, f"{HALF_OPEN} half-open handshakes", half_open),
                left(service, f"{CREEPING} that creep", creeping),
            ]
    return int(not all(good))


if __name__ == "__main__":
    raise SystemExit(main())
