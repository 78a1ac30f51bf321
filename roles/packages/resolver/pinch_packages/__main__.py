"""`python -m pinch_packages NAME…`: fetch packages for the board whose state is on standard input; print JSON."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from .board import BoardState
from .errors import PackagesError
from .fetch import fetch


def main() -> int:
    """Fetch what is asked for; return 0, or 1 with one sentence on standard error."""
    parser = argparse.ArgumentParser(prog="pinch_packages", description=__doc__)
    parser.add_argument("names", nargs="+", help="Debian packages")
    parser.add_argument(
        "--source", action="append", default=[], help="a source in the board's sources' place, one line"
    )
    parser.add_argument("--cache", type=Path, default=default_cache(), help="folder of fetched packages")
    parser.add_argument("--dry-run", action="store_true", help="fetch the lists alone and say what would be fetched")
    options = parser.parse_args()
    state = BoardState.unpack(json.load(sys.stdin))
    if options.source:
        state = state.with_sources(options.source)
    mirror = os.environ.get("PINCH_DEBIAN_MIRROR") or None
    try:
        fetched = fetch(state, options.names, options.cache, mirror=mirror, dry_run=options.dry_run)
    except PackagesError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(fetched._asdict()))
    return 0


def default_cache() -> Path:
    """Return the packages' folder in this project's cache."""
    root = os.environ.get("PINCH_CACHE")
    return (Path(root) if root else Path.home() / ".cache" / "pinch") / "packages"


if __name__ == "__main__":
    sys.exit(main())
