"""`python -m tests.corpus`: build the corpus where it is not cached, and say where it is."""

from __future__ import annotations

import sys

from tests.corpus.packages import CorpusError
from tests.corpus.snapshot import build


def main() -> int:
    """Build; return the exit status."""
    try:
        built = build(lambda line: print(line, file=sys.stderr, flush=True))
    except CorpusError as error:
        print(f"corpus: {error}", file=sys.stderr)
        return 1
    print(built.folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
