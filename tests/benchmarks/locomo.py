"""`python -m tests.benchmarks.locomo`: recall@10 on LoCoMo, over HTTP.

Every turn becomes a memory (`Speaker: text`, and what a shared image shows) in a space of its conversation and a
thread of its session; every question is asked with k = 10 in each mode. The figure is the mean over questions of the
share of their evidence among the hits. Questions of category 5 have a false premise and no answer: the figure that
counts leaves them out, the one over all is printed beside it.

Without `--url` it starts a service of its own, with the model that devices run.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from attrs import frozen

from tests.benchmarks import conversations
from tests.benchmarks.conversations import ADVERSARIAL, Conversation, MissingDataError
from tests.benchmarks.machine import machine
from tests.cache import REPOSITORY
from tests.client import Client
from tests.running import LocalService

K = 10
BATCH = 256
MODES = ("keyword", "semantic", "hybrid")
LEAST = 0.72
"""What hybrid recall has to reach."""
EMBED_S = 1800.0
PIPELINE = REPOSITORY / "roles" / "models" / "pipeline"


@frozen
class Outcome:
    """What became of one question in one mode."""

    conversation: str
    category: int
    mode: str
    share: float
    """Of its evidence, what was among the hits: 0 to 1."""
    milliseconds: float


def post(client: Client, conversation: Conversation, space: str, *, captions: bool) -> dict[str, set[str]]:
    """Remember the turns in order; return the turns that each id stands for, for a text said twice is stored once."""
    stored: dict[str, set[str]] = {}
    for begin in range(0, len(conversation.turns), BATCH):
        batch = conversation.turns[begin : begin + BATCH]
        body = [
            {
                "text": turn.text(captions=captions),
                "space": space,
                "source": turn.speaker,
                "thread": f"{space}/session-{turn.session}",
                "at": turn.at,
            }
            for turn in batch
        ]
        answer = client.call("POST", "/v1/memories", {"memories": body})
        for turn, identity in zip(batch, answer["ids"], strict=True):
            stored.setdefault(identity, set()).add(turn.id)
    return stored


def embed(client: Client) -> str:
    """Wait until every text has its vector; return the model's name."""
    end = time.monotonic() + EMBED_S
    while (state := client.call("GET", "/v1/sync")["embedding"])["pending"]:
        if time.monotonic() > end:
            raise SystemExit(f"{state['pending']} texts still had no vector after {EMBED_S:.0f} s")
        time.sleep(0.5)
    return str(state["model"] or "none")


def ask(
    client: Client, conversation: Conversation, space: str, stored: dict[str, set[str]], modes: Sequence[str]
) -> Iterator[Outcome]:
    """Ask every question in every mode."""
    for question in conversation.questions:
        for mode in modes:
            begin = time.perf_counter()
            answer = client.recall(question.text, space=space, k=K, mode=mode)
            took = (time.perf_counter() - begin) * 1000
            if answer["mode"] != mode or answer["degraded"]:
                raise SystemExit(f"asked in mode {mode}, answered in {answer['mode']}: is there a model?")
            found = set[str]().union(*(stored.get(hit["id"], set()) for hit in answer["hits"]))
            share = len(found & question.evidence) / len(question.evidence)
            yield Outcome(conversation.name, question.category, mode, share, took)


def summary(outcomes: Sequence[Outcome], modes: Sequence[str]) -> dict[str, Any]:
    """Return the figures of each mode: recall@10 where there is an answer, over all, in parts, and the times."""
    result: dict[str, Any] = {}
    for mode in modes:
        of_mode = [outcome for outcome in outcomes if outcome.mode == mode]
        real = [outcome for outcome in of_mode if outcome.category != ADVERSARIAL]
        times = sorted(outcome.milliseconds for outcome in of_mode)
        result[mode] = {
            "recall@10": _mean(real),
            "over_all": _mean(of_mode),
            "conversations": {
                name: _mean([one for one in real if one.conversation == name])
                for name in sorted({one.conversation for one in real})
            },
            "categories": {
                category: _mean([one for one in of_mode if one.category == category])
                for category in sorted({one.category for one in of_mode})
            },
            "milliseconds": {"p50": round(statistics.median(times), 1), "p99": round(times[len(times) * 99 // 100], 1)},
        }
    return result


def _mean(outcomes: Sequence[Outcome]) -> float:
    return round(statistics.fmean(outcome.share for outcome in outcomes), 4)


@contextmanager
def service(url: str | None, token: str | None) -> Iterator[Client]:
    """Give a client for the service at `url`, or for one started for the purpose."""
    if url is not None:
        where = urlsplit(url)
        if where.scheme != "http" or not where.hostname:
            raise SystemExit(f"--url is {url!r}; expected http://HOST:PORT")
        if not token:
            raise SystemExit("no token: give --token or PINCH_TOKEN")
        with Client(where.hostname, where.port or 80, token, EMBED_S) as client:
            yield client
        return
    environment = {**os.environ, "PYTHONPATH": str(PIPELINE)}
    command = [sys.executable, "-m", "pinch_models", "build", "--json", "all-MiniLM-L6-v2-int8"]
    built = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if built.returncode:
        raise SystemExit(f"the model cannot be built:\n{built.stderr}")
    model = json.loads(built.stdout.splitlines()[-1])["path"]
    with (
        tempfile.TemporaryDirectory() as scratch,
        LocalService(Path(scratch), PINCH_TIER="full", PINCH_MODEL_DIR=model) as local,
        local.client(EMBED_S) as client,
    ):
        yield client


def main() -> int:
    """Print the figures; return 1 where hybrid recall is below the bound, 0 where there are no conversations."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default=os.environ.get("PINCH_URL"), help="running service, http://HOST:PORT")
    parser.add_argument("--token", default=os.environ.get("PINCH_TOKEN"), help="its token (PINCH_TOKEN)")
    parser.add_argument("--modes", default=",".join(MODES), help="which to ask in, with commas between")
    parser.add_argument("--no-captions", action="store_true", help="leave out what shared images show")
    parser.add_argument("--json", action="store_true", help="print JSON only")
    options = parser.parse_args()
    modes = options.modes.split(",")
    if unknown := set(modes) - set(MODES):
        parser.error(f"unknown mode {min(unknown)!r}; the modes are {', '.join(MODES)}")
    try:
        found = conversations.load()
    except MissingDataError as missing:
        print(f"skipped: {missing}", file=sys.stderr)
        return 0
    run = secrets.token_hex(4)
    outcomes: list[Outcome] = []
    with service(options.url, options.token) as client:
        spaces = {one.name: f"locomo-{run}-{one.name}" for one in found}
        stored = {one.name: post(client, one, spaces[one.name], captions=not options.no_captions) for one in found}
        try:
            model = embed(client) if modes != ["keyword"] else "not asked"
            for one in found:
                outcomes += ask(client, one, spaces[one.name], stored[one.name], modes)
        finally:
            if options.url is not None:
                forget(client, stored.values())
    figures: dict[str, Any] = {"machine": machine(), "model": model, "questions": len(outcomes) // len(modes)}
    figures |= summary(outcomes, modes)
    print(json.dumps(figures, indent=2) if options.json else readable(figures, modes))
    return int("hybrid" in modes and figures["hybrid"]["recall@10"] < LEAST)


def forget(client: Client, stored: Iterable[dict[str, set[str]]]) -> None:
    """Take the turns out of a service that is not ours."""
    for of_one in stored:
        for identity in of_one:
            client.call("DELETE", f"/v1/memories/{quote(identity)}")


def readable(figures: dict[str, Any], modes: Sequence[str]) -> str:
    """Return the figures as a person reads them."""
    lines = [
        f"machine: {figures['machine']}",
        f"model: {figures['model']}; {figures['questions']} questions; recall@10 of evidence turns",
    ]
    for mode in modes:
        of_mode = figures[mode]
        parts = ", ".join(f"{name} {share:.3f}" for name, share in of_mode["conversations"].items())
        kinds = ", ".join(f"{name} {share:.3f}" for name, share in of_mode["categories"].items())
        times = of_mode["milliseconds"]
        lines += [
            f"{mode}: {of_mode['recall@10']:.4f} (with category {ADVERSARIAL}: {of_mode['over_all']:.4f})",
            f"  conversations: {parts}",
            f"  categories: {kinds}",
            f"  one recall: p50 {times['p50']} ms, p99 {times['p99']} ms",
        ]
    if "hybrid" in modes:
        lines.append(f"hybrid recall@10 {figures['hybrid']['recall@10']:.4f} (expected at least {LEAST})")
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
