"""Keyword recall against a bare FTS5 query of the same terms, turn by turn on one machine.

Runs on the board as well as on the controller; beside the standard library it needs the release's own
packages, for the same SQLite under both.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

BARE = "SELECT items_fts.rowid, text FROM items_fts WHERE items_fts MATCH ? ORDER BY rank LIMIT ?"
HITS = 6


def first_token(file: Path) -> str:
    """Return the first token of a token file."""
    lines = file.read_text("utf-8").splitlines()
    return next(line.split()[1] for line in lines if line.strip() and not line.startswith("#"))


def compare(address: str, token: str, store: Path, cache_kb: int, queries: list[str]) -> dict[str, Any]:
    """Ask each query both ways and return milliseconds.

    Args:
        address: host:port of a running service.
        token: for its door.
        store: the same service's SQLite file, opened beside it for reading.
        cache_kb: page cache of the bare connection, the same as the service's.
        queries: what to ask; each is asked once before it counts.
    """
    import apsw

    bare = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    bare.execute(f"PRAGMA cache_size = -{cache_kb}; PRAGMA mmap_size = 0")
    host, _, port = address.rpartition(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=120)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def ask(query: str) -> float:
        body = json.dumps({"query": query, "k": HITS, "mode": "keyword"})
        begin = time.perf_counter()
        connection.request("POST", "/v1/recall", body, headers)
        answer = connection.getresponse()
        said = json.loads(answer.read())
        if answer.status != 200 or said["degraded"]:
            raise SystemExit(f"recall of {query!r}: {answer.status} {said}")
        return (time.perf_counter() - begin) * 1000

    def look(query: str) -> float:
        match = " OR ".join(f'"{word}"' for word in terms(query))
        begin = time.perf_counter()
        bare.execute(BARE, (match, HITS)).fetchall()
        return (time.perf_counter() - begin) * 1000

    recalls, looks = [], []
    for query in queries:
        ask(query), look(query)
        recalls.append(ask(query))
        looks.append(look(query))
    return {
        "queries": len(queries),
        "recall_ms": _shares(recalls),
        "bare_ms": _shares(looks),
        "ratio": round(sum(recalls) / sum(looks), 3),
        "ratio_of_medians": round(statistics.median(recalls) / statistics.median(looks), 3),
    }


def terms(query: str) -> list[str]:
    """Return the terms that recall looks for in the index."""
    from pinch.memory.query import terms as of_recall

    return list(of_recall(query))


def _shares(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, len(ordered) * 99 // 100)], 2),
        "max": round(ordered[-1], 2),
    }


def main() -> None:
    """Compare and print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", required=True)
    parser.add_argument("--tokens", required=True, type=Path)
    parser.add_argument("--store", required=True, type=Path)
    parser.add_argument("--cache-kb", required=True, type=int)
    parser.add_argument("--queries", required=True, type=Path, help="JSON list of strings")
    parser.add_argument("--packages", required=True, help="folder of the release's packages")
    options = parser.parse_args()
    sys.path.insert(0, options.packages)
    queries = json.loads(options.queries.read_text("utf-8"))
    found = compare(options.address, first_token(options.tokens), options.store, options.cache_kb, queries)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
