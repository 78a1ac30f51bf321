"""`python -m tests.corpus`: build the corpus where it is not cached, and say where its two snapshots are."""

from __future__ import annotations

import sys

from tests.corpus.packages import CorpusError
from tests.corpus.snapshot import build


def main() -> int:
    """Build; return the exit status."""
    try:
        for semantic in (False, True):
            built = build(semantic=semantic, tell=lambda line: print(line, file=sys.stderr, flush=True))
            print(built.snapshot)
    except CorpusError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
