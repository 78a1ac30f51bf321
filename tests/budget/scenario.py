"""The load scenario: what is done to the unit, what is measured, and when it counts as held."""

from __future__ import annotations

import http.client
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attrs import frozen
from pinch.tiers import MEBIBYTE, Tier

from tests.appliance import SCRATCH, TOKENS, UNIT, Board, BoardError
from tests.client import RefusedError
from tests.corpus.snapshot import Built
from tests.report import Figures

TESTS = Path(__file__).resolve().parent.parent
LOAD = TESTS / "onboard" / "load.py"
BESIDE = (TESTS / "frames.py", TESTS / "onboard" / "provider.py")
"""What the load imports; it is pushed beside it."""
PROVIDER_PORT = 18400
DROP_IN = f"/run/systemd/system/{UNIT}.d/zz-proof.conf"
SECONDS = 60
CLIENTS = 10
SESSIONS = 3
LARGEST_PAGE = 64 * 1024
"""The kernel keeps limits in whole pages: 4, 16 or 64 KiB on arm64."""
START_S = 240.0
"""Longest wait for the first recall: a unit under too small a limit may not get there."""
GROUP_S = 30.0
STALLED = 1.0
"""Percent of the time that the whole unit may stand still for want of memory."""
STEADY = {"minimal": 32, "light": 60, "full": 65}
"""Anonymous memory that a tier may hold, MB: the numbers to reach."""


@frozen
class Limits:
    """What the unit may hold for one run, in bytes; no swap unless it is asked for, so that nothing hides there."""

    high: int
    maximum: int
    swap: int = 0

    def scaled(self, share: float) -> Limits:
        """Return limits of a part of these, in whole pages of any size."""
        pages = (int(limit * share) // LARGEST_PAGE * LARGEST_PAGE for limit in (self.high, self.maximum))
        return Limits(*pages)


@frozen
class Run:
    """What one run of the load found."""

    limits: Limits
    invocation_before: str
    invocation_after: str
    first_recall_s: float
    """From the command to start the unit to the first recall answered, page cache cold."""
    model_loaded: bool
    found: dict[str, Any]
    """What `onboard/load.py` printed."""
    oom_kills_of_slice: int
    """Kills in `system.slice` during the run: they outlast the unit's own group, which goes with its process."""

    def peak(self, name: str) -> int:
        """Return the highest sample of `anon`, `file`, `kernel`, `current` or `peak`, in bytes."""
        return max((int(each[name]) for each in self.found["samples"]), default=0)

    @property
    def oom_kills(self) -> int:
        """Processes killed for want of memory."""
        return max(self.peak("oom_kill"), self.oom_kills_of_slice)

    @property
    def stalled(self) -> float:
        """The highest `memory.pressure` full avg60 of the run, percent."""
        return max((float(each["full_avg60"]) for each in self.found["samples"]), default=0.0)

    @property
    def steady_anonymous(self) -> int:
        """Median of the anonymous memory over the run, bytes."""
        samples = sorted(int(each["anon"]) for each in self.found["samples"])
        return samples[len(samples) // 2] if samples else 0

    def latency_ms(self, share: float) -> float:
        """Return the latency that `share` of the recalls kept."""
        latencies = self.found["latencies_ms"]
        return (
            float(latencies[min(len(latencies) - 1, math.ceil(share * len(latencies)) - 1)]) if latencies else math.inf
        )

    def memory_breaches(self) -> list[str]:
        """Say how the unit broke its memory limit, if it did."""
        breaches = []
        if self.oom_kills:
            breaches.append(f"the kernel killed {self.oom_kills} processes (oom_kill)")
        if self.stalled >= STALLED:
            breaches.append(
                f"memory.pressure full avg60 reached {self.stalled:.2f} %; expected less than {STALLED:g} %"
            )
        return breaches

    def breaches(self, tier: Tier) -> list[str]:
        """Say everything that keeps this run from counting as held; empty where it held."""
        breaches = self.memory_breaches()
        if self.invocation_before != self.invocation_after:
            breaches.append("the unit was started anew during the run (its InvocationID changed)")
        if self.peak("current") > self.limits.maximum:
            breaches.append(f"memory.current reached {self.peak('current')}, above memory.max {self.limits.maximum}")
        if len(self.found["samples"]) < SECONDS * 3 // 4:
            breaches.append(f"only {len(self.found['samples'])} samples in {SECONDS} s")
        if len(self.found["latencies_ms"]) < CLIENTS:
            breaches.append(f"only {len(self.found['latencies_ms'])} recalls were answered")
        if not self.found["ingested"]:
            breaches.append("no document was ingested")
        if self.found["answers"] < SESSIONS:
            breaches.append(f"only {self.found['answers']} messages were answered in {SESSIONS} sessions")
        if self.found["unanswered"] or self.found["refused"]:
            breaches.append(f"{self.found['unanswered']} calls had no answer; refused: {self.found['refused']}")
        if self.found["degraded"] or self.model_loaded != tier.semantic:
            breaches.append(f"{self.found['degraded']} recalls were degraded; model loaded: {self.model_loaded}")
        return breaches

    def tell(self, figures: Figures) -> None:
        """Record every number of the run."""
        name = f"under {self.limits.maximum / MEBIBYTE:.0f} MB"
        figures.add(f"{name}: oom_kill", self.oom_kills)
        figures.add(f"{name}: memory.pressure full avg60, highest", self.stalled, "%", f"< {STALLED:g} %")
        figures.add(f"{name}: anonymous, median", self.steady_anonymous / MEBIBYTE, "MB")
        for kind, title in (
            ("anon", "anonymous"),
            ("file", "file"),
            ("kernel", "kernel"),
            ("current", "memory.current"),
        ):
            figures.add(f"{name}: {title}, peak", self.peak(kind) / MEBIBYTE, "MB")
        figures.add(f"{name}: memory.peak (with page cache that costs nothing)", self.peak("peak") / MEBIBYTE, "MB")
        figures.add(f"{name}: times the kernel reclaimed at memory.high", self.peak("over_high"))
        figures.add(f"{name}: times the kernel reclaimed at memory.max", self.peak("over_max"))
        figures.add(f"{name}: file pages read again after they were dropped", self.peak("refaults"))
        figures.add(f"{name}: recalls answered by {CLIENTS} clients in {SECONDS} s", len(self.found["latencies_ms"]))
        for share in (0.5, 0.95, 0.99):
            figures.add(f"{name}: recall p{share * 100:.0f}", self.latency_ms(share), "ms")
        figures.add(f"{name}: documents ingested meanwhile", self.found["ingested"])
        figures.add(f"{name}: messages answered in {SESSIONS} sessions", self.found["answers"])
        figures.add(f"{name}: start to first recall, page cache cold", self.first_recall_s, "s")


@contextmanager
def corpus_loaded(board: Board, corpus: Built, tier: Tier, kept: Path) -> Iterator[None]:
    """Have the corpus in the service's store; what was there before is in the file `kept` meanwhile, and comes back."""
    with board.service(timeout_s=900) as client:
        with kept.open("wb") as file:
            client.save_snapshot(file)
        counted = client.load_snapshot(corpus.snapshot)
    assert counted["documents"] == corpus.documents
    assert counted["chunks"] == corpus.chunks
    assert counted["vectors"] == (corpus.chunks if tier.semantic else 0)
    try:
        yield
    finally:
        with board.service(timeout_s=900) as client:
            client.load_snapshot(kept)
        board.run(f"rm -rf {SCRATCH}")


def tier_limits(board: Board) -> Limits:
    """Read the unit's limits from the kernel.

    Raises:
        BoardError: a limit is not set, so there is no budget to prove.
    """
    high, maximum = board.limit("memory.high"), board.limit("memory.max")
    if high is None or maximum is None:
        raise BoardError(f"{board.group} has memory.high {high} and memory.max {maximum}; expected the tier's limits")
    return Limits(high, maximum)


def run_load(board: Board, corpus: Built, limits: Limits, tier: Tier) -> Run:
    """Restart the unit under `limits` with cold caches and load it for a minute.

    A unit that cannot even start under them is loaded all the same: its pressure is what is looked for.
    """
    queries, live = board.push(corpus.queries), board.push(corpus.live)
    for file in BESIDE:
        board.push(file)
    group = board.group
    address = ["--address", board.address.netloc, "--tokens", TOKENS, "--group", group]
    what = ["--queries", queries, "--live", live, "--seconds", str(SECONDS), "--clients", str(CLIENTS)]
    what += ["--provider", str(PROVIDER_PORT), "--sessions", str(SESSIONS)]
    board.run(f"systemctl stop {UNIT}")
    with limited(board, limits):
        kills = _kills_of_slice(board)
        begin = time.monotonic()
        board.run(f"sync; echo 3 > /proc/sys/vm/drop_caches; systemctl start --no-block {UNIT}")
        _await_limits(board, group, limits)
        before = board.invocation()
        first = _first_recall(board, begin)
        found = board.python(LOAD, *address, *what)
        loaded = _model_loaded(board)
        after = board.invocation()
        kills = _kills_of_slice(board) - kills
    return Run(limits, before, after, first, loaded, found, kills)


def _first_recall(board: Board, begin: float) -> float:
    """Return the seconds from `begin` to the first answer, infinite where none comes in time."""
    while time.monotonic() - begin < START_S:
        try:
            with board.service(START_S) as client:
                client.recall("How is a bucket made private?", k=6)
        except (OSError, http.client.HTTPException, RefusedError):
            time.sleep(0.2)
        else:
            return time.monotonic() - begin
    return math.inf


def _model_loaded(board: Board) -> bool:
    try:
        with board.service() as client:
            return bool(client.call("GET", "/v1/sync")["embedding"]["loaded"])
    except (OSError, http.client.HTTPException, RefusedError):
        return False


def _await_limits(board: Board, group: str, limits: Limits) -> None:
    """Wait until the group is there and see that the kernel took the limits of this run."""
    deadline = time.monotonic() + GROUP_S
    wanted = [limits.high, limits.maximum, limits.swap]
    names = " ".join(f"{group}/memory.{name}" for name in ("high", "max", "swap.max"))
    while (found := board.attempt(f"cat {names}")).rc:
        assert time.monotonic() < deadline, f"{group} is not there {GROUP_S:.0f} s after the start of {UNIT}"
        time.sleep(0.2)
    assert found.stdout.split() == [str(each) for each in wanted], "the kernel did not take the limits of this run"


@contextmanager
def limited(board: Board, limits: Limits) -> Iterator[None]:
    """Give the unit other limits, and a provider, until the end; they live in /run, so a reboot takes them away too."""
    provider = f"PINCH_PROVIDER_BASE_URL=http://127.0.0.1:{PROVIDER_PORT}/v1 PINCH_PROVIDER_MODEL=echo"
    settings = (
        f"[Service]\\nMemoryHigh={limits.high}\\nMemoryMax={limits.maximum}\\nMemorySwapMax={limits.swap}\\n"
        f"Environment={provider}\\n"
    )
    board.run(f"mkdir -p {Path(DROP_IN).parent} && printf '{settings}' > {DROP_IN} && systemctl daemon-reload")
    try:
        yield
    finally:
        board.run(
            f"rm -f {DROP_IN} && rmdir --ignore-fail-on-non-empty {Path(DROP_IN).parent} && systemctl daemon-reload"
        )
        board.restart()


def _kills_of_slice(board: Board) -> int:
    return int(board.run("awk '/^oom_kill / {print $2}' /sys/fs/cgroup/system.slice/memory.events"))
