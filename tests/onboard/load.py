"""The load of the budget test: recalls over WebSocket, sessions, live ingest and a sampler, in one small process.

The provider that answers the sessions runs in it too. It is pushed onto the board and runs there with nothing but
Python's standard library, outside the service's control group, so that neither the network nor an ssh tunnel is part of
what is measured.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

sys.path.insert(0, str(Path(__file__).parent))  # what was pushed beside it
from frames import Closed, Gateway, Refused, UpgradeRefused  # type: ignore[import-not-found]
from provider import Handler  # type: ignore[import-not-found]

ANSWER_S = 90.0
"""An answer that takes longer counts as none."""
PAUSE_S = 0.5
"""Before asking again a service that did not answer."""
GRACE_S = 5.0
"""For clients to finish after the end."""


class Tally:
    """What the clients saw; written by all threads."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.latencies: list[float] = []
        self.degraded = 0
        self.empty = 0
        self.refused: dict[str, int] = {}
        self.unanswered = 0
        self.ingested = 0
        self.ingested_bytes = 0
        self.answers = 0

    def refuse(self, reason: str) -> None:
        """Count an answer that is an error."""
        with self.lock:
            self.refused[reason] = self.refused.get(reason, 0) + 1


def read_numbers(path: Path) -> dict[str, int]:
    """Read a flat keyed control-group file such as `memory.stat`."""
    return {name: int(value) for name, value in (line.split() for line in path.read_text("ascii").splitlines())}


def read_pressure(path: Path) -> tuple[float, int]:
    """Return `full avg60` in percent and the total stall in microseconds."""
    for line in path.read_text("ascii").splitlines():
        kind, *rest = line.split()
        if kind == "full":
            fields = dict(field.split("=") for field in rest)
            return float(fields["avg60"]), int(fields["total"])
    raise ValueError(f"{path} has no line 'full'")


def sample(group: Path) -> dict[str, Any]:
    """Read what the kernel says about the unit now: bytes, and pages where it counts those."""
    stat = read_numbers(group / "memory.stat")
    average, total = read_pressure(group / "memory.pressure")
    events = read_numbers(group / "memory.events")
    host = read_numbers(Path("/proc/vmstat"))
    return {
        "anon": stat["anon"],
        "file": stat["file"],
        "kernel": stat.get("kernel", 0),
        "current": int((group / "memory.current").read_text("ascii")),
        "peak": int((group / "memory.peak").read_text("ascii")) if (group / "memory.peak").exists() else 0,
        "full_avg60": average,
        "full_total_us": total,
        "refaults": stat["workingset_refault_file"],
        "swap": int((group / "memory.swap.current").read_text("ascii"))
        if (group / "memory.swap.current").exists()
        else 0,
        # Pages of the whole board: older kernels do not count them for a group. What zswap keeps in RAM counts too.
        "swapped_in": host.get("pswpin", 0) + host.get("zswpin", 0),
        "swapped_out": host.get("pswpout", 0) + host.get("zswpout", 0),
        "over_high": events["high"],
        "over_max": events["max"],
        "oom_kill": events["oom_kill"],
        "parent_oom_kill": read_numbers(group.parent / "memory.events")["oom_kill"],
    }


class Load:
    """Drives one service until the time is over."""

    def __init__(self, options: argparse.Namespace, token: str) -> None:
        self.options = options
        self.token = token
        self.headers = {"Authorization": f"Bearer {token}"}
        self.queries: list[str] = json.loads(Path(options.queries).read_text("utf-8"))
        self.live: list[tuple[str, str]] = json.loads(Path(options.live).read_text("utf-8"))
        self.tally = Tally()
        self.over = threading.Event()

    def run(self) -> dict[str, Any]:
        """Run clients and sampler for the asked time; return the findings."""
        threads = [
            threading.Thread(target=self._ask, args=(number,), daemon=True) for number in range(self.options.clients)
        ]
        threads += [
            threading.Thread(target=self._chat, args=(number,), daemon=True) for number in range(self.options.sessions)
        ]
        threads.append(threading.Thread(target=self._ingest, daemon=True))
        provider = ThreadingHTTPServer(("127.0.0.1", self.options.provider), Handler)
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        begin = time.monotonic()
        for thread in threads:
            thread.start()
        samples = []
        missed = 0
        while (now := time.monotonic() - begin) < self.options.seconds:
            try:
                samples.append({"at": round(now, 2), **sample(Path(self.options.group))})
            except (OSError, KeyError, ValueError):
                missed += 1  # the group is gone between the end of one process and the start of the next
            time.sleep(max(0.0, 1.0 - (time.monotonic() - begin - now)))
        self.over.set()
        lasted = time.monotonic() - begin
        for thread in threads:
            thread.join(max(0.0, GRACE_S - (time.monotonic() - begin - lasted)))
        return self._findings(lasted, samples, missed)

    def _findings(self, lasted: float, samples: list[dict[str, Any]], missed: int) -> dict[str, Any]:
        with self.tally.lock:
            return {
                "seconds": round(lasted, 1),
                "clients": self.options.clients,
                "latencies_ms": sorted(round(each * 1000, 1) for each in self.tally.latencies),
                "degraded": self.tally.degraded,
                "empty": self.tally.empty,
                "refused": self.tally.refused,
                "unanswered": self.tally.unanswered,
                "ingested": self.tally.ingested,
                "ingested_bytes": self.tally.ingested_bytes,
                "answers": self.tally.answers,
                "samples": samples,
                "samples_missed": missed,
            }

    def _ask(self, number: int) -> None:
        """Recall one thing after the other."""

        def ask(gateway: Gateway) -> None:
            query = next(queries)
            begin = time.monotonic()
            answer = gateway.request("memory.search", {"query": query, "k": 6, "mode": self.options.mode})
            with self.tally.lock:
                self.tally.latencies.append(time.monotonic() - begin)
                self.tally.degraded += bool(answer["degraded"])
                self.tally.empty += not answer["hits"]

        queries = itertools.islice(itertools.cycle(self.queries), number * 17, None)
        self._again_and_again(ask)

    def _chat(self, number: int) -> None:
        """Talk in one session, each message after the answer to the one before."""

        def say(gateway: Gateway) -> None:
            ended = gateway.say(next(queries), f"load-{number}", f"{number}-{next(turns)}")[-1]
            if ended["state"] != "final":
                self.tally.refuse(ended.get("errorMessage", ended["state"]))
                self.over.wait(PAUSE_S)
                return
            with self.tally.lock:
                self.tally.answers += 1

        queries = itertools.islice(itertools.cycle(self.queries), number * 29, None)
        turns = itertools.count(time.time_ns())
        self._again_and_again(say)

    def _again_and_again(self, act: Callable[[Gateway], None]) -> None:
        """Act over one WebSocket until the time is over; where it is lost, over another."""
        port = int(self.options.address.rpartition(":")[2])
        while not self.over.is_set():
            try:
                with Gateway(port) as gateway:
                    gateway.connect(self.token)
                    while not self.over.is_set():
                        try:
                            act(gateway)
                        except Refused as error:
                            self.tally.refuse(error.message)
                            self.over.wait(PAUSE_S)
            except (OSError, Closed, UpgradeRefused):
                if not self.over.is_set():
                    with self.tally.lock:
                        self.tally.unanswered += 1
                    self.over.wait(PAUSE_S)

    def _ingest(self) -> None:
        connection = self._connect()
        for turn in itertools.count():
            for path, text in self.live:
                if self.over.is_set():
                    return
                content = text.encode()
                # A turn's text differs from the last one's, or the service would know it already.
                body = content if not turn else content + f"\n\nRevision {turn}.\n".encode()
                if self._exchange(connection, "PUT", f"/v1/documents/{quote(f'proof/{path}')}", body) is None:
                    continue
                with self.tally.lock:
                    self.tally.ingested += 1
                    self.tally.ingested_bytes += len(body)
                self.over.wait(self.options.ingest_pause)

    def _connect(self) -> http.client.HTTPConnection:
        host, _, port = self.options.address.rpartition(":")
        return http.client.HTTPConnection(host, int(port), timeout=ANSWER_S)

    def _exchange(
        self, connection: http.client.HTTPConnection, method: str, path: str, body: bytes
    ) -> dict[str, Any] | None:
        kind = "application/json" if method == "POST" else "text/markdown"
        try:
            connection.request(method, path, body, {**self.headers, "Content-Type": kind})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException):
            connection.close()
            if not self.over.is_set():
                with self.tally.lock:
                    self.tally.unanswered += 1
                self.over.wait(PAUSE_S)
            return None
        if answer.status >= 400:
            self.tally.refuse(str(answer.status))
            self.over.wait(PAUSE_S)
            return None
        parsed: dict[str, Any] = json.loads(content)
        return parsed


def main() -> None:
    """Run the load and print the findings as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True, help="host:port of the service")
    parser.add_argument("--tokens", required=True, help="token file; the first token is used")
    parser.add_argument("--queries", required=True, help="JSON list of strings")
    parser.add_argument("--live", required=True, help="JSON list of [path, text]")
    parser.add_argument("--group", required=True, help="folder of the unit's control group")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--sessions", type=int, default=3)
    parser.add_argument("--provider", type=int, required=True, help="port on which the service expects its provider")
    parser.add_argument("--mode", default="hybrid", choices=("hybrid", "keyword", "semantic"))
    parser.add_argument("--ingest-pause", type=float, default=0.5, help="seconds between two documents")
    options = parser.parse_args()
    lines = Path(options.tokens).read_text("utf-8").splitlines()
    token = next(line.split()[1] for line in lines if line.strip() and not line.startswith("#"))
    json.dump(Load(options, token).run(), sys.stdout)
    sys.stdout.flush()
    os._exit(0)  # a client may still wait for an answer that nobody needs


if __name__ == "__main__":
    main()
