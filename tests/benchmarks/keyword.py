"""`python -m tests.benchmarks.keyword`: keyword recall against a bare FTS5 query, on this machine.

The store holds the 2,000 documents of the corpus; the service runs in the minimal tier. On a board,
`tests/budget/test_speed.py` runs the same comparison.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from pinch.tiers import load_tiers

from tests.benchmarks.machine import machine
from tests.corpus.snapshot import build
from tests.onboard.keyword import compare
from tests.running import LocalService

MOST = 2.0


def main() -> int:
    """Print the comparison; return 1 where it is worse than the bound."""
    corpus = build(semantic=False)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        store = folder / "state" / "pinch.db"
        store.parent.mkdir()
        shutil.copy(corpus.snapshot, store)
        cache = load_tiers().named("minimal").sqlite_cache_kb
        queries = json.loads(corpus.queries.read_text("utf-8"))
        with LocalService(folder, PINCH_TIER="minimal") as service:
            found = compare(f"127.0.0.1:{service.port}", service.token, store, cache, queries)
    print(f"machine: {machine()}")
    print(f"{found['queries']} queries over {corpus.documents} documents, {corpus.chunks} chunks, milliseconds")
    print(f"keyword recall over HTTP: {found['recall_ms']}")
    print(f"bare FTS5, same terms:    {found['bare_ms']}")
    print(f"ratio over all queries: {found['ratio']} (expected at most {MOST:g})")
    print(f"ratio of the medians: {found['ratio_of_medians']}")
    return int(found["ratio"] > MOST)


if __name__ == "__main__":
    raise SystemExit(main())
